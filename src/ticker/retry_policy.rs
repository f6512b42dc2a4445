//! When a run that gave up is made again: a mail server or a directory that is down for an hour must not cost a day, and
//! what is reminded of a day before its end has no other day. Pure.

use bson::DateTime;

use super::report::JobReport;

const MINUTE: i64 = 60_000;
/// How soon at the earliest; then after as long as the run is late, so ever less often.
const SOONEST: i64 = 15 * MINUTE;
/// Later than this a run is not made any more: the next one is near.
const LATEST: i64 = 8 * 60 * MINUTE;

/// Until when a run is put off that was due at `scheduled_for` and gave up at `finished`; `None` when it has ended.
#[must_use]
pub fn until(scheduled_for: DateTime, finished: DateTime, report: &JobReport) -> Option<DateTime> {
    report.gave_up?;
    let late = finished.timestamp_millis().saturating_sub(scheduled_for.timestamp_millis()).max(0);
    let wait = late.max(SOONEST);
    (late + wait <= LATEST).then(|| DateTime::from_millis(finished.timestamp_millis() + wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_gave_up_is_made_again_ever_less_often_for_some_hours() {
        let gave_up = JobReport { gave_up: Some("mail_server_down"), ..JobReport::default() };
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
