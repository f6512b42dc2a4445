//! How a time is written on the command line.

use bson::DateTime;

use crate::model::value;

/// RFC 3339, or a day: its beginning in UTC.
///
/// # Errors
/// What is expected, when it is neither.
pub(super) fn parse(text: &str) -> Result<DateTime, String> {
    value::parse_date(text).ok_or_else(|| "expected a time such as 2026-03-01T09:20:00+01:00, or a day".to_owned())
}
