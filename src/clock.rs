//! The only file that reads a clock of this machine. Projections and plans read none (spec 00, guarantee 2): they get
//! times as arguments. Decisions by a stored time go by the server's clock, because a stored time must not depend on
//! the machine that stored it.
#![expect(clippy::disallowed_methods, reason = "the one file that may: see clippy.toml")]

use std::path::PathBuf;
use std::time::Instant;

use bson::DateTime;

/// Reads the wall clock of this machine, to the millisecond, for times that are only shown.
#[must_use]
pub fn now() -> DateTime {
    DateTime::from_millis(chrono::Utc::now().timestamp_millis())
}

/// Reads the monotonic clock, for durations.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// Returns the file with the time that a test sets for time-based jobs; `None` in release builds.
#[must_use]
pub fn manual() -> Option<PathBuf> {
    #[cfg(debug_assertions)]
    let file = std::env::var_os("STREAM_PROCESSOR_CLOCK").map(PathBuf::from);
    #[cfg(not(debug_assertions))]
    let file = None;
    file
}
