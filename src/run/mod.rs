//! Stage 6, RUN: joins the stages into one pipeline and keeps it alive: checkpoints, the lease, the
//! tasks and their end.

pub mod affected_recruiters;
pub mod apply;
pub mod backfill;
pub mod canary;
pub mod checkpoint;
mod chunk;
mod conflict_policy;
pub mod dry_run;
pub mod failpoint;
pub mod gaps;
pub mod history;
mod interleave;
pub mod lead;
pub mod lease;
mod link_changes;
pub mod maintenance_worker;
pub mod phase_watcher;
pub mod pipeline;
pub mod portion;
pub mod preemption;
pub mod preflight;
pub mod reader;
pub mod removal;
pub mod replay;
pub mod replaying;
pub mod requests;
pub mod resync;
pub mod retrying;
mod shared;
pub mod sources;
pub mod start;
pub mod submit;
pub mod tasks;
pub mod unusable;
