//! The job `retry-dead-letters`: stores a command for the pipeline that retries the dead letters that are due.

use super::super::report::ReportLine;
use crate::interruption::Unfinished;
use crate::maintenance::stored_commands::{Command, count};
use crate::ticker::job_context::JobContext;
use crate::write::dead_letters::due;

/// Waits for the retry of the dead letters that are due. The report counts the dead letters that are gone as changed. A
/// dry run only reports the documents of due dead letters.
///
/// # Errors
/// As [`JobContext::order`].
pub(super) async fn run(work: &mut JobContext) -> Result<(), Unfinished> {
    let due = due(&work.context.database, work.now).await?;
    work.report.matched = (due.recruiters.len() + due.offers.len() + due.others.len()) as u64;
    if work.is_dry_run() {
        due.recruiters.into_iter().for_each(|id| work.tell(ReportLine::new(id, "due", [""; 0])));
        due.offers.into_iter().for_each(|id| work.tell(ReportLine::new(id, "due", [""; 0])));
        return Ok(());
    }
    if work.report.matched == 0 {
        return Ok(());
    }
    if let Some(outcome) = work.order(&Command::RetryDeadLetters { due_at: Some(work.now) }).await? {
        work.report.changed = count(&outcome.details, "before").saturating_sub(count(&outcome.details, "after"));
    }
    Ok(())
}
