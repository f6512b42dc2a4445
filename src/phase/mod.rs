//! The phase, which says whether `recruiters` or `jobs_partners` is the authority (spec 04): the rules of each phase,
//! the stored phase, and the conditions of a step. Everything that writes asks the phase first.

pub(crate) mod late_writes;
mod phase_table;
pub(crate) mod sides;
pub(crate) mod state;
pub(crate) mod step_conditions;
pub(crate) mod stored_verification;
pub(crate) mod watcher;

pub use crate::config::Phase;
pub use phase_table::{StepDirection, StreamWrites};
