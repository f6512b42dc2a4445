//! READ, the first stage: the change stream and the scans, from which touches come. Every source closes its batches
//! with a position. No source writes documents.

pub(crate) mod aggregation;
pub(crate) mod cursor;
pub(crate) mod event;
pub(crate) mod replay;
pub(crate) mod scan;
pub(crate) mod undeliverable;
