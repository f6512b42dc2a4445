//! Who is the authority, `recruiters` or `jobs_partners` (spec 04): the rules of each phase, its state in
//! MongoDB, the way from one to the next. Everything that writes asks the phase first.

pub mod guards;
mod rules;
pub mod state;
pub mod watcher;

pub use crate::config::Phase;
pub use rules::{Row, StepDirection, StreamWrites};
