//! The gap ledger (spec 03, "When the token is gone"): each span of the stream that was not read, open
//! until a resync has repaired it. Durable before anything after the gap is checkpointed.

use bson::{DateTime, Timestamp, doc, oid::ObjectId};
use mongodb::Database;

use crate::answer::answered;
use crate::error::Failure;
use crate::fetch::raw;

/// The collection.
pub const GAPS: &str = "stream_processor_gaps";

/// Writes an open gap.
///
/// # Errors
/// [`Failure::Write`].
pub async fn open(
    database: &Database,
    (from, to): (Timestamp, Timestamp),
    cause: &str,
    now: DateTime,
) -> Result<(), Failure> {
    // Keyed by its span: the same gap, met again after a crash, is one gap.
    let filter = doc! { "from": from, "to": to };
    let update = doc! { "$setOnInsert": {
        "_id": ObjectId::new(), "cause": cause, "state": "open", "opened_at": now,
    } };
    answered(raw(database, GAPS).update_one(filter, update).upsert(true)).await.map_err(Failure::Write)?;
    Ok(())
}

/// Gives the gaps that are open to a resync that begins now.
///
/// # Errors
/// [`Failure::Write`].
pub async fn assign(database: &Database, resync: ObjectId) -> Result<(), Failure> {
    let update = doc! { "$set": { "resync": resync } };
    answered(raw(database, GAPS).update_many(doc! { "state": "open" }, update)).await.map_err(Failure::Write)?;
    Ok(())
}

/// Marks the gaps of a resync as repaired.
///
/// # Errors
/// [`Failure::Write`].
pub async fn repair(database: &Database, resync: ObjectId, now: DateTime) -> Result<(), Failure> {
    let filter = doc! { "state": "open", "resync": resync };
    let update = doc! { "$set": { "state": "repaired", "repaired_at": now } };
    answered(raw(database, GAPS).update_many(filter, update)).await.map_err(Failure::Write)?;
    Ok(())
}
