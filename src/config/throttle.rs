//! The keys of the throttle: the section and its typed settings.

use std::time::Duration;

use super::fault::ConfigFault;
use super::key::{ConfigKey, Fallback, HOUR, SECOND, Section, ValueKind, duration};
use super::values::Values;

/// The settings of `[throttle]`.
#[derive(Debug, Clone)]
pub struct ThrottleSettings {
    /// The most offers that are written in a second, on average; 0 without a ceiling.
    pub max_writes_per_second: u32,
    /// The replication lag from which work beside the stream is slowed.
    pub max_replication_lag: Duration,
    /// The latency of a small write from which work beside the stream is slowed.
    pub max_write_latency: Duration,
}

impl ThrottleSettings {
    pub(super) fn read(values: &Values<'_>) -> Result<Self, ConfigFault> {
        let ceiling: usize = values.count("throttle.max_writes_per_second")?;
        Ok(Self {
            max_writes_per_second: u32::try_from(ceiling).unwrap_or(u32::MAX),
            max_replication_lag: values.duration("throttle.max_replication_lag")?,
            max_write_latency: values.duration("throttle.max_write_latency")?,
        })
    }
}

pub(super) fn section() -> Section {
    Section::new(
        "throttle",
        "Care for a busy server: resyncs, backfills and replays are slowed; the stream itself only at four times these limits.",
        vec![
            ConfigKey::new(
                "throttle.max_writes_per_second",
                ValueKind::Count { min: 0, max: 1_000_000 },
                Fallback::Value("0"),
                "The most offers written per second; the stream's own writes count and are not held up. 0: no ceiling. The \
                 command `throttle` changes it while the service runs.",
            ),
            duration(
                "throttle.max_replication_lag",
                (SECOND, HOUR),
                "30s",
                "Slower while a majority of the members is further behind the primary.",
            ),
            duration(
                "throttle.max_write_latency",
                (Duration::from_millis(10), HOUR),
                "5s",
                "Slower while a small write takes longer, until a majority has it.",
            ),
        ],
    )
}
