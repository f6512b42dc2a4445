//! Stage 1, READ: where touches come from: the change stream and the scans. Every source closes its
//! batches with a position; none of them writes documents.

pub mod cursor;
pub mod event;
pub mod oplog;
pub mod pipeline;
pub mod primary;
pub mod replay;
pub mod scan;
pub mod undeliverable;

/// The watched database's collection of offers, the target; a source of events for a replay only.
pub const OFFERS: &str = "jobs_partners";
