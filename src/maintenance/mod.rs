//! The work beside the stream: stored commands, resyncs, backfills, replays, retries of dead letters, gaps.

pub(crate) mod backfill;
mod backfill_steps;
pub(crate) mod command_end;
pub(crate) mod gaps;
pub(crate) mod other_ids;
mod refused;
pub(crate) mod replay;
pub(crate) mod resync;
pub(crate) mod retry_dead_letters;
pub(crate) mod stored_commands;
pub(crate) mod worker;
