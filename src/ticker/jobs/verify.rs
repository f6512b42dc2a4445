//! `verify`: the full verification, whose result the metrics and the conditions of the phases rest on.

use super::super::report::ReportLine;
use crate::error::Failure;
use crate::ticker::job_context::JobContext;

/// Runs the job. What differs counts as failed, so that somebody is told.
///
/// # Errors
/// A [`Failure`] that trying again does not mend.
pub(super) async fn run(work: &mut JobContext) -> Result<(), Failure> {
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
