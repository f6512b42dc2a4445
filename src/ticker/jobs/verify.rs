//! The job `verify`: makes a full verification. Metrics show its result, and the conditions of the phases depend on it.

use super::super::report::ReportLine;
use crate::interruption::Unfinished;
use crate::ticker::job_context::JobContext;

/// Compares all offers with their recruiters. Differences count as failed, so that a notice tells about them.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that further attempts do not cure.
pub(super) async fn run(work: &mut JobContext) -> Result<(), Unfinished> {
    let is_stored = !work.is_dry_run();
    let report = Box::pin(crate::verify::full(&work.context, work.phase, work.stop.clone(), is_stored)).await?;
    work.check()?;
    work.report.matched = report.offers;
    work.report.failed = report.differences;
    for (kind, found) in report.kinds {
        for id in found.ids {
            work.tell(ReportLine { id, what: kind.as_str(), fields: Vec::new() });
        }
    }
    Ok(())
}
