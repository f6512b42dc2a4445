//! The stream: positions, batches, checkpoints, links, caches, gaps and resyncs, anonymisation; a primary that fails
//! over and rolls back, a lost history, kills and unanswered writes, steps to `shadow` and back. The plan of a batch and
//! the table of the phases are the product's own. One recruiter with one job and one user. Left out: the lease (one writer at a time) and what the service wrote and a
//! failover took back, which is here a write that never happened; shared jobs, references, dead letters.

mod actions;
mod apply;
mod documents;
mod planned;
mod settle;
mod state;
mod tests;

pub(crate) use actions::{Bounds, Protocol};
pub(crate) use state::Guards;
