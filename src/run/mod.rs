//! Stage 6, RUN: joins the stages into one pipeline and keeps it alive: checkpoints, the lease, the
//! tasks and their end.

pub mod apply;
pub mod ask;
mod authority;
pub mod backfill;
pub mod background;
mod between;
pub mod canary;
pub mod checkpoint;
mod chunk;
pub mod failpoint;
pub mod follow;
pub mod following;
pub mod gaps;
pub mod gone;
pub mod history;
pub mod lead;
pub mod lease;
mod linked;
pub mod pipeline;
pub mod portion;
pub mod preflight;
pub mod reader;
pub mod rehearsal;
pub mod replay;
pub mod replaying;
pub mod requests;
pub mod resync;
pub mod retrying;
mod shared;
pub mod sources;
pub mod start;
pub mod tasks;
pub mod turn;
pub mod unusable;
