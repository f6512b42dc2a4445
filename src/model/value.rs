//! Reading of loosely typed BSON values: nullish, empty, number, date, equality. The live data is dirty
//! (spec 01, spec 02), so no reading fails: a value of a wrong type counts as missing.

use std::cmp::Ordering;

use bson::{DateTime, RawArray, RawBsonRef, RawDocument};
use chrono::{NaiveDate, NaiveTime};

/// `None` for null and undefined (spec 02, "nullish").
#[must_use]
pub(crate) fn present(value: RawBsonRef<'_>) -> Option<RawBsonRef<'_>> {
    match value {
        RawBsonRef::Null | RawBsonRef::Undefined => None,
        other => Some(other),
    }
}

/// `None` for nullish and for `""` (spec 02, "empty").
#[must_use]
pub(crate) fn non_empty(value: Option<RawBsonRef<'_>>) -> Option<RawBsonRef<'_>> {
    value.filter(|value| value.as_str() != Some(""))
}

/// `None` for everything but a non-empty string.
#[must_use]
pub(crate) fn text(value: Option<RawBsonRef<'_>>) -> Option<&str> {
    value.and_then(RawBsonRef::as_str).filter(|text| !text.is_empty())
}

/// `None` for everything but an array.
#[must_use]
pub(crate) fn list(value: Option<RawBsonRef<'_>>) -> Option<&RawArray> {
    value.and_then(RawBsonRef::as_array)
}

/// `None` for everything but an embedded document.
#[must_use]
pub(crate) fn object(value: Option<RawBsonRef<'_>>) -> Option<&RawDocument> {
    value.and_then(RawBsonRef::as_document)
}

/// A field of a document; `None` when it is nullish or cannot be read.
#[must_use]
pub(crate) fn field<'a>(document: &'a RawDocument, key: &str) -> Option<RawBsonRef<'a>> {
    document.get(key).ok().flatten().and_then(present)
}

/// Reads an RFC 3339 time or a `YYYY-MM-DD` day (midnight UTC); other texts are no dates (spec 02).
#[must_use]
pub(crate) fn parse_date(text: &str) -> Option<DateTime> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(DateTime::from_millis(time.timestamp_millis()));
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    let is_ten_characters = text.len() == 10;
    is_ten_characters.then(|| DateTime::from_millis(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis()))
}

/// A date, or a text that [`parse_date`] reads.
#[must_use]
pub(crate) fn date(value: RawBsonRef<'_>) -> Option<DateTime> {
    value.as_datetime().or_else(|| value.as_str().and_then(parse_date))
}

/// The later of two optional dates; a value that is no date counts as missing.
#[must_use]
pub(crate) fn later_date(left: Option<RawBsonRef<'_>>, right: Option<RawBsonRef<'_>>) -> Option<DateTime> {
    let date = |value: Option<RawBsonRef<'_>>| value.and_then(RawBsonRef::as_datetime);
    date(left).max(date(right))
}

/// True for a number of any BSON type that equals zero.
#[must_use]
pub(crate) fn is_zero(value: RawBsonRef<'_>) -> bool {
    numeric_order(value, RawBsonRef::Int32(0)) == Some(Ordering::Equal)
}

/// The value as an int32, where it is a whole number in that range. The platform's validators want this type for some
/// fields, and the source has doubles and int64 there.
#[must_use]
pub(crate) fn as_int32(value: RawBsonRef<'_>) -> RawBsonRef<'_> {
    let whole = match value {
        RawBsonRef::Int64(number) => i32::try_from(number).ok(),
        #[expect(clippy::cast_possible_truncation, reason = "the result is compared with the double")]
        RawBsonRef::Double(number) => Some(number as i32).filter(|whole| f64::from(*whole).total_cmp(&number).is_eq()),
        _ => None,
    };
    whole.map_or(value, RawBsonRef::Int32)
}

/// Equality as spec 02 and the golden documents define it. Numbers are equal by value, because the source mixes int32,
/// int64 and double. Embedded documents have equal fields in the same order. Other values have the same type and bytes.
#[must_use]
pub(crate) fn same(left: RawBsonRef<'_>, right: RawBsonRef<'_>) -> bool {
    match (left, right) {
        (RawBsonRef::Document(left), RawBsonRef::Document(right)) => same_documents(left, right),
        (RawBsonRef::Array(left), RawBsonRef::Array(right)) => {
            left.as_bytes() == right.as_bytes() || same_elements(left, right)
        }
        _ => numeric_order(left, right).map_or_else(|| left == right, Ordering::is_eq),
    }
}

fn same_documents(left: &RawDocument, right: &RawDocument) -> bool {
    if left.as_bytes() == right.as_bytes() {
        return true;
    }
    let mut right = right.iter();
    for element in left {
        match (element, right.next()) {
            (Ok((left_key, left)), Some(Ok((right_key, right)))) if left_key == right_key && same(left, right) => {}
            _ => return false,
        }
    }
    right.next().is_none()
}

fn same_elements(left: &RawArray, right: &RawArray) -> bool {
    let mut right = right.into_iter();
    for element in left {
        match (element, right.next()) {
            (Ok(left), Some(Ok(right))) if same(left, right) => {}
            _ => return false,
        }
    }
    right.next().is_none()
}

/// Compares two numbers of the types int32, int64 and double; `None` if one value is no number.
fn numeric_order(left: RawBsonRef<'_>, right: RawBsonRef<'_>) -> Option<Ordering> {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (None, Some(right)) => double_with_integer(left.as_f64()?, right),
        (Some(left), None) => double_with_integer(right.as_f64()?, left).map(Ordering::reverse),
        // `total_cmp`, because NaN must equal NaN here: otherwise each projection would write it again.
        (None, None) => Some(left.as_f64()?.total_cmp(&right.as_f64()?)),
    }
}

