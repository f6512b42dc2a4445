//! Writes times for people: in a time zone, and in UTC behind. Pure. The first word is RFC 3339, so that it can be given to
//! a command again.

use bson::{DateTime, Timestamp};
use chrono::{SecondsFormat, TimeZone as _, Utc};
use chrono_tz::Tz;

/// The time in `zone`, and in UTC behind where this is another text: `2026-11-29T16:04:05+01:00 (15:04:05Z)`. The day in
/// UTC is told where it is another day.
#[must_use]
pub(crate) fn shown(time: DateTime, zone: Tz) -> String {
    let milliseconds = time.timestamp_millis();
    let (Some(there), Some(utc)) =
        (zone.timestamp_millis_opt(milliseconds).single(), Utc.timestamp_millis_opt(milliseconds).single())
    else {
        return time.to_string();
    };
    let first = there.to_rfc3339_opts(SecondsFormat::Secs, true);
    if zone == Tz::UTC {
        return first;
    }
    let form = if there.date_naive() == utc.date_naive() { "%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    format!("{first} ({})", utc.format(form))
}

/// The same for a position in the stream.
#[must_use]
pub(crate) fn shown_position(time: Timestamp, zone: Tz) -> String {
    shown(DateTime::from_millis(i64::from(time.time) * 1_000), zone)
}

/// The same for a time that is already a text in RFC 3339. Another text stays as it is.
#[must_use]
pub(crate) fn shown_text(text: &str, zone: Tz) -> String {
    DateTime::parse_rfc3339_str(text).map_or_else(|_| text.to_owned(), |time| shown(time, zone))
}

/// The same for each time in UTC that stands as a word in sentences. A time that [`shown`] wrote stays as it is: it is in UTC
/// behind the same time in the zone.
#[must_use]
pub(crate) fn shown_times(text: &str, zone: Tz) -> String {
    // The time in the zone that is the word before.
    let mut there = None;
    let word = |word: &str| {
        let time = word.trim_matches(|sign: char| !sign.is_ascii_alphanumeric());
        let (read, is_utc) = (DateTime::parse_rfc3339_str(time).ok(), time.ends_with('Z'));
        let before = std::mem::replace(&mut there, read.filter(|_| !is_utc));
        let is_time = is_utc && time.contains('T') && (read.is_none() || read != before);
        if is_time { word.replacen(time, &shown_text(time, zone), 1) } else { word.to_owned() }
    };
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_the_zone_and_in_utc_with_its_day_where_that_differs() {
        for (time, zone, expected) in [
            ("2026-11-29T15:04:05.678Z", Tz::Europe__Paris, "2026-11-29T16:04:05+01:00 (15:04:05Z)"),
            ("2026-07-01T22:30:00Z", Tz::Europe__Paris, "2026-07-02T00:30:00+02:00 (2026-07-01T22:30:00Z)"),
            ("2026-11-29T15:04:05Z", Tz::UTC, "2026-11-29T15:04:05Z"),
            ("never", Tz::Europe__Paris, "never"),
        ] {
            assert_eq!(shown_text(time, zone), expected);
        }
    }

    #[test]
    fn times_in_sentences_are_shown_in_the_zone_too_and_once() {
        let said = "ended 2026-11-29T15:04:05Z, later;\n  Z (2026-11-29T15:04:05Z)";
        let there = shown_times(said, Tz::Europe__Paris);
        let time = "2026-11-29T16:04:05+01:00 (15:04:05Z)";
        assert_eq!(there, format!("ended {time}, later;\n  Z ({time})"));
        assert_eq!(shown_times(&there, Tz::Europe__Paris), there);
        let late = shown_times("at 2098-12-31T23:00:00Z", Tz::Europe__Paris);
        assert_eq!(late, "at 2099-01-01T00:00:00+01:00 (2098-12-31T23:00:00Z)");
        assert_eq!(shown_times(&late, Tz::Europe__Paris), late, "the day differs");
    }
}
