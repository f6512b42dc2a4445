//! Metrics of what others write: into `recruiters` after `retired`, and into our offers.

use prometheus::{Gauge, IntCounter, IntCounterVec};

use super::labels::OTHER;
use super::registration::{KnownLabel, Make};

const WRITES: KnownLabel<'_> = KnownLabel { name: "operation", values: &["insert", "update", "replace", "delete"] };

/// Metrics of writes to `recruiters` after the step to `retired`.
#[derive(Debug, Clone)]
pub struct LateWriteMetrics {
    /// The writes that this instance saw, by operation.
    pub(super) writes: IntCounterVec,
    /// The time of the last write, in seconds since 1970; 0 when there was none, NaN while unknown.
    pub last: Gauge,
}

impl LateWriteMetrics {
    pub(super) fn new(make: &Make<'_>) -> Result<Self, prometheus::Error> {
        let (last, help) = ("late_source_write_timestamp_seconds", "Last write to recruiters after retired");
        Ok(Self {
            writes: make.counters_of("late_source_writes_total", "Writes to recruiters after retired", WRITES)?,
            last: make.unknown_gauge(last, help)?,
        })
    }
}

/// Metrics of the writes of others to our offers.
#[derive(Debug, Clone)]
pub(super) struct ForeignWriteMetrics {
    /// The writes that this instance saw, by operation.
    pub(super) writes: IntCounterVec,
    /// The times that such a write changed a field, by field.
    pub(super) fields: IntCounterVec,
    /// The seconds for which the watch paused.
    pub(super) unwatched_seconds: IntCounter,
}

impl ForeignWriteMetrics {
    pub(super) fn new(make: &Make<'_>) -> Result<Self, prometheus::Error> {
        let (fields, help) = ("foreign_write_fields_total", "Fields of our offers that others changed");
        Ok(Self {
            writes: make.counters_of("foreign_writes_total", "Writes of others to our offers", WRITES)?,
            fields: make.counters_of(fields, help, KnownLabel { name: "field", values: &[OTHER] })?,
            unwatched_seconds: make.counter(
                "foreign_writes_unwatched_seconds_total",
                "Seconds for which nobody watched for writes of others, because the leader wrote many offers",
            )?,
        })
    }
}
