//! The only place that reads a clock. The projection and the plans never do (spec 00, guarantee 2):
//! they get times as arguments. What decides something goes by the server's clock: a stored time must not
//! depend on the machine that stored it.
#![expect(clippy::disallowed_methods, reason = "the one file that may: see clippy.toml")]

use std::path::PathBuf;
use std::time::Instant;

use bson::DateTime;

/// The wall clock of this machine, in milliseconds since 1970, for what is only shown.
#[must_use]
pub fn now() -> DateTime {
    DateTime::from_millis(chrono::Utc::now().timestamp_millis())
}

/// The monotonic clock, for durations.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

/// The file with the time by which the time-based jobs of a test go; always `None` without the feature `failpoints`.
#[must_use]
pub fn manual() -> Option<PathBuf> {
    #[cfg(feature = "failpoints")]
    let file = std::env::var_os("STREAM_PROCESSOR_CLOCK").map(PathBuf::from);
    #[cfg(not(feature = "failpoints"))]
    let file = None;
    file
}
