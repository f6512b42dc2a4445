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
use crate::model::names::state_id::THROTTLE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// The document `throttle`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct StoredThrottle {
    /// The ceiling that an operator ordered, in writes per second; `None` where the configuration decides.
    pub ordered: Option<u32>,
    /// Why the leader slows work; `None` while it does not.
    pub slowed: Option<Slowed>,
}

impl StoredThrottle {
    /// Reads the document.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database) -> Result<Self, Failure> {
        let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": THROTTLE })).await;
        let stored = stored.map_err(Failure::Read)?.unwrap_or_default();
        let number = |document: &Document, field: &str| document.get(field).and_then(Bson::as_i64);
        let slowed = stored.get_document("slowed").ok().and_then(|slowed| {
            let word = slowed.get_str("pressure").ok()?;
            Some(Slowed {
                pressure: Pressure::ALL.into_iter().find(|pressure| pressure.word() == word)?,
                value: Duration::from_millis(number(slowed, "milliseconds")?.unsigned_abs()),
                stream: slowed.get_bool("stream").unwrap_or_default(),
            })
        });
        Ok(Self { ordered: number(&stored, "ordered").and_then(|ordered| u32::try_from(ordered).ok()), slowed })
    }
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
    set(writer, term, doc! { "ordered": ordered, "who": who, "reason": reason, "at": at }).await
}

/// Stores why work is slowed; `None` when it is not any more.
///
/// # Errors
/// As [`update_command::record`].
pub(crate) async fn store_slowed(writer: &Writer, term: i64, slowed: Option<Slowed>) -> Result<(), Unfinished> {
    let slowed = slowed.map(|Slowed { pressure, value, stream }| {
        let milliseconds = i64::try_from(value.as_millis()).unwrap_or(i64::MAX);
        doc! { "pressure": pressure.word(), "milliseconds": milliseconds, "stream": stream }
    });
    set(writer, term, doc! { "slowed": slowed }).await
}

async fn set(writer: &Writer, term: i64, mut fields: Document) -> Result<(), Unfinished> {
    let filter = doc! { "_id": THROTTLE, "term": { "$not": { "$gt": term } } };
    fields.insert("term", term);
    update_command::record(writer, STATE, filter, doc! { "$set": fields }).await
}
