//! The values of a checkpoint. `format.rs` writes and reads them, and the stores keep them.

use std::time::Duration;

use bson::{DateTime, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ResumeToken;

/// A saved position in the stream. All events up to it are applied, and a majority has acknowledged all their writes
/// (spec 00, guarantee 1; spec 03, "Checkpoints").
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The stream resumes after this token.
    pub token: ResumeToken,
    /// Always [`ResumeToken::cluster_time`] of `token`. A stored checkpoint in which the two differ is garbled.
    pub cluster_time: Timestamp,
    /// The server's time of the last event; `None` for a position without an event.
    pub wall_time: Option<DateTime>,
    /// The term of the lease of the instance that saved it. An older term never overwrites a newer one.
    pub term: i64,
    /// The fingerprint of the pipeline with which the stream was opened (spec 03, "Own the cursor").
    pub fingerprint: String,
    /// The number of events that were applied up to this position, in all terms.
    pub events: i64,
    /// The time of the save by the caller's clock.
    pub updated_at: DateTime,
    /// The history of the database to which the position belongs. `None` where it was unknown, and in checkpoints of
    /// 1.0.0.
    pub history: Option<History>,
}

/// The identity of one history of a database. A position has no meaning in another history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The name of the replica set; empty where there is no replica set.
    pub set: String,
    /// The name of the database.
    pub database: String,
    /// The UUID of a collection of the database, in hexadecimal. The server makes a new UUID for a collection that is
    /// restored, copied, or in another cluster. `None` where the UUID is not known.
    pub collection: Option<String>,
}

impl History {
    /// A text that says how the other history differs; `None` when nothing shows a difference.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let restored = match (&self.collection, &other.collection) {
            (Some(one), Some(other)) => one != other,
            // An unknown UUID shows no difference.
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
    /// The cluster time as `<seconds>-<increment>`: a name for the operator. A position that is copied again replaces
    /// its earlier entry.
    pub id: String,
    pub checkpoint: Checkpoint,
}

impl HistoryEntry {
    pub(crate) fn of(checkpoint: Checkpoint) -> Self {
        Self { id: checkpoint.history_id(), checkpoint }
    }
}

impl Checkpoint {
    /// The value of [`HistoryEntry::id`] for this checkpoint.
    #[must_use]
    pub fn history_id(&self) -> String {
        format!("{}-{}", self.cluster_time.time, self.cluster_time.increment)
    }

    /// The least cluster time of the entries that stay in the history. `updated_at` does not decide it: one wrong clock of
    /// a machine would empty the history.
    pub(crate) fn oldest_to_keep(&self, keep: Duration) -> Timestamp {
        let keep = u32::try_from(keep.as_secs()).unwrap_or(u32::MAX);
        Timestamp { time: self.cluster_time.time.saturating_sub(keep), increment: 0 }
    }
}
