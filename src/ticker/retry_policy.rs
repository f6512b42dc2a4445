//! The delay before a run that gave up is made again. A mail server or a directory that is down for an hour must not
//! cost a whole day: an offer that expires tomorrow has no other day for its reminder. Pure.

use bson::DateTime;

use super::report::JobReport;

const MINUTE: i64 = 60_000;
/// The shortest delay, in milliseconds. Later delays are as long as the run is late, so they double.
const SOONEST: i64 = 15 * MINUTE;
/// The time after `scheduled_for` until which a run is made again, in milliseconds. Then the next occurrence is near.
const LATEST: i64 = 8 * 60 * MINUTE;

/// The time until which a run is put off. The run was due at `scheduled_for` and ended at `finished`. `None` when the
/// run did not give up, or is too late to be made again.
#[must_use]
pub(super) fn until(scheduled_for: DateTime, finished: DateTime, report: &JobReport) -> Option<DateTime> {
    report.gave_up.as_ref()?;
    let late = finished.timestamp_millis().saturating_sub(scheduled_for.timestamp_millis()).max(0);
    let wait = late.max(SOONEST);
    (late + wait <= LATEST).then(|| DateTime::from_millis(finished.timestamp_millis() + wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_gave_up_is_made_again_ever_less_often_for_some_hours() {
        let gave_up = JobReport { gave_up: Some("mail_server_down".into()), ..JobReport::default() };
        let at = |minutes: i64| DateTime::from_millis(minutes * MINUTE);
        let mut finished = 0;
        let mut tries = Vec::new();
        while let Some(next) = until(at(0), at(finished), &gave_up) {
            finished = next.timestamp_millis() / MINUTE;
            tries.push(finished);
        }
        assert_eq!(tries, [15, 30, 60, 120, 240, 480]);
        assert_eq!(until(at(0), at(0), &JobReport::default()), None);
    }
}
