//! The job `full-sync` (4.9): stores a command for the pipeline that touches every recruiter.

use crate::interruption::{Interruption, Unfinished};
use crate::maintenance::backfill_dry_run::run_dry;
use crate::maintenance::stored_commands::{Command, count};
use crate::source::scan::backfill_filter;
use crate::ticker::job_context::JobContext;

/// Waits for a backfill of all recruiters. A dry run projects all recruiters itself and writes nothing.
///
/// # Errors
/// As [`JobContext::submit`].
pub(super) async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    if job.is_dry_run() {
        let (context, stop) = (job.context.clone(), job.stop.clone());
        let (recruiters, dry_run) =
            Box::pin(run_dry(&context, job.phase, &backfill_filter(None, false), &stop, |_| {})).await?;
        job.report.matched = recruiters;
        job.report.changed = dry_run.created + dry_run.changed;
        return job.check();
    }
    let command = Command::Backfill { recruiter: None, active_only: false };
    let Some(outcome) = job.submit(&command).await? else { return Ok(()) };
    if !outcome.done {
        // The pipeline refuses a backfill only because the phase changed meanwhile.
        return Err(Interruption::PhaseChanged.into());
    }
    job.report.matched = count(&outcome.details, "recruiters");
    job.report.changed = count(&outcome.details, "created") + count(&outcome.details, "changed");
    Ok(())
}
