//! Reads the documents of the ledger for the command line and the status page. [`super::ledger`] writes them, and
//! [`super::clock_ahead`] corrects them.

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::job::TimedJob;
use crate::error::Failure;
use crate::model::names::JOB_RUNS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// One document of the ledger. The result of a stored command that ran a job has the same fields from `outcome` on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredRun {
    /// The name of the job, `anonymize-user` or `obfuscate`.
    pub job: String,
    /// The time at which the run was due; the time of the run for a run by hand.
    pub scheduled_for: Option<DateTime>,
    /// True where an operator gave the command for the run.
    pub by_hand: bool,
    /// The time at which the run began; `None` for an occurrence that was not run.
    pub started: Option<DateTime>,
    /// The time at which the run ended.
    pub finished: Option<DateTime>,
    /// `done`, `failed`, `missed` or `skipped`; `None` while the run has not ended.
    pub outcome: Option<String>,
    /// The number of selected documents; `None` for an occurrence that was not run.
    pub matched: Option<u64>,
    /// The number of changed documents; `None` for an occurrence that was not run.
    pub changed: Option<u64>,
    /// The number of documents that could not be changed; `None` for an occurrence that was not run.
    pub failed: Option<u64>,
    /// Of a run under way, the documents that are done and all of them; `None` where the job does not tell.
    pub part: Option<(u64, u64)>,
    /// The numbers of documents that were left unchanged, by reason.
    pub skipped: Document,
    /// Of the changed documents, the numbers by kind.
    pub changed_as: Document,
    /// The reason why the run was not done, without personal data.
    pub error: Option<String>,
    /// The number of occurrences that a missed or skipped document stands for; one for a run.
    pub occurrences: u64,
    /// The number of all lines of the report.
    pub told: u64,
    /// The first lines of the report, as they are stored.
    pub lines: Vec<Bson>,
}

/// A [`super::report::ReportLine`] that was stored.
#[derive(Debug)]
pub(crate) struct StoredLine {
    pub id: String,
    pub what: String,
    pub fields: Vec<String>,
}

impl StoredRun {
    pub(crate) fn of(stored: &Document) -> Self {
        let date = |field: &str| stored.get_datetime(field).ok().copied();
        let text = |field: &str| stored.get_str(field).ok().map(ToOwned::to_owned);
        let count = |field: &str| {
            let count = stored.get(field)?;
            count.as_i64().or_else(|| count.as_i32().map(i64::from)).map(i64::unsigned_abs)
        };
        Self {
            job: text("job").unwrap_or_default(),
            scheduled_for: date("scheduled_for"),
            by_hand: stored.get_bool("by_hand").unwrap_or_default(),
            started: date("started"),
            finished: date("finished"),
            outcome: text("outcome"),
            matched: count("matched"),
            changed: count("changed"),
            failed: count("failed"),
            part: count("part_done").zip(count("part_of")),
            skipped: stored.get_document("skipped").cloned().unwrap_or_default(),
            changed_as: stored.get_document("changed_as").cloned().unwrap_or_default(),
            error: text("error"),
            occurrences: count("occurrences").unwrap_or_default().max(1),
            told: count("told").unwrap_or_default(),
            lines: stored.get_array("lines").cloned().unwrap_or_default(),
        }
    }

    /// The time from the beginning to the end, in seconds; `None` for an occurrence that was not run.
    #[must_use]
    pub(crate) fn seconds(&self) -> Option<u64> {
        let (started, finished) = (self.started?, self.finished?);
        u64::try_from((finished.timestamp_millis() - started.timestamp_millis()) / 1_000).ok()
    }

    /// The stored lines, without those of another shape.
    pub(crate) fn report_lines(&self) -> impl Iterator<Item = StoredLine> {
        self.lines.iter().filter_map(Bson::as_document).map(StoredLine::of)
    }
}

impl StoredLine {
    fn of(line: &Document) -> Self {
        let text = |field: &str| line.get_str(field).unwrap_or_default().to_owned();
        let fields = line.get_array("fields").map(Vec::as_slice).unwrap_or_default();
        let fields = fields.iter().filter_map(Bson::as_str).map(ToOwned::to_owned).collect();
        Self { id: text("id"), what: text("what"), fields }
    }
}

/// Reads the newest run of a job whose `outcome` matches this condition.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn newest(
    database: &Database,
    job: TimedJob,
    outcome: Document,
) -> Result<Option<StoredRun>, Failure> {
    let of_job = doc! { "job": job.name(), "outcome": outcome };
    let runs = collection(database, JOB_RUNS);
    let newest = runs.find_one(of_job).sort(doc! { "scheduled_for": -1 });
    Ok(with_deadline(newest).await.map_err(Failure::Read)?.as_ref().map(StoredRun::of))
}

/// Reads the last ended run of each job that the ledger names, in the order of the names.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn last_ended(database: &Database) -> Result<Vec<StoredRun>, Failure> {
    let last = [
        doc! { "$match": { "outcome": { "$ne": null } } },
        doc! { "$sort": { "job": 1, "scheduled_for": -1 } },
        doc! { "$group": { "_id": "$job", "run": { "$first": "$$ROOT" } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    let runs = with_deadline(collection(database, JOB_RUNS).aggregate(last)).await.map_err(Failure::Read)?;
    let runs: Vec<Document> = with_deadline(runs.try_collect()).await.map_err(Failure::Read)?;
    Ok(runs.iter().filter_map(|group| group.get_document("run").ok()).map(StoredRun::of).collect())
}

/// Reads the runs that have begun and have not ended, at most ten.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn under_way(database: &Database) -> Result<Vec<StoredRun>, Failure> {
    let filter = doc! { "outcome": null, "started": { "$ne": null } };
    let runs = collection(database, JOB_RUNS);
    let runs = with_deadline(runs.find(filter).sort(doc! { "scheduled_for": -1 }).limit(10)).await;
    let runs: Vec<Document> = with_deadline(runs.map_err(Failure::Read)?.try_collect()).await.map_err(Failure::Read)?;
    Ok(runs.iter().map(StoredRun::of).collect())
}

/// Reads the last `limit` runs of one job, or of all jobs, with the newest run first.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn history(database: &Database, job: Option<&str>, limit: i64) -> Result<Vec<StoredRun>, Failure> {
    let filter = job.map_or_else(Document::new, |job| doc! { "job": job });
    let runs = collection(database, JOB_RUNS);
    let runs = with_deadline(runs.find(filter).sort(doc! { "scheduled_for": -1 }).limit(limit))
        .await
        .map_err(Failure::Read)?;
    let runs: Vec<Document> = with_deadline(runs.try_collect()).await.map_err(Failure::Read)?;
    Ok(runs.iter().map(StoredRun::of).collect())
}
