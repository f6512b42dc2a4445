//! Writes numbers, durations and times of the page for people. Pure.

use chrono::DateTime;
use chrono_tz::Tz;

/// A short duration, such as `12 ms`.
pub(super) fn milliseconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{:.0} ms", seconds * 1_000.0) } else { duration(seconds) }
}

/// A duration for people, such as `0.4 s`, `42 s`, `3 min 5 s`, `2 h 10 min` or `3 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut off at 0, and a whole number")]
    let whole = seconds.max(0.0).round() as u64;
    let parts = |large: u64, name: &str, small: u64, unit: &str| match small {
        0 => format!("{large} {name}"),
        small => format!("{large} {name} {small} {unit}"),
    };
    match whole {
        0..10 => format!("{} s", number(&seconds)),
        10..60 => format!("{whole} s"),
        60..3_600 => parts(whole / 60, "min", whole % 60, "s"),
        3_600..86_400 => parts(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => parts(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// Whole seconds, as [`duration`].
#[expect(clippy::cast_precision_loss, reason = "a duration in seconds")]
pub(super) fn whole(seconds: &u64) -> String {
    duration(*seconds as f64)
}

/// A number for people. A fraction below 100 gets one decimal; all other numbers are rounded to whole numbers.
pub(super) fn number(number: &f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate: neither negative nor huge")]
    let whole = number.max(0.0).round() as u64;
    if *number >= 100.0 || number.fract() == 0.0 { grouped(whole) } else { format!("{number:.1}") }
}

/// A whole number with separators, such as `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time for people, such as `2026-11-25 15:03:22 CET`. A text that is no time stays as it is.
pub(super) fn moment(rfc3339: &str, zone: Tz) -> String {
    DateTime::parse_from_rfc3339(rfc3339).map_or_else(
        |_| rfc3339.to_owned(),
        |time| time.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.4, 12.5, 100.4].map(|value| number(&value)), ["0", "0.4", "12.5", "100"]);
        let durations = [0.0, 0.4, 42.0, 60.0, 185.0, 7_800.0, 90_000.0, 270_000.0].map(duration);
        assert_eq!(durations, ["0 s", "0.4 s", "42 s", "1 min", "3 min 5 s", "2 h 10 min", "1 d 1 h", "3 d 3 h"]);
        assert_eq!(moment("2026-11-25T14:03:22Z", Tz::Europe__Paris), "2026-11-25 15:03:22 CET");
        assert_eq!(moment("2026-11-25T14:03:22Z", Tz::UTC), "2026-11-25 14:03:22 UTC");
    }
}
