//! The document `throttle` of the state: the ceiling that an operator ordered, and why work is slowed now. So another process
//! can tell it, and the next leader keeps to the order.

use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use mongodb::Database;

use super::throttle::{Pressure, Slowed};
use super::{Writer, update_command};
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::names::STATE;
use crate::model::names::state_id::{LEASE, THROTTLE};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// The document `throttle`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct StoredThrottle {
    /// The ceiling that an operator ordered, in writes per second; `None` where the configuration decides.
    pub ordered: Option<u32>,
    /// Why the holder of the lease slows work; `None` while it does not.
    pub slowed: Option<Slowed>,
}

impl StoredThrottle {
    /// Reads the document.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database) -> Result<Self, Failure> {
        let stored = stored(database).await?;
        let number = |document: &Document, field: &str| document.get(field).and_then(Bson::as_i64);
        let slowed = stored.get_document("slowed").ok().and_then(|slowed| {
            let word = slowed.get_str("pressure").ok()?;
            Some(Slowed {
                pressure: Pressure::ALL.into_iter().find(|pressure| pressure.word() == word)?,
                value: Duration::from_millis(number(slowed, "milliseconds")?.unsigned_abs()),
                stream: slowed.get_bool("stream").unwrap_or_default(),
            })
        });
        // A leadership may have been killed while it slowed its work.
        let slowed = if slowed.is_some() && is_of_holder(database, &stored).await? { slowed } else { None };
        Ok(Self { ordered: number(&stored, "ordered").and_then(|ordered| u32::try_from(ordered).ok()), slowed })
    }
}

async fn stored(database: &Database) -> Result<Document, Failure> {
    let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": THROTTLE })).await;
    Ok(stored.map_err(Failure::Read)?.unwrap_or_default())
}

/// True if the lease is held under the term of the document.
async fn is_of_holder(database: &Database, stored: &Document) -> Result<bool, Failure> {
    let held = doc! { "_id": LEASE, "term": stored.get("term"), "$expr": { "$gt": ["$expires_at", "$$NOW"] } };
    let held = with_deadline(collection(database, STATE).find_one(held)).await;
    Ok(held.map_err(Failure::Read)?.is_some())
}

/// The begin of a slowed time whose end nobody told: the leadership was killed, or lost its lease.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn slowed_since(database: &Database) -> Result<Option<DateTime>, Failure> {
    let stored = stored(database).await?;
    Ok(stored.get_document("slowed").ok().and_then(|slowed| slowed.get_datetime("since").ok().copied()))
}

/// Stores the order of an operator; `None` where the configuration decides from now on.
///
/// # Errors
/// As [`update_command::record`].
pub(crate) async fn store_order(
    writer: &Writer,
    term: i64,
    ordered: Option<u32>,
    (who, reason, at): (&str, &str, DateTime),
) -> Result<(), Unfinished> {
    let ordered = ordered.map(i64::from);
    let order = doc! { "ordered": ordered, "who": who, "reason": reason, "at": at, "term": term };
    set(writer, term, doc! { "$set": order }).await
}

/// Stores why work is slowed, and since when; `None` while it is not. The time of this small write measures the pressure, so it
/// always changes something.
///
/// # Errors
/// As [`update_command::record`].
pub(crate) async fn store_slowed(
    writer: &Writer,
    term: i64,
    slowed: Option<(Slowed, DateTime)>,
) -> Result<(), Unfinished> {
    let slowed = slowed.map(|(Slowed { pressure, value, stream }, since)| {
        let milliseconds = i64::try_from(value.as_millis()).unwrap_or(i64::MAX);
        doc! { "pressure": pressure.word(), "milliseconds": milliseconds, "stream": stream, "since": since }
    });
    set(writer, term, doc! { "$set": { "slowed": slowed, "term": term }, "$currentDate": { "looked_at": true } }).await
}

async fn set(writer: &Writer, term: i64, update: Document) -> Result<(), Unfinished> {
    let filter = doc! { "_id": THROTTLE, "term": { "$not": { "$gt": term } } };
    update_command::record(writer, STATE, filter, update).await
}
