//! The job `verify`: makes a full verification. Metrics show its result, and the conditions of the phases depend on it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::super::report::ReportLine;
use crate::interruption::Unfinished;
use crate::ticker::job_context::JobContext;
use crate::ticker::ledger;

/// The interval at which the ledger is told how far the verification is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Compares all offers with their recruiters. Differences count as failed, so that a notice tells about them.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that further attempts do not cure.
pub(super) async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let is_stored = !job.is_dry_run();
    let length = crate::verify::length(&job.context).await?;
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    let verifying = Box::pin(crate::verify::full(&job.context, job.phase, job.stop.clone(), is_stored, &bar));
    let report = tokio::select! {
        report = verifying => report?,
        unfinished = tell_part(job, &bar, length) => return Err(unfinished),
    };
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

/// Stores how far the verification is, until it ends. Returns only when another term has the run. A failure is no matter:
/// the next look tells more.
async fn tell_part(job: &JobContext, bar: &ProgressBar, length: u64) -> Unfinished {
    loop {
        if let Some(access) = &job.write_access {
            let told =
                ledger::part(&job.context.database, access.fence.term, &access.run, bar.position(), length).await;
            if let Err(interrupted @ Unfinished::Interrupted(_)) = told {
                return interrupted;
            }
        }
        tokio::time::sleep(TOLD_EVERY).await;
    }
}
