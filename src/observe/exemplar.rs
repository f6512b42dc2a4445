//! Histograms that remember for each bucket where its last value came from: the exemplars of OpenMetrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bson::DateTime;
use prometheus::Histogram;

use crate::clock;

/// What leads from a value to the work that took so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExemplarOrigin {
    /// The id of a trace, in 32 hex digits.
    Trace(String),
    /// The cluster time of the last event of a batch, where there is no trace. `replay --from` takes it.
    Position(DateTime),
}

impl ExemplarOrigin {
    /// The name and the value of the label.
    pub(super) fn label(&self) -> (&'static str, String) {
        match self {
            Self::Trace(id) => ("trace_id", id.clone()),
            Self::Position(time) => ("position", time.try_to_rfc3339_string().unwrap_or_default()),
        }
    }
}

/// The last value of a bucket with an origin.
#[derive(Debug, Clone)]
pub(super) struct Exemplar {
    pub(super) origin: ExemplarOrigin,
    pub(super) value: f64,
    /// When it was measured, in seconds since 1970.
    pub(super) at: f64,
}

/// Exemplars by the place of their bucket.
pub(super) type LastExemplars = BTreeMap<usize, Exemplar>;

/// A histogram without labels, and the last exemplar of each bucket.
#[derive(Debug, Clone)]
pub struct HistogramWithExemplars {
    name: String,
    histogram: Histogram,
    /// The upper bounds of the buckets but the last.
    bounds: &'static [f64],
    last: Arc<Mutex<LastExemplars>>,
}

impl HistogramWithExemplars {
    /// `name` is the whole name of the metric, and `bounds` are those of the histogram.
    pub(super) fn new(name: String, histogram: Histogram, bounds: &'static [f64]) -> Self {
        Self { name, histogram, bounds, last: Arc::default() }
    }

    /// Counts a value. With an origin, it becomes the exemplar of its bucket.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970")]
    pub(crate) fn observe(&self, value: f64, origin: Option<ExemplarOrigin>) {
        self.histogram.observe(value);
        if let Some(origin) = origin {
            let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
            let at = clock::now().timestamp_millis() as f64 / 1_000.0;
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.insert(bucket, Exemplar { origin, value, at });
        }
    }

    /// The name of the metric, and the exemplars as they are now.
    pub(super) fn exemplars(&self) -> (&str, LastExemplars) {
        (&self.name, self.last.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    #[cfg(test)]
    pub(super) fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        prometheus::core::Collector::collect(&self.histogram)
    }
}
