//! Stage 5, WRITE: offers, links and dead letters, in commands whose acknowledgement by a majority is
//! asked for and checked. It must not decide what to write: that is the plan's and the projection's.

pub mod anonymize;
pub mod command;
pub mod create;
pub mod dead_letter;
pub mod dead_letters;
pub mod links;
pub mod statements;
pub mod transaction;
pub mod writer;

pub use writer::Writer;
