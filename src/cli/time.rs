//! Reads the times of the command line. A text is read before a connection is made. What it means may depend on the
//! server's clock and on the time zone of the command, so the time itself is computed later.

use std::str::FromStr;
use std::time::Duration;

use bson::{DateTime, Timestamp};
use chrono::{Days, LocalResult, NaiveDate, NaiveTime, TimeZone as _};
use chrono_tz::Tz;

use crate::context::Context;
use crate::mongo::server_clock::server_time;
use crate::refusal::{Exit, Refusal};
use crate::schedule::zone;
use crate::source::cursor::operation_time;

/// The forms of a time, for messages.
const FORMS: &str = "a time such as 2026-01-31T08:00:00Z, 2h ago, 01:30, `yesterday 14:00` or 2026-01-31";

/// A time, as an argument gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeName {
    At(DateTime),
    /// This long before the server's time.
    Ago(Duration),
    /// By the clocks in the time zone of the command.
    Local(Day, NaiveTime),
}

/// The day of a time without a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    Date(NaiveDate),
    /// This number of days before the day of the server's time.
    BeforeToday(u64),
}

impl FromStr for TimeName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        read(name)?.ok_or_else(|| format!("not {FORMS}"))
    }
}

impl TimeName {
    /// Computes the time. The server's clock counts: the clock of this machine may differ.
    ///
    /// # Errors
    /// A [`Refusal`] when the server cannot be asked for its time, or when the clocks of the time zone never show this
    /// time.
    pub async fn resolve(self, context: &Context) -> Result<DateTime, Refusal> {
        match self {
            Self::At(time) => Ok(time),
            Self::Ago(length) => Ok(before(operation_time(&context.database).await?, length)),
            Self::Local(Day::Date(date), time) => in_zone(date, time, context.time_zone),
            Self::Local(Day::BeforeToday(days), time) => {
                let now = server_time(&context.database).await?;
                in_zone(day_before(now, days, context.time_zone)?, time, context.time_zone)
            }
        }
    }

    /// Computes the position in the change stream that has this time, by the second.
    ///
    /// # Errors
    /// As [`Self::resolve`]; a [`Refusal`] for a time that no position has.
    pub async fn position(self, context: &Context) -> Result<Timestamp, Refusal> {
        position(self.resolve(context).await?).map_err(|reason| Refusal::new(Exit::Usage, reason))
    }

    /// True when this time is before `other` whatever the server's clock says. False also where that is unknown.
    #[must_use]
    pub fn is_surely_before(self, other: Self) -> bool {
        match (self, other) {
            (Self::At(this), Self::At(other)) => this < other,
            (Self::Ago(this), Self::Ago(other)) => this.as_secs() > other.as_secs(),
            (Self::Local(Day::Date(day), time), Self::Local(Day::Date(other_day), other)) => {
                (day, time) < (other_day, other)
            }
            _ => false,
        }
    }
}

/// Reads a time; `None` for a text that is none.
///
/// # Errors
/// A text that says that no position can have this time.
pub(super) fn read(name: &str) -> Result<Option<TimeName>, String> {
    if let Ok(date) = DateTime::parse_rfc3339_str(name) {
        return position(date).map(|_| Some(TimeName::At(date)));
    }
    let length = name.strip_suffix(" ago").unwrap_or(name).trim();
    if let Ok(length) = humantime::parse_duration(length) {
        return Ok(Some(TimeName::Ago(length)));
    }
    Ok(local(name).map(|(day, time)| TimeName::Local(day, time)))
}

/// Reads the name of a time zone.
pub(super) fn time_zone(name: &str) -> Result<Tz, String> {
    zone(name).ok_or_else(|| "not a time zone; expected an IANA name such as Europe/Paris or UTC".to_owned())
}

/// Reads a day, a time of the day, or both. A day alone is its beginning, and a time alone is of today.
fn local(name: &str) -> Option<(Day, NaiveTime)> {
    if let Some(day) = day(name) {
        return Some((day, NaiveTime::MIN));
    }
    if let Some(time) = time_of_day(name) {
        return Some((Day::BeforeToday(0), time));
    }
    let (first, rest) = name.split_once([' ', 'T'])?;
    Some((day(first)?, time_of_day(rest)?))
}

fn day(name: &str) -> Option<Day> {
    match name {
        "today" => Some(Day::BeforeToday(0)),
        "yesterday" => Some(Day::BeforeToday(1)),
        // The parser also accepts `2026-1-3`, which may be meant otherwise.
        date if date.len() == 10 => NaiveDate::parse_from_str(date, "%Y-%m-%d").ok().map(Day::Date),
        _ => None,
    }
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    let time = NaiveTime::parse_from_str(text, "%H:%M").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M:%S"));
    time.ok()
}

