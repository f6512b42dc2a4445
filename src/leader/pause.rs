//! The document of the pause: a person stopped the service for a while. The pause is stored, so it outlasts every process.
//! [`super::during_pause`] waits for its end.

use bson::{DateTime, Document, doc, oid::ObjectId};
use mongodb::Database;

use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::names::STATE;
use crate::model::names::state_id::PAUSE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::{Writer, update_command};

/// The document `pause`. It exists while the service is paused.
#[derive(Debug, Clone)]
pub(crate) struct StoredPause {
    /// The beginning of the pause, by the server's clock.
    pub since: DateTime,
    /// The time from which an alert fires.
    pub limit_at: DateTime,
    /// User and host that gave the command.
    pub who: String,
    /// The operator's reason.
    pub reason: String,
    /// The command that began the pause.
    pub(super) command: Option<ObjectId>,
}

impl StoredPause {
    /// Reads the pause; `None` while the service is not paused.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database) -> Result<Option<Self>, Failure> {
        let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": PAUSE })).await;
        Ok(stored.map_err(Failure::Read)?.as_ref().map(Self::of))
    }

    /// A document with a field that cannot be read is a pause too: nothing else may end it than `resume`.
    fn of(stored: &Document) -> Self {
        let date = |field: &str| stored.get_datetime(field).copied().unwrap_or(DateTime::from_millis(0));
        let text = |field: &str| stored.get_str(field).unwrap_or_default().to_owned();
        Self {
            since: date("since"),
            limit_at: date("limit_at"),
            who: text("who"),
            reason: text("reason"),
            command: stored.get_object_id("command").ok(),
        }
    }

    /// Stores the pause under `term`. A pause that stands keeps its beginning.
    ///
    /// # Errors
    /// As [`update_command::record`].
    pub(super) async fn store(&self, writer: &Writer, term: i64) -> Result<(), Unfinished> {
        let set = doc! {
            "term": term, "limit_at": self.limit_at, "who": &self.who, "reason": &self.reason, "command": self.command,
        };
        let update = doc! { "$set": set, "$setOnInsert": { "since": self.since } };
        update_command::record(writer, STATE, not_newer(term), update).await
    }

    /// Ends the pause.
    ///
    /// # Errors
    /// As [`update_command::delete`].
    pub(super) async fn end(writer: &Writer, term: i64) -> Result<(), Unfinished> {
        update_command::delete(writer, STATE, not_newer(term)).await
    }
}

/// The document, unless a later leader has written it.
fn not_newer(term: i64) -> Document {
    doc! { "_id": PAUSE, "term": { "$not": { "$gt": term } } }
}
