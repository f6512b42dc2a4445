//! The leader is the instance that holds the lease. It reads the stream, applies the events and saves the position.

pub(crate) mod canary;
pub(crate) mod checkpoint;
pub(crate) mod checkpoint_origin;
pub(crate) mod control;
pub(crate) mod dropped_source_repair;
pub(crate) mod during_pause;
mod foreign_counts;
pub(crate) mod foreign_minutes;
mod foreign_write_watch;
pub(crate) mod halt;
pub(crate) mod late_write_watch;
pub(crate) mod lead;
mod leadership_event;
pub(crate) mod maintenance_steps;
pub(crate) mod minutes;
mod outage_event;
pub(crate) mod pause;
pub(crate) mod pressure_watch;
pub(crate) mod reader;
pub(crate) mod schema_memory;
pub(crate) mod start_position;
pub(crate) mod stream_loop;
