//! What there is to see of the jobs: whether they are on, how the last run went, when the next one is due. For the
//! command line and the status page.

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::job::TimedJob;
use crate::config::TickerSettings;
use crate::error::Failure;
use crate::maintenance::queue::count;
use crate::model::names::JOB_RUNS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::schedule::{Schedule, zone};

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// Its name.
    pub job: &'static str,
    /// Whether it runs by itself.
    pub enabled: bool,
    /// Its expressions.
    pub crons: Vec<String>,
    /// When it is due next; `None` for one that does not run by itself.
    pub next: Option<DateTime>,
    /// Its last run that has ended.
    pub last: Option<Run>,
    /// A run that is under way.
    pub running: Option<Run>,
}

/// One run, as the history holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The job, or what else was run by hand.
    pub job: String,
    /// When it was due.
    pub scheduled_for: Option<DateTime>,
    /// Whether somebody asked for it.
    pub by_hand: bool,
    /// When it began; `None` for one that never did.
    pub started: Option<DateTime>,
    /// When it ended.
    pub finished: Option<DateTime>,
    /// `done`, `failed`, `missed`, `skipped`; `None` while it has not ended.
    pub outcome: Option<String>,
    /// Documents that were selected.
    pub matched: u64,
    /// Documents that were changed.
    pub changed: u64,
    /// Documents that could not be.
    pub failed: u64,
    /// Documents that were left as they are, by reason.
    pub skipped: Document,
    /// Why it was not done, without personal data.
    pub error: Option<String>,
    /// For what was missed or skipped, how many occurrences it stands for.
    pub occurrences: u64,
    /// Its first lines, as they are stored.
    pub lines: Vec<Bson>,
}

/// Every job.
///
/// # Errors
/// [`Failure::Read`].
pub async fn overview(database: &Database, settings: &TickerSettings, now: DateTime) -> Result<Vec<Overview>, Failure> {
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

/// The last runs, the newest first; of one job, or of all.
///
/// # Errors
/// [`Failure::Read`].
pub async fn history(database: &Database, job: Option<&str>, limit: i64) -> Result<Vec<Run>, Failure> {
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
