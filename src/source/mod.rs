//! Stage 1, READ: where touches come from: the change stream and the scans. Every source closes its
//! batches with a position; none of them writes documents.

pub mod cursor;
pub mod event;
pub mod pipeline;
pub mod replay;
pub mod scan;
pub mod undeliverable;
