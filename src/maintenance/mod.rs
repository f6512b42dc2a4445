//! What goes on beside the stream: commands, resyncs, backfills, replays, gaps.

pub mod backfill;
pub mod gaps;
pub mod queue;
pub mod replay;
pub mod resync;
pub mod retry_dead_letters;
pub mod unusable;
pub mod worker;
