//! The lease and the fence: two instances, members with clocks of their own, a primary that fails over and loses what no
//! majority had, commands that are held up on their way. The updates of the lease, the limits of a write and the fence
//! are the product's own. Left out: a primary that is cut off and does not know it (what it accepts is rolled back), and
//! the documents that a write changes: only its term and its time matter here.

mod actions;
mod state;
mod tests;

pub(crate) use actions::{Bounds, Guards, Protocol};
