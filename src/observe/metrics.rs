//! Every metric, each name once (spec 06, "Metrics"). A registry of its own, no global one.

use prometheus::process_collector::ProcessCollector;
use std::collections::BTreeMap;

use prometheus::core::Collector as _;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::labels::{JOB_STATUSES, OFFER_STATUSES, OTHER};
use crate::config::Phase;
use crate::version;

/// Seconds from a millisecond to a minute.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];
/// Seconds from a hundredth to an hour.
const JOB_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];
/// Events in a batch.
const SIZES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0];

/// A label and the values that it has from the start: nothing tells a count of nothing from a name that is not there.
type KnownLabel = (&'static str, &'static [&'static str]);
const WINNERS: KnownLabel = ("winner", &["offer", "projection"]);
const COMPARED: KnownLabel = ("result", &["equal", "differs", "missing"]);

/// The service's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Events read, by collection and operation.
    pub(super) events: IntCounterVec,
    /// Touches by what asked for them.
    pub(super) touches: IntCounterVec,
    /// Jobs projected into offers.
    pub jobs_projected: IntCounter,
    /// Jobs not projected, by reason.
    pub(super) jobs_skipped: IntCounterVec,
    /// Offers by what writing them did.
    pub(super) offers_written: IntCounterVec,
    /// Offers of `dual-write` that differed from their projection, by who was newer.
    pub(super) conflicts: IntCounterVec,
    /// Comparisons in `shadow`, by result.
    pub(super) shadow_offers: IntCounterVec,
    /// One for the phase of the database.
    pub(super) phase: IntGaugeVec,
    /// Offers anonymised.
    pub offers_anonymized: IntCounter,
    /// Users found deactivated after a change of their status.
    pub users_deactivated: IntCounter,
    /// Events per batch.
    pub batch_events: Histogram,
    /// From a batch's planning to its checkpoint.
    pub batch_duration: Histogram,
    /// Time per stage.
    pub(super) stage_duration: HistogramVec,
    /// Lag, by the server's clocks.
    pub lag: Gauge,
    /// From the event's wall time to its effect.
    pub end_to_end: Histogram,
    /// Age of the checkpoint.
    pub checkpoint_age: Gauge,
    /// Cluster time of the checkpoint.
    pub checkpoint_timestamp: Gauge,
    /// How far back the oplog reaches.
    pub oplog_window: Gauge,
    /// How long until the checkpoint falls off the oplog.
    pub token_headroom: Gauge,
    /// Jobs in `recruiters`, by status.
    pub(super) source_jobs: GaugeVec,
    /// Our offers, by status.
    pub(super) target_offers: GaugeVec,
    /// One when `/readyz` says yes.
    pub ready: IntGauge,
    /// One while the stream is read far behind the server's time.
    pub catching_up: IntGauge,
    /// Watched collections that are gone.
    pub sources_dropped: IntGauge,
    /// Resyncs begun.
    pub resyncs: IntCounter,
    /// Times the stream was opened again, by cause.
    pub(super) stream_restarts: IntCounterVec,
    /// Failed writes, by code.
    pub(super) write_errors: IntCounterVec,
    /// Attempts after a failure.
    pub retries: IntCounter,
    /// Dead letters that stand, by reason.
    pub(super) dead_letters: IntGaugeVec,
    /// Offers that are known to differ, by kind.
    pub(super) divergent_offers: IntGaugeVec,
    /// When the last full verification ended that found nothing.
    pub verify_last_success: Gauge,
    /// Recruiters compared by the continuous verification.
    pub verify_sampled: IntCounter,
    /// The time-based jobs.
    pub jobs: JobMetrics,
    /// One when this instance leads.
    pub leader: IntGauge,
    /// The term of the lease as this instance knows it.
    pub lease_term: IntGauge,
}

/// Metrics of the time-based jobs.
#[derive(Debug, Clone)]
pub struct JobMetrics {
    /// Runs, by how they ended.
    pub(super) runs: IntCounterVec,
    /// When a job was last done, in seconds.
    pub(super) last_success: GaugeVec,
    /// How long the runs took.
    pub(super) duration: HistogramVec,
    /// Documents changed.
    pub(super) changed: IntCounterVec,
    /// E-mail by message and by what became of it.
    pub(super) emails: IntCounterVec,
}

impl JobMetrics {
    fn new(make: &Make<'_>) -> Result<Self, prometheus::Error> {
        let emails = make.counters("emails_total", "E-mail by what became of it", &["template", "outcome"])?;
        let (success, help) = ("job_last_success_timestamp_seconds", "When a time-based job was last done");
        Ok(Self {
            runs: make.counters("job_runs_total", "Runs of time-based jobs", &["job", "outcome"])?,
            last_success: make.floats(success, help, &["job"])?,
            duration: make.histograms("job_duration_seconds", "How long a run took", &["job"], &JOB_SECONDS)?,
            changed: make.counters("job_changed_total", "Documents changed by time-based jobs", &["job"])?,
            emails,
        })
    }
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two metrics have one name: a fault of this file that the first start shows.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Make(&registry);
        let build = make.gauges("build_info", "1, with what it was built from as labels", &["version", "commit"])?;
        build.with_label_values(&[version::VERSION, version::COMMIT]).set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let jobs: Vec<&str> = JOB_STATUSES.into_iter().map(|(status, _)| status).chain([OTHER]).collect();
        let offers: Vec<&str> = OFFER_STATUSES.into_iter().chain([OTHER]).collect();
        Ok(Self {
            events: make.counters("events_total", "Events of the change stream", &["collection", "operation"])?,
            touches: make.counters("touches_total", "Recruiters to project again", &["origin"])?,
            jobs_projected: make.counter("jobs_projected_total", "Jobs projected into offers")?,
            jobs_skipped: make.counters("jobs_skipped_total", "Jobs not projected", &["reason"])?,
            offers_written: make.counters("offers_written_total", "Offers by what was written", &["result"])?,
            conflicts: make.counters_of("conflicts_total", "Offers that differed in dual-write", WINNERS)?,
            shadow_offers: make.counters_of("shadow_offers_total", "Offers compared in shadow", COMPARED)?,
            phase: make.gauges("phase", "1 for the phase of the database", &["phase"])?,
            offers_anonymized: make.counter("offers_anonymized_total", "Offers that lost a contact for good")?,
            users_deactivated: make.counter("users_deactivated_total", "Users that were deactivated")?,
            batch_events: make.histogram("batch_events", "Events per batch", &SIZES)?,
            batch_duration: make.histogram("batch_duration_seconds", "From planning to checkpoint", &SECONDS)?,
            stage_duration: make.histograms("stage_duration_seconds", "Time per stage", &["stage"], &SECONDS)?,
            lag: make.gauge("lag_seconds", "Server time minus the cluster time of the last applied position")?,
            end_to_end: make.histogram("end_to_end_seconds", "From an event's wall time to its effect", &SECONDS)?,
            checkpoint_age: make.gauge("checkpoint_age_seconds", "Time since the checkpoint was saved")?,
            checkpoint_timestamp: make.gauge("checkpoint_timestamp_seconds", "Cluster time of the checkpoint")?,
            oplog_window: make.gauge("oplog_window_seconds", "How far back the oplog reaches")?,
            token_headroom: make.gauge("token_headroom_seconds", "Until the checkpoint falls off the oplog")?,
            source_jobs: make.unknown("source_jobs", "Jobs in recruiters", ("status", &jobs))?,
            target_offers: make.unknown("target_offers", "Our offers in jobs_partners", ("status", &offers))?,
            ready: make.integer_gauge("ready", "1 when this instance does what it should")?,
            catching_up: make
                .integer_gauge("catching_up", "1 while the stream is read far behind the server's time")?,
            sources_dropped: make.integer_gauge("sources_dropped", "Watched collections that are gone")?,
            resyncs: make.counter("resyncs_total", "Resyncs begun")?,
            stream_restarts: make.counters("stream_restarts_total", "Times the stream was opened again", &["cause"])?,
            write_errors: make.counters("write_errors_total", "Failed writes", &["code"])?,
            retries: make.counter("retries_total", "Attempts after a failure")?,
            dead_letters: make.gauges("dead_letters", "Dead letters that stand", &["reason"])?,
            divergent_offers: make.gauges("divergent_offers", "Offers that are known to differ", &["kind"])?,
            verify_last_success: make
                .unknown_gauge("verify_last_success_timestamp_seconds", "Last time all was right")?,
            verify_sampled: make.counter("verify_sampled_recruiters_total", "Recruiters compared continuously")?,
            jobs: JobMetrics::new(&make)?,
            leader: make.integer_gauge("leader", "1 when this instance leads")?,
            lease_term: make.integer_gauge("lease_term", "Term of the lease")?,
            registry,
        })
    }

    /// Shows the phase.
    pub fn set_phase(&self, phase: Phase) {
        for one in Phase::ALL {
            self.phase.with_label_values(&[one.word()]).set(i64::from(one == phase));
        }
    }

    /// Events read since the process began, by collection; that of events of the whole database is empty.
    #[must_use]
    pub fn events_by_collection(&self) -> BTreeMap<String, u64> {
        let mut read = BTreeMap::new();
        for family in self.events.collect() {
            for counter in family.get_metric() {
                let collection = counter.get_label().iter().find(|label| label.name() == "collection");
                let collection = collection.map(|label| label.value().to_owned()).unwrap_or_default();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                let count = counter.get_counter().get_value() as u64;
                *read.entry(collection).or_default() += count;
            }
        }
        read
    }

    /// Events read since the process began.
    #[must_use]
    pub fn events_read(&self) -> u64 {
        self.events_by_collection().values().sum()
    }

    /// Offers created and changed since the process began.
    #[must_use]
    pub fn offers_changed(&self) -> u64 {
        ["created", "changed"].iter().map(|result| self.offers_written.with_label_values(&[*result]).get()).sum()
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// Makes and registers metrics under the service's prefix.
struct Make<'a>(&'a Registry);

impl Make<'_> {
    fn options(name: &str, help: &str) -> Opts {
        Opts::new(format!("stream_processor_{name}"), help)
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(Self::options(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Self::options(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.register(Gauge::with_opts(Self::options(name, help))?)
    }

    fn integer_gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(Self::options(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Self::options(name, help), labels)?)
    }

    fn counters_of(
        &self,
        name: &str,
        help: &str,
        (label, values): KnownLabel,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = self.counters(name, help, &[label])?;
        for value in values {
            counters.with_label_values(&[*value]);
        }
        Ok(counters)
    }

    /// Not 0 but unknown, until somebody knows.
    fn unknown_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let gauge = self.gauge(name, help)?;
        gauge.set(f64::NAN);
        Ok(gauge)
    }

    /// As [`Self::unknown_gauge`].
    fn unknown(&self, name: &str, help: &str, (label, values): (&str, &[&str])) -> Result<GaugeVec, prometheus::Error> {
        let gauges = self.register(GaugeVec::new(Self::options(name, help), &[label])?)?;
        for value in values {
            gauges.with_label_values(&[*value]).set(f64::NAN);
        }
        Ok(gauges)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::from(Self::options(name, help)).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options)?)
    }

    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(Self::options(name, help), labels)?)
    }

    fn histograms(
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
