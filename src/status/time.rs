//! Formats times for the status.

use bson::DateTime;

/// A time in RFC 3339, cut off to whole seconds.
pub(crate) fn text(date: DateTime) -> String {
    let whole = DateTime::from_millis(date.timestamp_millis().div_euclid(1_000) * 1_000);
    whole.try_to_rfc3339_string().unwrap_or_default()
}
