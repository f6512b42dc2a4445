//! The keys of the watch for foreign writes: the section and its typed settings.

use super::fault::ConfigFault;
use super::key::{ConfigKey, Fallback, Section, ValueKind};
use super::values::Values;

/// The settings of `[foreign_writes]`.
#[derive(Debug, Clone)]
pub struct ForeignWritesSettings {
    /// True when the leader counts the writes of others to our offers.
    pub enabled: bool,
    /// The number of foreign writes from which a minute belongs to a burst.
    pub burst: usize,
}

impl ForeignWritesSettings {
    pub(super) fn read(values: &Values<'_>) -> Result<Self, ConfigFault> {
        Ok(Self { enabled: values.boolean("foreign_writes.enabled")?, burst: values.count("foreign_writes.burst")? })
    }
}

pub(super) fn section() -> Section {
    Section::new(
        "foreign_writes",
        "The watch for writes of others to our offers: counted by minute and by field, in every phase.",
        vec![
            ConfigKey::new(
                "foreign_writes.enabled",
                ValueKind::Boolean,
                Fallback::Value("true"),
                "Off: the leader does not read the events of `jobs_partners` for it, and nothing is counted.",
            ),
            ConfigKey::new(
                "foreign_writes.burst",
                ValueKind::Count { min: 1, max: 1_000_000 },
                Fallback::Value("20"),
                "So many foreign writes in a minute are a burst, which is one event of the timeline. Applications write \
                 single offers all day.",
            ),
        ],
    )
}
