//! The gap ledger (spec 03, "When the token is gone") records each span of the stream that was not read. A gap is open
//! until a resync has repaired it. A gap is stored before a checkpoint passes it.

use bson::{DateTime, Timestamp, doc, oid::ObjectId};
use mongodb::Database;

use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::names::GAPS;
use crate::model::names::gap_state::{OPEN, REPAIRED};
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::{Writer, update_command};

/// Stores an open gap between two cluster times.
///
/// # Errors
/// As [`update_command::record`].
pub(crate) async fn open(
    writer: &Writer,
    from: Timestamp,
    to: Timestamp,
    cause: &str,
    now: DateTime,
) -> Result<(), Unfinished> {
    // The span is the key, so that a gap that is met again after a crash is stored once.
    let filter = doc! { "from": from, "to": to };
    let update = doc! { "$setOnInsert": {
        "_id": ObjectId::new(), "cause": cause, "state": OPEN, "opened_at": now,
    } };
    update_command::record(writer, GAPS, filter, update).await?;
    let seconds = i64::from(to.time) - i64::from(from.time);
    writer.note(TimelineEvent::GapOpened { cause: cause.to_owned(), seconds });
    Ok(())
}

/// True while a gap is not repaired.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn is_any_open(database: &Database) -> Result<bool, Failure> {
    let open = with_deadline(collection(database, GAPS).find_one(doc! { "state": OPEN })).await;
    Ok(open.map_err(Failure::Read)?.is_some())
}

/// Assigns all open gaps to a resync that begins now. Later gaps need another resync.
///
/// # Errors
/// As [`update_command::record`].
pub(crate) async fn assign(writer: &Writer, resync: ObjectId) -> Result<(), Unfinished> {
    update_command::change(writer, GAPS, doc! { "state": OPEN }, doc! { "$set": { "resync": resync } }).await
}

/// Marks the gaps that are assigned to a finished resync as repaired.
///
/// # Errors
/// As [`update_command::record`].
pub(crate) async fn repair(writer: &Writer, resync: ObjectId, now: DateTime) -> Result<(), Unfinished> {
    let filter = doc! { "state": OPEN, "resync": resync };
    let update = doc! { "$set": { "state": REPAIRED, "repaired_at": now } };
    let gaps = with_deadline(collection(writer.database(), GAPS).count_documents(filter.clone())).await;
    let gaps = i64::try_from(gaps.map_err(Failure::Read)?).unwrap_or(i64::MAX);
    update_command::change(writer, GAPS, filter, update).await?;
    if gaps > 0 {
        writer.note(TimelineEvent::GapsRepaired { gaps });
    }
    Ok(())
}
