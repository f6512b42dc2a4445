//! Schedules of time-based jobs: cron expressions in a time zone, and their occurrences. Pure.
//!
//! Daylight saving: an expression with one time of the day is due once on every day. In a skipped hour it is due at the
//! end of that hour, in a doubled hour the first time. An expression that is due again and again goes by elapsed hours.

use std::str::FromStr as _;

use bson::DateTime;
use chrono::Utc;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// The limit of [`DueOccurrences::count`]: an exact count beyond it says nothing new.
const COUNTED: u64 = 10_000;
/// The maximal length of an expression in bytes: no person writes a longer one.
const LONGEST: usize = 200;

/// The cron expressions of one time-based job, in one time zone. A job may have no expression.
#[derive(Debug, Clone)]
pub struct Schedule {
    crons: Vec<Cron>,
    zone: Tz,
}

/// The occurrences of a job between two times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueOccurrences {
    pub first: DateTime,
    /// The last occurrence; equal to `first` where there is only one.
    pub last: DateTime,
    /// The number of occurrences, at most ten thousand.
    pub count: u64,
}

/// The reason why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The text is no cron expression; the reason.
    #[error("has an expression that cannot be parsed ({0})")]
    Unreadable(String),
    /// The expression names no time that ever comes, such as the 30th of February.
    #[error("has an expression that is never due")]
    Never,
}

/// The time zone of this name in the IANA database, such as `Europe/Paris`; `None` for an unknown name.
#[must_use]
pub fn zone(name: &str) -> Option<Tz> {
    Tz::from_str(name).ok()
}

impl Schedule {
    /// Parses expressions of five fields, or of six fields with the seconds first.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn parse<E: AsRef<str>>(expressions: &[E], zone: Tz) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let unreadable = |reason: String| ScheduleError::Unreadable(reason);
        let mut crons = Vec::new();
        for expression in expressions {
            let expression = expression.as_ref();
            if expression.len() > LONGEST {
                return Err(unreadable(format!("longer than {LONGEST} characters")));
            }
            // The library takes an empty item for "no value", and then searches for a very long time.
            if expression.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
                return Err(unreadable("an item of a list is empty".to_owned()));
            }
            let cron = parser.parse(expression).map_err(|error| unreadable(error.to_string()))?;
            // The search may begin at any time: an expression that is due once is due again within a few years.
            if next(&cron, zone, DateTime::from_millis(0)).is_none() {
                return Err(ScheduleError::Never);
            }
            crons.push(cron);
        }
        Ok(Self { crons, zone })
    }

    /// The first occurrence after a time; `None` without expressions.
    #[must_use]
    pub fn next_after(&self, after: DateTime) -> Option<DateTime> {
        self.crons.iter().filter_map(|cron| next(cron, self.zone, after)).min()
    }

    /// The occurrences after `after`, up to and including `until`; `None` where there are none.
    #[must_use]
    pub fn due(&self, after: DateTime, until: DateTime) -> Option<DueOccurrences> {
        let first = self.next_after(after).filter(|first| *first <= until)?;
        let mut due = DueOccurrences { first, last: first, count: 1 };
        while let Some(next) = self.next_after(due.last).filter(|next| *next <= until) {
            due.last = next;
            due.count += 1;
            if due.count >= COUNTED {
                due.last = self.last_until(until).map_or(due.last, |last| last.max(due.last));
                break;
            }
        }
        Some(due)
    }

    fn last_until(&self, until: DateTime) -> Option<DateTime> {
        let last = |cron: &Cron| cron.find_previous_occurrence(&local(until, self.zone)?, true).ok();
        self.crons.iter().filter_map(last).map(|time| DateTime::from_millis(time.timestamp_millis())).max()
    }
}

fn next(cron: &Cron, zone: Tz, after: DateTime) -> Option<DateTime> {
    let next = cron.find_next_occurrence(&local(after, zone)?, false).ok()?;
    Some(DateTime::from_millis(next.timestamp_millis()))
}

