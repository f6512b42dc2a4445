//! Who is the authority, `recruiters` or `jobs_partners` (spec 04): the rules of each phase, its state in
//! MongoDB, the way from one to the next. Everything that writes asks the phase first.

pub(crate) mod guards;
mod rules;
pub(crate) mod state;
pub(crate) mod watcher;

pub use crate::config::Phase;
pub(crate) use rules::{StepDirection, StreamWrites};
