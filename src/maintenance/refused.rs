//! Refusals of stored commands, with their reasons.

use bson::{Bson, doc};

use super::stored_commands::CommandOutcome;
use crate::phase::Phase;

/// Makes the refusal of a command that projects, in a phase with `jobs_partners` as the authority (spec 04). There a
/// projection would overwrite newer offers.
pub(super) fn refused_by(phase: Phase) -> Option<CommandOutcome> {
    let reason =
        || format!("in phase {} jobs_partners is the authority: no offer is written from recruiters", phase.word());
    (!phase.writes_offers()).then(|| refused([reason()]))
}

/// Makes the outcome of a command that is refused for these reasons.
pub(crate) fn refused(reasons: impl IntoIterator<Item = String>) -> CommandOutcome {
    let reasons: Vec<Bson> = reasons.into_iter().map(Bson::from).collect();
    CommandOutcome { done: false, details: doc! { "reasons": reasons } }
}
