//! Reads stored dead letters for the command line and the status page. [`super::dead_letters`] writes them, and reads
//! the part that the service itself needs.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::DEAD_LETTERS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// A dead letter as it is stored. A missing text is empty.
#[derive(Debug)]
pub(crate) struct StoredDeadLetter {
    /// The address of the document, see [`super::dead_letter::Address`].
    pub id: String,
    pub reason: String,
    /// A detail of the reason without personal data.
    pub detail: String,
    /// The number of failures so far.
    pub attempts: Option<i64>,
    pub first_seen: Option<DateTime>,
    pub last_seen: Option<DateTime>,
    /// The time from which the service tries again.
    pub next_retry: Option<DateTime>,
}

impl StoredDeadLetter {
    pub(crate) fn of(stored: &Document) -> Self {
        let text = |field: &str| stored.get_str(field).unwrap_or_default().to_owned();
        let date = |field: &str| stored.get_datetime(field).ok().copied();
        let integer = |value: &Bson| value.as_i64().or_else(|| value.as_i32().map(i64::from));
        Self {
            id: text("_id"),
            reason: text("reason"),
            detail: text("detail"),
            attempts: stored.get("attempts").and_then(integer),
            first_seen: date("first_seen"),
            last_seen: date("last_seen"),
            next_retry: date("next_retry"),
        }
    }

    /// Reads the dead letter with this `_id`.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database, id: &str) -> Result<Option<Self>, Failure> {
        let stored = with_deadline(collection(database, DEAD_LETTERS).find_one(doc! { "_id": id })).await;
        Ok(stored.map_err(Failure::Read)?.as_ref().map(Self::of))
    }
}

/// Counts the stored dead letters by reason. A reason without a dead letter is not in the result.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn count_by_reason(database: &Database) -> Result<BTreeMap<String, u64>, Failure> {
    let by_reason = [doc! { "$group": { "_id": "$reason", "count": { "$sum": 1_i64 } } }];
    let counted =
        with_deadline(collection(database, DEAD_LETTERS).aggregate(by_reason)).await.map_err(Failure::Read)?;
    let counted: Vec<Document> = with_deadline(counted.try_collect()).await.map_err(Failure::Read)?;
    let count =
        |group: &Document| Some((group.get_str("_id").ok()?.to_owned(), group.get_i64("count").ok()?.unsigned_abs()));
    Ok(counted.iter().filter_map(count).collect())
}
