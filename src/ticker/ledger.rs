//! The ledger: one document per occurrence of a time-based job and per run by hand, so that no run is lost in silence
//! (spec 05). The state of a document goes from `due` to `claimed` (by a term) to `ended`. Every change but the first
//! insert is on condition of the term.

use std::collections::BTreeMap;

use bson::{DateTime, Document, RawDocumentBuf, doc, oid::ObjectId};
use mongodb::error::{Error as MongoError, ErrorKind};
use mongodb::{Database, IndexModel};

use super::job::TimedJob;
use super::report::JobReport;
use super::stored_run::StoredRun;
use crate::error::Failure;
use crate::interruption::{Interruption, Unfinished};
use crate::maintenance::stored_commands::counted;
use crate::model::names::JOB_RUNS;
use crate::model::names::STATE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::observe::labels::LabelValue;
use crate::write::fence_document;
use crate::write::statements::Statement;
use crate::write::transaction::{Fence, Transaction};

/// Runs are kept for 90 days (spec 05).
const KEPT_MILLISECONDS: i64 = 90 * 24 * 3_600_000;

const DUE: &str = "due";
const CLAIMED: &str = "claimed";
pub(super) const ENDED: &str = "ended";

/// The outcome of an occurrence or of a run by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// The run did all its work.
    Done,
    /// The run ended with a failure, or gave up.
    Failed,
    /// No leader was running when the occurrence was due, and it was not caught up.
    Missed,
    /// The occurrence was not run: the job does not apply in the phase, a later occurrence was due already, this
    /// version does not know the job, or a clock was ahead.
    Skipped,
}

impl RunOutcome {
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Missed, Self::Skipped];

    /// The name in the ledger and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Missed => "missed",
            Self::Skipped => "skipped",
        }
    }
}

/// The end of a run, as the ledger stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    pub outcome: RunOutcome,
    /// The reason for an outcome other than [`RunOutcome::Done`], without personal data.
    pub error: Option<String>,
}

impl RunEnd {
    /// The end of a run that returned no failure: `done`, or `failed` where the run gave up.
    #[must_use]
    pub fn of(report: &JobReport) -> Self {
        match &report.gave_up {
            Some(reason) => Self { outcome: RunOutcome::Failed, error: Some(reason.to_string()) },
            None => Self { outcome: RunOutcome::Done, error: None },
        }
    }
}

/// An entry that is made when occurrences come due, before any run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerEntry {
    /// An occurrence at this time, which is to be run.
    Due(DateTime),
    /// Several occurrences in a row that are not run; one document of the ledger stands for all of them.
    Passed {
        /// The time of the first occurrence.
        first: DateTime,
        /// The number of occurrences.
        count: u64,
        /// [`RunOutcome::Missed`] or [`RunOutcome::Skipped`].
        outcome: RunOutcome,
        /// The reason, stored as the `error` of the document.
        reason: &'static str,
    },
}

/// A run in the ledger that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct DueRun {
    /// The `_id` of the document in the ledger.
    pub id: String,
    /// The name of the job. Another version may have entered the run, so the name may be unknown.
    pub job: String,
    /// The time of the occurrence.
    pub scheduled_for: DateTime,
}

/// The keys of the indexes of the ledger.
#[must_use]
pub fn indexes() -> Vec<Document> {
    vec![doc! { "job": 1, "scheduled_for": -1 }, doc! { "state": 1, "scheduled_for": 1 }, doc! { "scheduled_for": -1 }]
}

/// Creates the indexes of the ledger where they are missing.
///
/// # Errors
/// [`Failure::Write`].
pub async fn prepare(database: &Database) -> Result<(), Failure> {
    let indexes = indexes().into_iter().map(|keys| IndexModel::builder().keys(keys).build());
    with_deadline(collection(database, JOB_RUNS).create_indexes(indexes)).await.map(drop).map_err(Failure::Write)
}

/// Enters occurrences of a job, and sets `through`: the time up to which the ledger has all occurrences of the job.
/// Both happen in one transaction, so that no occurrence is lost in between.
///
/// # Errors
/// [`Interruption::LeaseLost`], [`Failure::Write`].
pub async fn enter(fence: &Fence, job: TimedJob, through: DateTime, entries: &[LedgerEntry]) -> Result<(), Unfinished> {
    let mut transaction = Transaction::begin(fence.writer.database(), Some(fence)).await?;
    let entries: Vec<_> = entries.iter().map(|entry| entered(job, entry, through)).collect();
    if !entries.is_empty() {
        transaction.update(JOB_RUNS, entries).await?;
    }
    transaction.update(STATE, vec![fence_document::setting_through(job.name(), through)]).await?;
    Ok(transaction.commit().await?)
}

/// Removes `through` of jobs that are off. The occurrences of such a job do not count as missed when it is on again.
///
/// # Errors
/// [`Interruption::LeaseLost`], [`Failure::Write`].
pub async fn leave_out(database: &Database, term: i64, jobs: &[String]) -> Result<(), Unfinished> {
    if jobs.is_empty() {
        return Ok(());
    }
    fence_document::forget_through(database, term, jobs).await
}

