//! The overview of the time-based jobs for the command line and the status page: whether a job is on, how its last run
//! went, and when the next run is due.

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::job::TimedJob;
use crate::config::TickerSettings;
use crate::error::Failure;
use crate::maintenance::stored_commands::count;
use crate::model::names::JOB_RUNS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::schedule::{Schedule, zone};

/// The settings and the last runs of one time-based job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Overview {
    /// The name of the job, see [`TimedJob::name`].
    pub job: &'static str,
    /// True where the job runs by its schedule: the ticker and the job are both enabled.
    pub enabled: bool,
    /// The configured cron expressions.
    pub crons: Vec<String>,
    /// The next occurrence; `None` for a job that is off.
    pub next: Option<DateTime>,
    /// The last run that has ended, was missed or was skipped.
    pub last: Option<Run>,
    /// The newest run that began and has not ended: it is under way, or put off.
    pub running: Option<Run>,
}

/// One document of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
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
    /// The number of selected documents.
    pub matched: u64,
    /// The number of changed documents.
    pub changed: u64,
    /// The number of documents that could not be changed.
    pub failed: u64,
    /// The numbers of documents that were left unchanged, by reason.
    pub skipped: Document,
    /// The reason why the run was not done, without personal data.
    pub error: Option<String>,
    /// The number of occurrences that a missed or skipped document stands for; one for a run.
    pub occurrences: u64,
    /// The first lines of the report, as they are stored.
    pub lines: Vec<Bson>,
}

/// The overview of every job, in the order of [`TimedJob::ALL`].
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn overview(
    database: &Database,
    settings: &TickerSettings,
    now: DateTime,
) -> Result<Vec<Overview>, Failure> {
    let mut jobs = Vec::new();
    for job in TimedJob::ALL {
        let configured = settings.jobs.get(job.name());
        let enabled = settings.enabled && configured.is_some_and(|job| job.enabled);
        let crons = configured.map(|job| job.crons.clone()).unwrap_or_default();
        let schedule = zone(&settings.time_zone).and_then(|zone| Schedule::parse(&crons, zone).ok());
        let next = schedule.filter(|_| enabled).and_then(|schedule| schedule.next_after(now));
        let last = newest(database, job, doc! { "$ne": null }).await?;
        let running = newest(database, job, doc! { "$eq": null }).await?.filter(|run| run.started.is_some());
        jobs.push(Overview { job: job.name(), enabled, crons, next, last, running });
    }
    Ok(jobs)
}

async fn newest(database: &Database, job: TimedJob, outcome: Document) -> Result<Option<Run>, Failure> {
    let of_job = doc! { "job": job.name(), "outcome": outcome };
    let runs = collection(database, JOB_RUNS);
    let newest = runs.find_one(of_job).sort(doc! { "scheduled_for": -1 });
    Ok(with_deadline(newest).await.map_err(Failure::Read)?.as_ref().map(read))
}

/// The last `limit` runs of one job, or of all jobs, with the newest run first.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn history(database: &Database, job: Option<&str>, limit: i64) -> Result<Vec<Run>, Failure> {
    let filter = job.map_or_else(Document::new, |job| doc! { "job": job });
    let runs = collection(database, JOB_RUNS);
    let runs = with_deadline(runs.find(filter).sort(doc! { "scheduled_for": -1 }).limit(limit))
        .await
        .map_err(Failure::Read)?;
    let runs: Vec<Document> = with_deadline(runs.try_collect()).await.map_err(Failure::Read)?;
    Ok(runs.iter().map(read).collect())
}

fn read(stored: &Document) -> Run {
    let date = |field: &str| stored.get_datetime(field).ok().copied();
    let text = |field: &str| stored.get_str(field).ok().map(ToOwned::to_owned);
    Run {
        job: text("job").unwrap_or_default(),
        scheduled_for: date("scheduled_for"),
        by_hand: stored.get_bool("by_hand").unwrap_or_default(),
        started: date("started"),
        finished: date("finished"),
        outcome: text("outcome"),
        matched: count(stored, "matched"),
        changed: count(stored, "changed"),
        failed: count(stored, "failed"),
        skipped: stored.get_document("skipped").cloned().unwrap_or_default(),
        error: text("error"),
        occurrences: count(stored, "occurrences").max(1),
        lines: stored.get_array("lines").cloned().unwrap_or_default(),
    }
}
