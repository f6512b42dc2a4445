//! What a checkpoint is. Only values: how they are written is in `format.rs`, where in the stores.

use std::time::Duration;

use bson::{DateTime, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ResumeToken;

/// Up to where every event has been applied, with every write of it acknowledged by a majority
/// (spec 00, guarantee 1; spec 03, "Checkpoints").
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The position to resume after.
    pub token: ResumeToken,
    /// The position as a time: [`ResumeToken::cluster_time`] of `token`, and nothing else. A stored
    /// checkpoint in which the two differ is garbled.
    pub cluster_time: Timestamp,
    /// When the last event happened by the server's clock; `None` for a position without an event.
    pub wall_time: Option<DateTime>,
    /// The term of the lease under which it was saved. An older term never overwrites a newer one.
    pub term: i64,
    /// The fingerprint of the pipeline with which the stream was opened (spec 03, "Own the cursor").
    pub fingerprint: String,
    /// How many events have been applied up to here, in all terms.
    pub events: i64,
    /// When it was saved, by the caller's clock.
    pub updated_at: DateTime,
    /// The history that the position is of; `None` where that was not known, as in what 1.0.0 stored.
    pub history: Option<History>,
}

/// What tells one history of a database from another: a position means nothing in another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The name of the replica set; empty where there is none.
    pub set: String,
    /// The name of the database.
    pub database: String,
    /// The UUID of a collection of the database, in hexadecimal: the server makes a new one for a collection that is
    /// restored, copied, or in another cluster. `None` where it is not known.
    pub collection: Option<String>,
}

impl History {
    /// In what the two are not one history, in words.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let restored = match (&self.collection, &other.collection) {
            (Some(one), Some(other)) => one != other,
            // Nothing speaks against it.
            _ => false,
        };
        if self.set != other.set {
            Some("of another replica set")
        } else if self.database != other.database {
            Some("of a database with another name")
        } else if restored {
            Some("of another copy of the database, which was restored or moved since")
        } else {
            None
        }
    }
}

/// A checkpoint that was copied to the history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Its name for people: the cluster time as `<seconds>-<increment>`. A position that is copied again
    /// replaces its earlier entry.
    pub id: String,
    /// The checkpoint as it was.
    pub checkpoint: Checkpoint,
}

impl HistoryEntry {
    pub(crate) fn of(checkpoint: Checkpoint) -> Self {
        Self { id: checkpoint.history_id(), checkpoint }
    }
}

impl Checkpoint {
    /// The id that this checkpoint has in the history.
    #[must_use]
    pub fn history_id(&self) -> String {
        format!("{}-{}", self.cluster_time.time, self.cluster_time.increment)
    }

    /// Entries of the history that were updated before this are older than `keep`.
    pub(crate) fn oldest_to_keep(&self, keep: Duration) -> DateTime {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        DateTime::from_millis(self.updated_at.timestamp_millis().saturating_sub(keep))
    }
}