fn day_before(now: DateTime, days: u64, zone: Tz) -> Result<NaiveDate, Refusal> {
    let today = zone.timestamp_millis_opt(now.timestamp_millis()).single();
    let day = today.and_then(|today| today.date_naive().checked_sub_days(Days::new(days)));
    day.ok_or_else(|| Refusal::new(Exit::Usage, "the server's clock shows no date of the calendar"))
}

/// The first moment at which the clocks of the time zone show this time. They show some times twice in autumn.
fn in_zone(date: NaiveDate, time: NaiveTime, zone: Tz) -> Result<DateTime, Refusal> {
    match zone.from_local_datetime(&date.and_time(time)) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => {
            Ok(DateTime::from_millis(time.timestamp_millis()))
        }
        LocalResult::None => {
            let message = format!("the clocks in {zone} never show {date} {time}; choose another time");
            Err(Refusal::new(Exit::Usage, message))
        }
    }
}

fn position(time: DateTime) -> Result<Timestamp, String> {
    let seconds = u32::try_from(time.timestamp_millis().div_euclid(1_000));
    seconds.map(|time| Timestamp { time, increment: 0 }).map_err(|_| "a position cannot have this time".to_owned())
}

fn before(now: Timestamp, length: Duration) -> DateTime {
    let seconds = u64::from(now.time).saturating_sub(length.as_secs());
    DateTime::from_millis(i64::try_from(seconds * 1_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: Tz = Tz::Europe__Paris;

    fn date(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    /// The time that a text means when the server's clock shows 2026-11-29 00:30 in Paris.
    fn means(text: &str, zone: Tz) -> Result<String, Option<String>> {
        let time = match text.parse::<TimeName>().map_err(|_| None)? {
            TimeName::Local(Day::Date(date), time) => in_zone(date, time, zone),
            TimeName::Local(Day::BeforeToday(days), time) => {
                day_before(date("2026-11-28T23:30:00Z"), days, zone).and_then(|day| in_zone(day, time, zone))
            }
            other => panic!("{other:?}"),
        };
        time.map(|time| time.try_to_rfc3339_string().unwrap()).map_err(|refusal| Some(refusal.to_string()))
    }

    #[test]
    fn times_without_a_zone_are_those_of_the_clocks_there() {
        for (text, paris, utc) in [
            ("2026-11-28", "2026-11-27T23:00:00Z", "2026-11-28T00:00:00Z"),
            ("2026-11-28 14:00", "2026-11-28T13:00:00Z", "2026-11-28T14:00:00Z"),
            ("2026-07-01T14:00:30", "2026-07-01T12:00:30Z", "2026-07-01T14:00:30Z"),
            ("01:30", "2026-11-29T00:30:00Z", "2026-11-28T01:30:00Z"),
            ("today", "2026-11-28T23:00:00Z", "2026-11-28T00:00:00Z"),
            ("yesterday", "2026-11-27T23:00:00Z", "2026-11-27T00:00:00Z"),
            ("yesterday 14:00", "2026-11-28T13:00:00Z", "2026-11-27T14:00:00Z"),
        ] {
            assert_eq!(means(text, PARIS).as_deref(), Ok(paris), "{text}");
            assert_eq!(means(text, Tz::UTC).as_deref(), Ok(utc), "{text}");
        }
    }

    #[test]
    fn an_hour_that_occurs_twice_is_its_first_one_and_one_that_never_occurs_is_refused() {
        assert_eq!(means("2026-10-25 02:30", PARIS).as_deref(), Ok("2026-10-25T00:30:00Z"));
        let refused = means("2026-03-29 02:30", PARIS).unwrap_err().unwrap();
        assert!(refused.contains("Europe/Paris never show 2026-03-29 02:30"), "{refused}");
    }

    #[test]
    fn a_length_is_a_time_ago_and_nonsense_is_none() {
        for (text, seconds) in [("2h", 7_200), ("2h ago", 7_200), ("90m", 5_400), ("1day 2h ago", 93_600)] {
            assert_eq!(text.parse(), Ok(TimeName::Ago(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "soon", "25:00", "24:00", "2026-13-01", "2026-1-3", "14", "yesterday noon", "tomorrow", "-2h"]
        {
            assert!(text.parse::<TimeName>().unwrap_err().starts_with("not a time such as"), "{text}");
        }
        assert!("2999-01-01T00:00:00Z".parse::<TimeName>().is_err(), "no position has this time");
    }
}
