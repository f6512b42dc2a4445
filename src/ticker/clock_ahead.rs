//! Repair of the ledger after a clock that was ahead: occurrences that were entered for future times are taken back.
//! Otherwise no real occurrence could be entered, and the job would not run until the future times have come.

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use tracing::warn;

use super::job::TimedJob;

use super::ledger::{self, RunOutcome};
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::names::JOB_RUNS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::transaction::{Fence, Transaction};

/// Takes back the occurrences of a job after `now`. Each one becomes an ended document of the ledger under the time
/// `now`, and keeps the result of its run. `through` of the job goes back to the last occurrence before `now`, or to
/// `now` where there is none. Returns the new `through`.
///
/// # Errors
/// A lost lease, [`Failure::Read`], [`Failure::Write`]; the function can be called again after each of them.
pub(super) async fn take_back(
    fence: &Fence,
    job: TimedJob,
    through: DateTime,
    now: DateTime,
) -> Result<DateTime, Unfinished> {
    let runs = collection(fence.writer.database(), JOB_RUNS);
    let later = doc! { "job": job.name(), "scheduled_for": { "$gt": now }, "by_hand": { "$ne": true } };
    let mut taken = 0_u64;
    // Each document gets another `_id`: the real occurrence of the same time must still be entered.
    while let Some(run) = with_deadline(runs.find_one(later.clone())).await.map_err(Failure::Read)? {
        let was_entered = doc! { "_id": run.get("_id").cloned() };
        let moved = RawDocumentBuf::try_from(&moved(run, now)).map_err(|error| Failure::Write(error.into()))?;
        let mut transaction = Transaction::begin(fence.writer.database(), Some(fence)).await?;
        transaction.put(JOB_RUNS, vec![moved]).await?;
        transaction.delete(JOB_RUNS, was_entered).await?;
        transaction.commit().await?;
        taken += 1;
    }
    let before =
        doc! { "job": job.name(), "scheduled_for": { "$lte": now }, "by_hand": { "$ne": true }, ENTERED: null };
    let last = with_deadline(runs.find_one(before).sort(doc! { "scheduled_for": -1 })).await.map_err(Failure::Read)?;
    let back = last.and_then(|run| run.get_datetime("scheduled_for").ok().copied()).unwrap_or(now);
    ledger::enter(fence, job, back, &[]).await?;
    let text = |time: DateTime| time.try_to_rfc3339_string().unwrap_or_default();
    warn!(
        job = job.name(),
        until = text(through),
        now = text(now),
        from = text(back),
        taken,
        "a clock was ahead: occurrences of this job were recorded for the future; they are taken back"
    );
    Ok(back)
}

/// The field with the time for which an occurrence was entered before it was taken back.
pub(super) const ENTERED: &str = "entered_for";

fn moved(mut run: Document, now: DateTime) -> Document {
    let [id, at] = [run.get("_id"), Some(&Bson::DateTime(now))].map(|value| value.cloned().unwrap_or(Bson::Null));
    let entered = run.get("scheduled_for").cloned().unwrap_or(Bson::Null);
    let text =
        |value: &Bson| value.as_datetime().and_then(|time| time.try_to_rfc3339_string().ok()).unwrap_or_default();
    let told = format!("a clock was ahead: this was entered for {}", text(&entered));
    let error = run.get_str("error").map(|error| format!("{told}; {error}")).unwrap_or(told);
    if !matches!(run.get("outcome"), Some(Bson::String(_))) {
        run.insert("outcome", RunOutcome::Skipped.as_str());
    }
    for field in ["now", "put_off_until"] {
        run.remove(field);
    }
    if run.get_datetime("started").is_ok() {
        run.insert("started", now);
    }
    run.insert("_id", format!("{}/ahead/{}", id.as_str().unwrap_or_default(), text(&at)));
    run.extend(
        doc! { "scheduled_for": now, "finished": now, "state": ledger::ENDED, ENTERED: entered, "error": error },
    );
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_by_a_clock_that_was_ahead_keeps_what_it_did_but_not_its_time() {
        let [ahead, now] = [90_000_000, 5].map(DateTime::from_millis);
        let run = doc! { "_id": "verify/x", "scheduled_for": ahead, "state": "ended", "outcome": "done", "now": ahead,
        "started": ahead, "finished": ahead, "changed": 3_i64 };
        let moved = moved(run, now);
        assert_eq!(moved.get_str("_id").unwrap(), "verify/x/ahead/1970-01-01T00:00:00.005Z");
        for field in ["scheduled_for", "started", "finished"] {
            assert_eq!(moved.get_datetime(field).unwrap(), &now, "{field}");
        }
        assert_eq!((moved.get_i64("changed").unwrap(), moved.get_str("outcome").unwrap()), (3, "done"));
        assert!(!moved.contains_key("now"), "no later run goes by it");
        let due = doc! { "_id": "verify/x", "scheduled_for": ahead, "state": "due", "outcome": null };
        assert_eq!(super::moved(due, now).get_str("outcome").unwrap(), "skipped");
    }
}
