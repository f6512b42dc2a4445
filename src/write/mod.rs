//! Stage 5, WRITE: offers, links and dead letters, in commands whose acknowledgement by a majority is
//! asked for and checked. It must not decide what to write: that is the plan's and the projection's.

pub(crate) mod anonymize;
pub mod command;
pub(crate) mod create;
pub(crate) mod dead_letter;
pub(crate) mod dead_letters;
pub(crate) mod links;
pub(crate) mod statements;
pub(crate) mod transaction;
pub(crate) mod writer;

pub use writer::Writer;