fn integer(value: RawBsonRef<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

/// The exact order. A whole double is compared as an integer, because above 2^53 a double does not hold every integer.
fn double_with_integer(double: f64, integer: i64) -> Option<Ordering> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "checked: whole and inside the range of i64"
    )]
    let whole = (double.fract() == 0.0 && double.abs() < i64::MAX as f64).then_some(double as i64);
    match whole {
        Some(whole) => Some(whole.cmp(&integer)),
        #[expect(clippy::cast_precision_loss, reason = "only the order of clearly different numbers is needed here")]
        None => Some(double.total_cmp(&(integer as f64))),
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn whole_numbers_become_int32_and_others_stay() {
        for (value, expected) in [
            (RawBsonRef::Double(6.0), RawBsonRef::Int32(6)),
            (RawBsonRef::Int64(-6), RawBsonRef::Int32(-6)),
            (RawBsonRef::Double(6.5), RawBsonRef::Double(6.5)),
            (RawBsonRef::Double(3e9), RawBsonRef::Double(3e9)),
            (RawBsonRef::Double(-0.0), RawBsonRef::Double(-0.0)),
            (RawBsonRef::Double(f64::INFINITY), RawBsonRef::Double(f64::INFINITY)),
            (RawBsonRef::Int64(1 << 40), RawBsonRef::Int64(1 << 40)),
            (RawBsonRef::String("6"), RawBsonRef::String("6")),
        ] {
            assert_eq!(as_int32(value), expected);
        }
    }

    #[test]
    fn a_day_is_midnight_utc_and_other_texts_are_no_dates() {
        assert_eq!(parse_date("2024-09-01").map(DateTime::timestamp_millis), Some(1_725_148_800_000));
        assert_eq!(parse_date("2024-09-01T00:00:00.500Z").map(DateTime::timestamp_millis), Some(1_725_148_800_500));
        for text in ["", "2024-9-1", "01/09/2024", "2024-13-01", "hier"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_equal_by_value_and_other_types_are_not_mixed() {
        let two_to_the_53 = 9_007_199_254_740_992_i64;
        let pairs = [
            (RawBsonRef::Int32(3), RawBsonRef::Double(3.0), true),
            (RawBsonRef::Int64(3), RawBsonRef::Int32(3), true),
            (RawBsonRef::Double(3.5), RawBsonRef::Int32(3), false),
            (RawBsonRef::Double(f64::NAN), RawBsonRef::Double(f64::NAN), true),
            (RawBsonRef::Double(9_007_199_254_740_992.0), RawBsonRef::Int64(two_to_the_53 + 1), false),
            (RawBsonRef::String("3"), RawBsonRef::Int32(3), false),
            (RawBsonRef::Null, RawBsonRef::Int32(0), false),
            (RawBsonRef::Boolean(true), RawBsonRef::Boolean(true), true),
        ];
        for (left, right, expected) in pairs {
            assert_eq!(same(left, right), expected, "{left:?} {right:?}");
            assert_eq!(same(right, left), expected, "{right:?} {left:?}");
        }
    }

    #[test]
    fn documents_and_lists_are_compared_inside() {
        let left = rawdoc! { "a": [1, { "b": 2.0 }], "c": null };
        let right = rawdoc! { "a": [1.0, { "b": 2_i64 }], "c": null };
        let shorter = rawdoc! { "a": [1.0, { "b": 2_i64 }] };
        assert!(same(RawBsonRef::Document(&left), RawBsonRef::Document(&right)));
        assert!(!same(RawBsonRef::Document(&left), RawBsonRef::Document(&shorter)));
        assert!(!same(RawBsonRef::Document(&shorter), RawBsonRef::Document(&left)));
    }
}
