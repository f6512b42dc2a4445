//! The line of the log and the event of the timeline about the end of a stored command. All lanes of commands tell it.

use bson::Bson;
use tracing::{info, warn};

use super::stored_commands::{CommandOutcome, Lane, StoredCommand};
use crate::clock;
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
