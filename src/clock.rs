//! The only place that reads a clock. The projection and the plans never do (spec 00, guarantee 2):
//! they get times as arguments. Leases use the server's clock instead (spec 03).
#![expect(clippy::disallowed_methods, reason = "the one file that may: see clippy.toml")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bson::DateTime;

/// The wall clock, in milliseconds since 1970, for `updated_at` fields and reports.
#[must_use]
pub fn now() -> DateTime {
    DateTime::from_millis(chrono::Utc::now().timestamp_millis())
}

/// The monotonic clock, for durations.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// The clock by which the ticker goes.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The system's.
    System,
    /// One that a test sets: a file with a time, RFC 3339. Exists only with the feature `failpoints`.
    Manual(PathBuf),
}

impl Clock {
    /// The clock of this process.
    #[must_use]
    pub fn of_process() -> Self {
        #[cfg(feature = "failpoints")]
        if let Some(file) = std::env::var_os("STREAM_PROCESSOR_CLOCK") {
            return Self::Manual(file.into());
        }
        Self::System
    }

    /// Its time.
    #[must_use]
    pub fn now(&self) -> DateTime {
        match self {
            Self::System => now(),
            Self::Manual(file) => {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                DateTime::parse_rfc3339_str(text.trim()).unwrap_or_else(|_| now())
            }
        }
    }

    /// How long to rest before looking at it again: its time may jump, forwards and backwards.
    #[must_use]
    pub fn rest(&self) -> Duration {
        match self {
            Self::System => Duration::from_millis(500),
            Self::Manual(_) => Duration::from_millis(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_says_what_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("now");
        let clock = Clock::Manual(file.clone());
        for time in ["2026-03-29T01:00:00Z", "2026-03-28T01:00:00.5Z"] {
            std::fs::write(&file, time).unwrap();
            assert_eq!(clock.now(), DateTime::parse_rfc3339_str(time).unwrap());
        }
    }
}
