//! The job `retry-dead-letters`: stores a command for the pipeline that retries the dead letters that are due.

use super::super::report::ReportLine;
use crate::interruption::Unfinished;
use crate::maintenance::stored_commands::{Command, count};
use crate::ticker::job_context::JobContext;
use crate::write::selected_dead_letters::due;

/// Waits for the retry of the dead letters that are due. The report counts the dead letters that are gone as changed. A
/// dry run only reports the documents of due dead letters.
///
/// # Errors
/// As [`JobContext::submit`].
pub(super) async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let due = due(&job.context.database, job.now).await?;
    job.report.matched = (due.recruiters.len() + due.offers.len() + due.others.len()) as u64;
    if job.is_dry_run() {
        due.recruiters.into_iter().for_each(|id| job.tell(ReportLine::new(id, "due", [""; 0])));
        due.offers.into_iter().for_each(|id| job.tell(ReportLine::new(id, "due", [""; 0])));
        return Ok(());
    }
    if job.report.matched == 0 {
        return Ok(());
    }
    if let Some(outcome) = job.submit(&Command::RetryDeadLetters { ids: Vec::new(), due_at: Some(job.now) }).await? {
        job.report.changed = count(&outcome.details, "before").saturating_sub(count(&outcome.details, "after"));
    }
    Ok(())
}