fn entered(job: TimedJob, entry: &LedgerEntry, now: DateTime) -> Statement {
    let (first, fields) = match *entry {
        LedgerEntry::Due(time) => (time, doc! { "state": DUE, "outcome": null }),
        LedgerEntry::Passed { first, count, outcome, reason } => {
            let end = doc! { "outcome": outcome.as_str(), "error": reason, "finished": now };
            let count = doc! { "state": ENDED, "occurrences": counted(count) };
            (first, count.into_iter().chain(end).collect())
        }
    };
    let mut run = doc! { "job": job.name(), "scheduled_for": first };
    run.extend(fields);
    statement(doc! { "q": { "_id": id(job.name(), first) }, "u": { "$setOnInsert": run }, "upsert": true })
}

fn statement(body: Document) -> Statement {
    // The document is built in this file from texts, numbers and times, so it always encodes.
    Statement { id: None, body: RawDocumentBuf::try_from(&body).unwrap_or_default() }
}

fn id(job: &str, time: DateTime) -> String {
    let text = time.try_to_rfc3339_string().unwrap_or_else(|_| time.timestamp_millis().to_string());
    format!("{job}/{text}")
}

/// The oldest scheduled run that has not ended and is not put off: due, or claimed by a leader that did not end it.
///
/// # Errors
/// [`Failure::Read`].
pub async fn next(database: &Database, now: DateTime) -> Result<Option<DueRun>, Failure> {
    let not_put_off = doc! { "$not": { "$gt": now } };
    let filter = doc! { "state": { "$in": [DUE, CLAIMED] }, "by_hand": { "$ne": true }, "put_off_until": not_put_off };
    let runs = collection(database, JOB_RUNS);
    let next = runs.find_one(filter).sort(doc! { "scheduled_for": 1 });
    let next = with_deadline(next).await.map_err(Failure::Read)?;
    Ok(next.and_then(|next| {
        Some(DueRun {
            id: next.get_str("_id").ok()?.to_owned(),
            job: next.get_str("job").unwrap_or_default().to_owned(),
            scheduled_for: *next.get_datetime("scheduled_for").ok()?,
        })
    }))
}

/// Claims a run for `term`. Returns the number of documents that earlier attempts changed. `None` when the run has
/// ended, or when a later term has claimed it.
///
/// # Errors
/// [`Failure::Write`].
pub async fn claim(database: &Database, term: i64, id: &str, now: DateTime) -> Result<Option<u64>, Failure> {
    let filter = doc! { "_id": id, "state": { "$in": [DUE, CLAIMED] }, "term": { "$not": { "$gt": term } } };
    let update = doc! {
        "$set": { "state": CLAIMED, "term": term, "now": now }, "$min": { "started": now }, "$inc": { "attempts": 1 },
    };
    let runs = collection(database, JOB_RUNS);
    let claimed = runs.find_one_and_update(filter, update);
    let claimed = with_deadline(claimed).await.map_err(Failure::Write)?;
    Ok(claimed.map(|run| StoredRun::of(&run).changed.unwrap_or_default()))
}

/// A run by hand: an operator gave the command for it.
#[derive(Debug, Clone)]
pub struct ByHand<'a> {
    /// The name of the job, `anonymize-user` or `obfuscate`.
    pub name: &'a str,
    /// The `_id` of the stored command. The next leader takes the same command up again.
    pub command: ObjectId,
    /// The time of the run, by which its rules go.
    pub now: DateTime,
    /// True where the operator gave `now`. Such a run does not count as the last run of the job.
    pub now_is_given: bool,
    /// The server's time at the beginning of the run.
    pub started: DateTime,
}

/// Enters a run by hand, already claimed. Returns its `_id` and the number of documents that earlier attempts changed.
///
/// # Errors
/// [`Interruption::LeaseLost`] when a later term has begun the run, [`Failure::Write`].
pub async fn begin(database: &Database, term: i64, run: &ByHand<'_>) -> Result<(String, u64), Unfinished> {
    let id = format!("{}/{}", run.name, run.command.to_hex());
    let update = doc! {
        "$setOnInsert": {
            "job": run.name, "scheduled_for": run.now, "by_hand": true, "now_is_given": run.now_is_given,
            "started": run.started, "outcome": null, "now": run.now,
        },
        "$set": { "state": CLAIMED, "term": term },
        "$inc": { "attempts": 1 },
    };
    let runs = collection(database, JOB_RUNS);
    let filter = doc! { "_id": &id, "term": { "$not": { "$gt": term } } };
    let before = match with_deadline(runs.find_one_and_update(filter, update).upsert(true)).await {
        Ok(before) => before,
        // The filter leaves out the document of a later term, so the upsert tried to insert it a second time.
        Err(error) if is_duplicate(&error) => return Err(Interruption::LeaseLost.into()),
        Err(error) => return Err(Failure::Write(error).into()),
    };
    Ok((id, before.and_then(|run| StoredRun::of(&run).changed).unwrap_or_default()))
}

