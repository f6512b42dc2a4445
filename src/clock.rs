//! The only place that reads a clock. The projection and the plans never do (spec 00, guarantee 2):
//! they get times as arguments. Leases use the server's clock instead (spec 03).
#![expect(clippy::disallowed_methods, reason = "the one file that may: see clippy.toml")]

use std::time::Instant;

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
