//! Calculations with days and months in a time zone. Pure.

use bson::DateTime;
use chrono::{LocalResult, Months, NaiveDate, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;

/// The beginning of the local day that is `months` months after `now`; the last day of the month where the month is
/// shorter. `None` where the calendar ends.
#[must_use]
pub(crate) fn day_in_months(now: DateTime, zone: Tz, months: u32) -> Option<DateTime> {
    let day = local_day(now, zone)?.checked_add_months(Months::new(months))?;
    start_of(day, zone)
}

/// The same local time of the day, `months` months before `now`; on the last day of the month where the month is
/// shorter. `None` where the calendar begins.
#[must_use]
pub(crate) fn months_ago(now: DateTime, zone: Tz, months: u32) -> Option<DateTime> {
    let now = chrono::DateTime::<Utc>::from_timestamp_millis(now.timestamp_millis())?.with_timezone(&zone);
    let then = now.naive_local().checked_sub_months(Months::new(months))?;
    let then = match zone.from_local_datetime(&then) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time.to_utc(),
        // The clocks skip this local time on that day, so it is read as UTC.
        LocalResult::None => Utc.from_utc_datetime(&then),
    };
    Some(DateTime::from_millis(then.timestamp_millis()))
}

fn local_day(now: DateTime, zone: Tz) -> Option<NaiveDate> {
    let now = chrono::DateTime::<Utc>::from_timestamp_millis(now.timestamp_millis())?;
    Some(now.with_timezone(&zone).date_naive())
}

/// The first moment of a local day. Where the clocks go forward at midnight, the day begins at one o'clock.
fn start_of(day: NaiveDate, zone: Tz) -> Option<DateTime> {
    let midnight = day.and_time(NaiveTime::MIN);
    let hours = (0..24).map(|hour| midnight + chrono::Duration::hours(hour));
    let first = hours.filter_map(|time| zone.from_local_datetime(&time).earliest()).next()?;
    Some(DateTime::from_millis(first.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: Tz = Tz::Europe__Paris;

    fn in_two_months(now: &str) -> String {
        let now = DateTime::parse_rfc3339_str(now).unwrap();
        day_in_months(now, PARIS, 2).unwrap().try_to_rfc3339_string().unwrap()
    }

    #[test]
    fn a_day_begins_at_midnight_in_paris_to_the_millisecond_in_summer_and_in_winter() {
        assert_eq!(in_two_months("2026-06-14T21:59:59.999Z"), "2026-08-13T22:00:00Z");
        assert_eq!(in_two_months("2026-06-14T22:00:00Z"), "2026-08-14T22:00:00Z");
        assert_eq!(in_two_months("2026-11-14T22:59:59.999Z"), "2027-01-13T23:00:00Z");
        assert_eq!(in_two_months("2026-11-14T23:00:00Z"), "2027-01-14T23:00:00Z");
    }

    #[test]
    fn the_clocks_may_change_in_between_and_months_have_an_end() {
        assert_eq!(in_two_months("2026-02-15T12:00:00Z"), "2026-04-14T22:00:00Z");
        assert_eq!(in_two_months("2026-09-15T12:00:00Z"), "2026-11-14T23:00:00Z");
        assert_eq!(in_two_months("2026-12-31T12:00:00Z"), "2027-02-27T23:00:00Z");
    }

    #[test]
    fn two_years_ago_is_the_same_day_and_hour() {
        let ago = |now: &str| {
            let now = DateTime::parse_rfc3339_str(now).unwrap();
            months_ago(now, PARIS, 24).unwrap().try_to_rfc3339_string().unwrap()
        };
        assert_eq!(ago("2026-06-14T22:00:00.001Z"), "2024-06-14T22:00:00.001Z");
        assert_eq!(ago("2028-02-29T12:00:00Z"), "2026-02-28T12:00:00Z");
        assert_eq!(ago("2028-03-26T01:30:00Z"), "2026-03-26T02:30:00Z", "winter then, summer now");
    }
}
