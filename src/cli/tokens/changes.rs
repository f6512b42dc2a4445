//! The document `token_changes` of `stream_processor_state`: the record of each `tokens import` and `tokens reset`.

use bson::{Bson, DateTime, Document, doc};
use chrono_tz::Tz;
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::STATE;
use crate::model::names::state_id::TOKEN_CHANGES;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::shown_time::shown;

/// The greatest number of records that are kept.
const KEPT: i32 = 100;

/// One move of the position.
pub(super) struct TokenChange {
    pub at: DateTime,
    /// The person who gave the command.
    pub who: String,
    /// The position before, as `seconds-increment`; `None` when there was none.
    pub from: Option<String>,
    /// The id of the new checkpoint; `None` for a reset.
    pub to: Option<String>,
    /// The text of `--reason`.
    pub reason: Option<String>,
    /// The objections that `--force` overrode.
    pub overridden: Vec<String>,
}

impl TokenChange {
    /// Adds the record to the stored ones.
    ///
    /// # Errors
    /// [`Failure::Write`].
    pub(super) async fn store(self, database: &Database) -> Result<(), Failure> {
        let record = doc! {
            "at": self.at, "who": self.who, "from": self.from, "to": self.to, "reason": self.reason,
            "overridden": self.overridden,
        };
        let push = doc! { "$push": { "changes": { "$each": [record], "$slice": -KEPT } } };
        let state = collection(database, STATE);
        let pushed = state.update_one(doc! { "_id": TOKEN_CHANGES }, push).upsert(true);
        with_deadline(pushed).await.map(drop).map_err(Failure::Write)
    }
}

/// The stored records, the oldest first.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn read(database: &Database) -> Result<Vec<Bson>, Failure> {
    let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": TOKEN_CHANGES }))
        .await
        .map_err(Failure::Read)?;
    Ok(stored.and_then(|stored| stored.get_array("changes").cloned().ok()).unwrap_or_default())
}

/// A stored record as a line; `None` for a record without a time.
pub(super) fn text(change: &Bson, zone: Tz) -> Option<String> {
    let change: &Document = change.as_document()?;
    let text = |field: &str| change.get_str(field).unwrap_or("-").to_owned();
    let at = shown(*change.get_datetime("at").ok()?, zone);
    let (who, from, to, reason) = (text("who"), text("from"), text("to"), text("reason"));
    Some(format!("{at} by {who}: from {from} to {to}; {reason}"))
}