/// The local time, cut to whole seconds: the library counts in seconds and would keep a fraction of a second.
fn local(time: DateTime, zone: Tz) -> Option<chrono::DateTime<Tz>> {
    let seconds = time.timestamp_millis().div_euclid(1_000);
    chrono::DateTime::<Utc>::from_timestamp(seconds, 0).map(|time| time.with_timezone(&zone))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARIS: Tz = Tz::Europe__Paris;

    fn time(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    /// The occurrences of an expression between two times, as hours and minutes of UTC.
    fn on(expression: &str, from: &str, until: &str) -> Vec<String> {
        let schedule = Schedule::parse(&[expression], PARIS).unwrap();
        let (mut after, until) = (time(from), time(until));
        let mut times = Vec::new();
        while let Some(next) = schedule.next_after(after).filter(|next| *next <= until) {
            times.push(next.try_to_rfc3339_string().unwrap()[11..16].to_owned());
            after = next;
        }
        times
    }

    /// From midnight to midnight in Paris, on the day on which the hour from 02:00 to 03:00 is skipped.
    const SKIPPED: [&str; 2] = ["2026-03-28T22:59:59Z", "2026-03-29T21:59:59Z"];
    /// The same on the day on which the hour from 02:00 to 03:00 comes twice.
    const DOUBLED: [&str; 2] = ["2026-10-24T21:59:59Z", "2026-10-25T22:59:59Z"];

    #[test]
    fn a_daily_job_runs_once_on_either_day() {
        assert_eq!(on("15 0 * * *", SKIPPED[0], SKIPPED[1]), ["23:15"]);
        assert_eq!(on("15 0 * * *", DOUBLED[0], DOUBLED[1]), ["22:15"]);
        assert_eq!(on("20 9 * * *", SKIPPED[0], SKIPPED[1]), ["07:20"]);
        assert_eq!(on("20 9 * * *", DOUBLED[0], DOUBLED[1]), ["08:20"]);
    }

    #[test]
    fn a_job_due_in_the_skipped_hour_runs_once_at_its_end_and_in_the_doubled_hour_the_first_time_round() {
        assert_eq!(on("30 2 * * *", SKIPPED[0], SKIPPED[1]), ["01:00"], "03:00 in Paris");
        assert_eq!(on("30 2 * * *", DOUBLED[0], DOUBLED[1]), ["00:30"], "the first 02:30 in Paris");
        assert_eq!(on("0 30 2 * * *", SKIPPED[0], SKIPPED[1]), ["01:00"], "with seconds");
    }

    #[test]
    fn an_hourly_job_runs_once_in_every_hour_that_passes() {
        let skipped = on("0 * * * *", SKIPPED[0], SKIPPED[1]);
        assert_eq!((skipped.len(), &skipped[1], &skipped[2]), (23, &"00:00".to_owned(), &"01:00".to_owned()));
        let doubled = on("0 * * * *", DOUBLED[0], DOUBLED[1]);
        assert_eq!((doubled.len(), &doubled[2], &doubled[3]), (25, &"00:00".to_owned(), &"01:00".to_owned()));
    }

    #[test]
    fn what_lies_between_two_times_is_counted_once_whatever_the_expressions() {
        let crons = ["15 0 * * *", "0 * * * *", "0 0 * * *"];
        let schedule = Schedule::parse(&crons, PARIS).unwrap();
        let due = schedule.due(time("2026-06-01T21:59:59.999Z"), time("2026-06-02T22:00:00Z")).unwrap();
        assert_eq!((due.first, due.last), (time("2026-06-01T22:00:00Z"), time("2026-06-02T22:00:00Z")));
        assert_eq!(due.count, 26);
        assert_eq!(schedule.due(due.last, due.last), None);
        let much = Schedule::parse(&["* * * * * *"], PARIS).unwrap();
        let due = much.due(time("2026-01-01T00:00:00Z"), time("2026-12-31T00:00:00.5Z")).unwrap();
        assert_eq!((due.count, due.last), (COUNTED, time("2026-12-31T00:00:00Z")));
    }

    #[test]
    fn what_is_no_expression_or_never_comes_is_said() {
        for wrong in
            ["", "* * * *", "60 * * * *", "x", "1 2 3 4 5 6 7 8", "0 0 0 1 1 * 2027", ", * * 1 1 5#3", "1,, * * * *"]
        {
            let error = Schedule::parse(&[wrong], PARIS).unwrap_err();
            assert!(matches!(error, ScheduleError::Unreadable(_)), "{wrong}: {error}");
        }
        assert_eq!(Schedule::parse(&["0 0 30 2 *"], PARIS).unwrap_err(), ScheduleError::Never);
        assert!(zone("Europe/Paris").is_some() && zone("Paris").is_none());
    }

    proptest! {
        /// Any text is refused, or becomes a schedule that has a next occurrence.
        #[test]
        fn any_text_is_an_expression_that_comes_due_or_an_error(text in "[-0-9*/,#LW?a-z@ ]{0,24}") {
            if let Ok(schedule) = Schedule::parse(&[text], PARIS) {
                let now = DateTime::from_millis(1_774_738_800_000);
                prop_assert!(schedule.next_after(now).is_some_and(|next| next > now));
            }
        }

        /// A span that is searched in two steps has as many occurrences as in one step.
        #[test]
        fn no_occurrence_is_lost_between_two_looks(
            from in 1_700_000_000_000_i64..1_900_000_000_000,
            step in 1_i64..200_000_000,
            cut in 0.0..1.0_f64,
        ) {
            let schedule = Schedule::parse(&["30 2 * * *", "*/20 * * * *"], PARIS).unwrap();
            let (from, until) = (DateTime::from_millis(from), DateTime::from_millis(from + step));
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any place in between")]
            let middle = DateTime::from_millis(from.timestamp_millis() + (step as f64 * cut) as i64);
            let count = |due: Option<DueOccurrences>| due.map_or(0, |due| due.count);
            let whole = schedule.due(from, until);
            prop_assert_eq!(count(whole), count(schedule.due(from, middle)) + count(schedule.due(middle, until)));
            if let Some(due) = whole {
                prop_assert_eq!(schedule.last_until(until), Some(due.last));
            }
        }
    }
}
