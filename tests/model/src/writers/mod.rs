//! Two writers: applications write job and offer, the service projects (`dual-write`) or mirrors (`shadow`), and any
//! write may come between a read and its write. Projection, comparison, newest wins, statements and conditions of a step
//! are the product's own; an offer is the document itself. The mirror is a sketch of spec 10, "The mirror (phase
//! `shadow`)": a title and its date. Left out: `sync` and `retired`, statuses, and applications that write a side twice
//! in the wrong order.

mod actions;
mod documents;
mod state;
mod tests;

pub(crate) use actions::{Bounds, Protocol};
pub(crate) use state::Guards;
