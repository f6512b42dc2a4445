//! The job `verify`: makes a full verification. Metrics show its result, and the conditions of the phases depend on it.

use indicatif::ProgressBar;

use super::super::report::ReportLine;
use crate::interruption::Unfinished;
use crate::ticker::job_context::JobContext;

/// Compares all offers with their recruiters. Differences count as failed, so that a notice tells about them.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that further attempts do not cure.
pub(super) async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let is_stored = !job.is_dry_run();
    let report =
        Box::pin(crate::verify::full(&job.context, job.phase, job.stop.clone(), is_stored, &ProgressBar::hidden()))
            .await?;
    job.check()?;
    job.report.matched = report.offers;
    job.report.failed = report.differences;
    for (kind, found) in report.kinds {
        for id in found.ids {
            job.tell(ReportLine { id, what: kind.as_str(), fields: Vec::new() });
        }
    }
    Ok(())
}
