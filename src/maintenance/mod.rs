//! The work beside the stream: stored commands, resyncs, backfills, replays, retries of dead letters, gaps.

pub(crate) mod backfill;
pub(crate) mod backfill_dry_run;
pub(crate) mod backfill_mirror;
pub(crate) mod command;
pub(crate) mod command_end;
pub(crate) mod gaps;
pub(crate) mod other_ids;
mod phase_step;
pub(crate) mod refused;
pub(crate) mod repairs;
pub(crate) mod replay;
pub(crate) mod resync;
mod resync_stage;
pub(crate) mod retry_dead_letters;
pub(crate) mod span;
pub(crate) mod stored_commands;
pub(crate) mod unfinished_commands;
pub(crate) mod worker;
