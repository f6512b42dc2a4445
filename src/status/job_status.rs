//! The part of the status document about one time-based job.

use serde::Serialize;

use super::time::text;
use crate::ticker::overview::Overview;

/// A time-based job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JobStatus {
    pub name: &'static str,
    /// True when the job runs by itself.
    pub enabled: bool,
    /// The cron expressions, in the time zone of the jobs; empty for a job that runs by hand only.
    pub crons: Vec<String>,
    /// The next occurrence (RFC 3339); null for a job that does not run by itself.
    pub next: Option<String>,
    /// The start of the present run (RFC 3339); null when the job is not running.
    pub running_since: Option<String>,
    /// The last run that has ended; null when there was none.
    pub last: Option<RunStatus>,
}

/// An ended run of a time-based job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunStatus {
    /// `done`, `failed`, `missed` or `skipped`.
    pub outcome: String,
    /// The end of the run, or the time of the occurrence when the run never began (RFC 3339).
    pub at: Option<String>,
    /// The time from the beginning to the end, in seconds; null for an occurrence that was not run.
    pub seconds: Option<u64>,
    /// The reason why the run was not done, without personal data; null for a run that was done.
    pub error: Option<String>,
    /// Documents that the run changed.
    pub changed: u64,
    /// Documents that the run could not change.
    pub failed: u64,
}

impl From<&Overview> for JobStatus {
    fn from(job: &Overview) -> Self {
        Self {
            name: job.job,
            enabled: job.enabled,
            crons: job.crons.clone(),
            next: job.next.map(text),
            running_since: job.running.as_ref().and_then(|run| run.started).map(text),
            last: job.last.as_ref().map(|run| RunStatus {
                outcome: run.outcome.clone().unwrap_or_default(),
                at: run.finished.or(run.scheduled_for).map(text),
                seconds: run.seconds(),
                error: run.error.clone(),
                changed: run.changed.unwrap_or_default(),
                failed: run.failed.unwrap_or_default(),
            }),
        }
    }
}
