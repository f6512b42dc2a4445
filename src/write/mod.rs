//! Stage 5, WRITE: writes offers, links and dead letters, and checks that a majority acknowledges each write.
//! This stage does not decide what to write. The plan and the projection do that.

mod accepted;
pub(crate) mod anonymize;
pub(crate) mod command_limit;
pub(crate) mod create;
pub(crate) mod dead_letter;
pub(crate) mod dead_letters;
pub(crate) mod fence_document;
pub(crate) mod lease_check;
pub(crate) mod links;
pub(crate) mod own_writes;
pub(crate) mod recorder;
mod refused_fields;
pub(crate) mod selected_dead_letters;
pub(crate) mod statements;
pub(crate) mod stored_dead_letter;
pub(crate) mod stored_throttle;
pub(crate) mod throttle;
pub(crate) mod timeline;
pub(crate) mod transaction;
pub mod update_command;
pub(crate) mod update_reply;

pub use lease_check::Writer;
