//! Times as the status shows them.

use bson::DateTime;

/// RFC 3339, to the second.
pub(crate) fn text(date: DateTime) -> String {
    let whole = DateTime::from_millis(date.timestamp_millis().div_euclid(1_000) * 1_000);
    whole.try_to_rfc3339_string().unwrap_or_default()
}
