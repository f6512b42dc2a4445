//! A step to another phase: a stored command, two leaders one after the other, a transaction whose commit is held up, a
//! gap that opens meanwhile, a change by hand. Conditions, neighbours, fence and step are the product's own. Left out:
//! the lease (a leader that has lost it goes on here for as long as it likes) and the tombstone (it is in the same
//! transaction).

mod actions;
mod state;
mod tests;

pub(crate) use actions::{Guards, Protocol};
