//! Reports the end of a run to the log, the metrics and the notices: counts and labels, never a value of a document.

use std::time::Duration;

use bson::DateTime;
use tracing::{info, warn};

use super::ledger::{RunEnd, RunOutcome};
use super::report::{JobReport, notice};
use super::ticker_command::JobOrder;
use crate::context::Context;
use crate::model::time::seconds as since_1970;
use crate::model::timeline::TimelineEvent;
use crate::write::Writer;

/// A run that has ended.
pub(super) struct EndedRun<'a> {
    pub(super) job_order: JobOrder,
    /// The time by which the run's rules went.
    pub(super) now: DateTime,
    pub(super) end: &'a RunEnd,
    pub(super) report: &'a JobReport,
    /// The duration of the run.
    pub(super) took: Duration,
}

/// Writes one line to the log, updates the metrics, and sends a notice if the run changed or failed something.
pub(super) fn tell(context: &Context, run: &EndedRun<'_>) {
    let EndedRun { job_order, now, end, report, took } = *run;
    let (job, outcome, metrics) = (job_order.name(), end.outcome.as_str(), &context.metrics);
    metrics.job_runs(job_order, end.outcome, 1);
    metrics.job_ran(job_order, took, report.changed);
    if end.outcome == RunOutcome::Done {
        metrics.set_job_last_success(job_order, since_1970(now));
    }
    let error = end.error.as_deref().filter(|_| end.outcome == RunOutcome::Failed);
    context.notices.tell(notice(job, report, error));
    let JobReport { matched, changed, failed, .. } = *report;
    let seconds = took.as_secs();
    match end.outcome {
        RunOutcome::Failed => warn!(job, seconds, error = end.error, matched, changed, failed, "a job failed"),
        _ if matched + changed + failed > 0 => {
            info!(job, outcome, seconds, matched, changed, failed, "a job has run");
        }
        _ => tracing::debug!(job, outcome, seconds, "a job has run"),
    }
}

/// Tells the timeline of a run that failed.
pub(super) fn note(writer: &Writer, run: &EndedRun<'_>) {
    if run.end.outcome == RunOutcome::Failed {
        let failed = i64::try_from(run.report.failed).unwrap_or(i64::MAX);
        writer.note(TimelineEvent::JobFailed { job: run.job_order.name(), failed, error: run.end.error.clone() });
    }
}
