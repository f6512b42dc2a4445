//! The line of the log and the event of the timeline about the end of a stored command. All lanes of commands tell it.

use bson::Bson;
use tracing::{info, warn};

use super::refused::refused;
use super::stored_commands::{self, CANCELLED, CommandOutcome, Lane, StoredCommand};
use crate::clock;
use crate::interruption::Unfinished;
use crate::model::timeline::TimelineEvent;
use crate::write::Writer;

/// Tells the log and the timeline the end of a command. The commands of the control have events of their own. The reasons
/// of a refusal are our own words; what a person typed is not among them.
pub(crate) fn tell(writer: &Writer, stored: &StoredCommand, outcome: &CommandOutcome) {
    let (command, order) = (stored.id.to_hex(), stored.command.name());
    let seconds = (clock::now().timestamp_millis() - stored.requested_at.timestamp_millis()) / 1000;
    let reasons = outcome.details.get_array("reasons").map(Vec::as_slice).unwrap_or_default();
    let reason = reasons.iter().filter_map(Bson::as_str).collect::<Vec<_>>().join("; ");
    if outcome.done {
        info!(command, order, seconds, "a command is finished");
    } else {
        warn!(command, order, seconds, reason, "a command is refused");
    }
    if stored.command.lane() != Lane::Control {
        writer.note(TimelineEvent::CommandEnded {
            command: order,
            done: outcome.done,
            reason: (!outcome.done).then_some(reason),
            counts: outcome.details.clone(),
        });
    }
}

/// Ends the commands that a person cancelled. Only for a holder of the lease that carries none out, because the service is
/// paused or halted: nobody else ends them.
///
/// # Errors
/// As [`stored_commands::take_up_cancelled`] and [`stored_commands::finish`].
pub(crate) async fn end_cancelled(writer: &Writer, term: i64) -> Result<(), Unfinished> {
    let database = writer.database();
    while let Some(stored) = stored_commands::take_up_cancelled(database, term).await? {
        let outcome = refused([CANCELLED.to_owned()]);
        stored_commands::finish(database, stored.id, term, &outcome).await?;
        tell(writer, &stored, &outcome);
    }
    Ok(())
}
