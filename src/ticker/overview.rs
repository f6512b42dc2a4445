//! The overview of the time-based jobs for the command line and the status page: whether a job is on, how its last run
//! went, and when the next run is due.

use bson::{DateTime, doc};
use mongodb::Database;

use super::job::TimedJob;
use super::stored_run::{StoredRun, newest};
use crate::config::TickerSettings;
use crate::error::Failure;
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
    pub last: Option<StoredRun>,
    /// The newest run that began and has not ended: it is under way, or put off.
    pub running: Option<StoredRun>,
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
