//! The line of the log about the end of a stored command. Both lanes of commands write it.

use bson::Bson;
use tracing::{info, warn};

use super::stored_commands::{CommandOutcome, StoredCommand};
use crate::clock;

/// Tells the log the end of a command. The reasons of a refusal are our own words; what a person typed is not among
/// them.
pub(crate) fn tell(stored: &StoredCommand, outcome: &CommandOutcome) {
    let (command, order) = (stored.id.to_hex(), stored.command.name());
    let seconds = (clock::now().timestamp_millis() - stored.requested_at.timestamp_millis()) / 1000;
    if outcome.done {
        info!(command, order, seconds, "a command is finished");
    } else {
        let reasons = outcome.details.get_array("reasons").map(Vec::as_slice).unwrap_or_default();
        let reason = reasons.iter().filter_map(Bson::as_str).collect::<Vec<_>>().join("; ");
        warn!(command, order, seconds, reason, "a command is refused");
    }
}
