//! Parses the times of the command line.

use bson::DateTime;

use crate::model::value;

/// Parses a time in RFC 3339, or a day, which stands for its beginning in UTC.
///
/// # Errors
/// A text that describes the expected form.
pub(super) fn parse(text: &str) -> Result<DateTime, String> {
    value::parse_date(text).ok_or_else(|| "expected a time such as 2026-03-01T09:20:00+01:00, or a day".to_owned())
}
