//! The gap ledger (spec 03, "When the token is gone"): each span of the stream that was not read, open
//! until a resync has repaired it. Durable before anything after the gap is checkpointed.

use bson::{DateTime, Timestamp, doc, oid::ObjectId};

use crate::error::Failure;
use crate::model::names::GAPS;
use crate::write::{Writer, command};

/// Writes an open gap.
///
/// # Errors
/// As [`command::record`].
pub(crate) async fn open(
    writer: &Writer,
    (from, to): (Timestamp, Timestamp),
    cause: &str,
    now: DateTime,
) -> Result<(), Failure> {
    // Keyed by its span: the same gap, met again after a crash, is one gap.
    let filter = doc! { "from": from, "to": to };
    let update = doc! { "$setOnInsert": {
        "_id": ObjectId::new(), "cause": cause, "state": "open", "opened_at": now,
    } };
    command::record(writer, GAPS, filter, update).await
}

/// Gives the gaps that are open to a resync that begins now.
///
/// # Errors
/// As [`command::record`].
pub(crate) async fn assign(writer: &Writer, resync: ObjectId) -> Result<(), Failure> {
    command::change(writer, GAPS, doc! { "state": "open" }, doc! { "$set": { "resync": resync } }).await
}

/// Marks the gaps of a resync as repaired.
///
/// # Errors
/// As [`command::record`].
pub(crate) async fn repair(writer: &Writer, resync: ObjectId, now: DateTime) -> Result<(), Failure> {
    let filter = doc! { "state": "open", "resync": resync };
    let update = doc! { "$set": { "state": "repaired", "repaired_at": now } };
    command::change(writer, GAPS, filter, update).await
}