/// Stores the counts of a run that is under way.
///
/// # Errors
/// [`Interruption::LeaseLost`] when another term has claimed the run, [`Failure::Write`].
pub async fn progress(database: &Database, term: i64, id: &str, report: &JobReport) -> Result<(), Unfinished> {
    update(database, term, id, counts(report)).await
}

/// Stores how far a run is that is under way: the documents that are done, and all of them.
///
/// # Errors
/// As [`progress`].
pub async fn part(database: &Database, term: i64, id: &str, done: u64, all: u64) -> Result<(), Unfinished> {
    update(database, term, id, doc! { "part_done": counted(done), "part_of": counted(all) }).await
}

/// Puts off a run that gave up. The run is due again at `until`, and its counts so far are kept.
///
/// # Errors
/// As [`finish`].
pub async fn postpone(
    database: &Database,
    term: i64,
    id: &str,
    end: &RunEnd,
    report: &JobReport,
    until: DateTime,
) -> Result<(), Unfinished> {
    let mut fields = details(end, report);
    fields.extend(doc! { "state": DUE, "outcome": null, "put_off_until": until });
    update(database, term, id, fields).await
}

/// Stores the end of a run, at the time `finished`.
///
/// # Errors
/// As [`progress`].
pub async fn finish(
    database: &Database,
    term: i64,
    id: &str,
    end: &RunEnd,
    report: &JobReport,
    finished: DateTime,
) -> Result<(), Unfinished> {
    let mut fields = details(end, report);
    fields.extend(doc! { "state": ENDED, "finished": finished });
    update(database, term, id, fields).await
}

async fn update(database: &Database, term: i64, id: &str, fields: Document) -> Result<(), Unfinished> {
    let mine = doc! { "_id": id, "term": term, "state": CLAIMED };
    let updated = with_deadline(collection(database, JOB_RUNS).update_one(mine, doc! { "$set": fields })).await;
    match updated.map_err(Failure::Write)?.matched_count {
        0 => Err(Interruption::LeaseLost.into()),
        _ => Ok(()),
    }
}

/// The outcome, counts and lines of a run that has ended, for the ledger and for the result of a stored command.
#[must_use]
pub fn details(end: &RunEnd, report: &JobReport) -> Document {
    let mut fields = counts(report);
    let by_label = |counts: &BTreeMap<&str, u64>| -> Document {
        counts.iter().map(|(label, count)| ((*label).to_owned(), counted(*count))).collect()
    };
    let lines = report.lines.iter().filter_map(|line| bson::serialize_to_bson(line).ok());
    fields.extend(doc! {
        "outcome": end.outcome.as_str(), "error": end.error.clone(), "skipped": by_label(&report.skipped), "changed_as": by_label(&report.changed_as),
        "lines": lines.collect::<Vec<_>>(), "told": counted(report.told),
    });
    fields
}

fn counts(report: &JobReport) -> Document {
    doc! {
        "matched": counted(report.matched), "changed": counted(report.changed), "failed": counted(report.failed),
    }
}

/// The `now` of the last run of a job with the outcome `done`. Runs after `now` are left out: their clock was ahead.
/// Runs whose time an operator gave are left out too.
///
/// # Errors
/// [`Failure::Read`].
pub async fn previous(database: &Database, job: &str, now: DateTime) -> Result<Option<DateTime>, Failure> {
    let past = doc! { "$lte": now };
    let done = doc! { "job": job, "outcome": RunOutcome::Done.as_str(), "now_is_given": { "$ne": true }, "now": past };
    let runs = collection(database, JOB_RUNS);
    let last = runs.find_one(done).sort(doc! { "scheduled_for": -1 });
    let last = with_deadline(last).await.map_err(Failure::Read)?;
    Ok(last.and_then(|run| run.get_datetime("now").ok().copied()))
}

/// The time of the oldest occurrence of a job in the ledger.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn first(database: &Database, job: &str) -> Result<Option<DateTime>, Failure> {
    let runs = collection(database, JOB_RUNS);
    let oldest = runs.find_one(doc! { "job": job }).sort(doc! { "scheduled_for": 1 });
    let oldest = with_deadline(oldest).await.map_err(Failure::Read)?;
    Ok(oldest.and_then(|run| run.get_datetime("scheduled_for").ok().copied()))
}

/// Deletes ended runs that were due more than 90 days before `now`.
///
/// # Errors
/// [`Failure::Write`].
pub async fn forget(database: &Database, now: DateTime) -> Result<(), Failure> {
    let oldest = DateTime::from_millis(now.timestamp_millis().saturating_sub(KEPT_MILLISECONDS));
    let old = doc! { "scheduled_for": { "$lt": oldest }, "state": ENDED };
    with_deadline(collection(database, JOB_RUNS).delete_many(old)).await.map_err(Failure::Write)?;
    Ok(())
}

fn is_duplicate(error: &MongoError) -> bool {
    matches!(&*error.kind, ErrorKind::Command(error) if error.code == 11_000)
}

impl LabelValue for RunOutcome {
    fn label(self) -> &'static str {
        self.as_str()
    }
}
