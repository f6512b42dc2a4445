//! Makes and registers metrics, so that every metric has the prefix of the service and is in the registry.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::exemplar::HistogramWithExemplars;

/// A label with all its values. Each value has a counter at 0 from the start, because a missing counter could also mean
/// a wrong name.
pub(super) struct KnownLabel<'a> {
    pub(super) name: &'static str,
    pub(super) values: &'a [&'static str],
}

/// Makes and registers metrics with the prefix `stream_processor_`.
pub(super) struct Make<'a>(pub(super) &'a Registry);

impl Make<'_> {
    fn options(name: &str, help: &str) -> Opts {
        Opts::new(format!("stream_processor_{name}"), help)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(Self::options(name, help))?)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Self::options(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.register(Gauge::with_opts(Self::options(name, help))?)
    }

    pub(super) fn integer_gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(Self::options(name, help))?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Self::options(name, help), labels)?)
    }

    pub(super) fn counters_of(
        &self,
        name: &str,
        help: &str,
        label: KnownLabel<'_>,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = self.counters(name, help, &[label.name])?;
        for value in label.values {
            counters.with_label_values(&[*value]);
        }
        Ok(counters)
    }

    /// A gauge that is NaN until it is set, because an unknown value is not 0.
    pub(super) fn unknown_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let gauge = self.gauge(name, help)?;
        gauge.set(f64::NAN);
        Ok(gauge)
    }

    /// Gauges that are NaN until they are set, one for each value of the label.
    pub(super) fn unknown(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        let gauges = self.register(GaugeVec::new(Self::options(name, help), &[label])?)?;
        for value in values {
            gauges.with_label_values(&[*value]).set(f64::NAN);
        }
        Ok(gauges)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::from(Self::options(name, help)).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options)?)
    }

    /// A histogram that keeps exemplars.
    pub(super) fn exemplified(
        &self,
        name: &str,
        help: &str,
        buckets: &'static [f64],
    ) -> Result<HistogramWithExemplars, prometheus::Error> {
        Ok(HistogramWithExemplars::new(
            format!("stream_processor_{name}"),
            self.histogram(name, help, buckets)?,
            buckets,
        ))
    }

    pub(super) fn floats(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(Self::options(name, help), labels)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::from(Self::options(name, help)).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, labels)?)
    }
}
