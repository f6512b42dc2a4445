//! What a comparison takes for no difference while the mirror is on (spec 10, "The mirror (phase `shadow`)").

use crate::context::Context;
use crate::phase::Phase;

/// The rules of a comparison while the mirror is on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MirrorRules {
    /// A dead letter about what cannot be mirrored explains the differences of its offer. This does not hold for a
    /// comparison before a step back: there the offer would be overwritten.
    pub explains: bool,
    /// A cancelled job may lack its offer: the mirror cancelled the job when the offer was deleted.
    pub deletes: bool,
    /// A field that only repeats others may have an earlier value where the stream writes no offers.
    pub repetitions_differ: bool,
}

impl MirrorRules {
    /// The rules of a comparison as in phase `to`, while the database is in phase `from`.
    pub(crate) fn of(context: &Context, from: Phase, to: Phase) -> Self {
        let keeps_backup = context.settings.phase.keep_recruiters_backup;
        let mirrors = from.mirrors(keeps_backup);
        Self { explains: to.mirrors(keeps_backup), deletes: mirrors, repetitions_differ: !from.writes_offers() }
    }
}
