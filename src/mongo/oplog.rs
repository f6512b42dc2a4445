//! How far back the oplog reaches: what a saved position must not fall out of. Reading it needs privileges
//! on `local.oplog.rs` that the service can do without; then it stays unknown.

use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::error::Error as MongoError;

use super::deadline::with_deadline;
use super::reads::collection;
use crate::error::{Failure, command_code};

/// The database of the oplog.
pub const LOCAL: &str = "local";
/// The collection of the oplog.
pub const OPLOG: &str = "oplog.rs";

/// `Unauthorized`; `NamespaceNotFound`, as a router of a sharded cluster answers.
const UNKNOWABLE: [i32; 2] = [13, 26];

/// What the primary's oplog holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Oplog {
    /// The time of its oldest entry.
    pub first: Timestamp,
    /// The time of its newest entry.
    pub last: Timestamp,
    /// How much of its size is in use, up to 1; `None` without the privilege `collStats` on it. What is not
    /// full loses nothing yet.
    pub used: Option<f64>,
}

impl Oplog {
    /// Looks at it; `None` where the privileges do not allow that, or the server has none.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn measure(database: &Database) -> Result<Option<Self>, Failure> {
        let local = database.client().database(LOCAL);
        let (Some(first), Some(last)) = (end(&local, 1).await?, end(&local, -1).await?) else {
            return Ok(None);
        };
        Ok(Some(Self { first, last, used: used(&local).await? }))
    }

    /// The time between the oldest and the newest entry; once the oplog is full, what is older is lost.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.last.time.saturating_sub(self.first.time)))
    }

    /// The window that it will have when it is full, if as much is written as was so far; as it is where that
    /// is not known.
    #[must_use]
    pub fn window_when_full(&self) -> Duration {
        let share = self.used.unwrap_or(1.0).clamp(0.000_1, 1.0);
        self.window().div_f64(share)
    }

    /// Whether a stream can be opened at this time.
    #[must_use]
    pub fn reaches(&self, position: Timestamp) -> bool {
        position >= self.first
    }

    /// How long until this position falls off, if it stays where it is and as much is written as was so far;
    /// nothing when it has.
    #[must_use]
    pub fn headroom(&self, position: Timestamp) -> Duration {
        if !self.reaches(position) {
            return Duration::ZERO;
        }
        let age = Duration::from_secs(u64::from(self.last.time.saturating_sub(position.time)));
        self.window_when_full().saturating_sub(age)
    }
}

/// The time of one end: 1 for the oldest entry, -1 for the newest.
async fn end(local: &Database, direction: i32) -> Result<Option<Timestamp>, Failure> {
    let oplog = collection(local, OPLOG);
    let entry = oplog.find_one(doc! {}).sort(doc! { "$natural": direction }).projection(doc! { "ts": 1 });
    let entry = unless_unknowable(with_deadline(entry).await)?.flatten();
    Ok(entry.and_then(|entry| entry.get_timestamp("ts").ok()))
}

async fn used(local: &Database) -> Result<Option<f64>, Failure> {
    let stages = [
        doc! { "$collStats": { "storageStats": {} } },
        doc! { "$project": { "used": { "$divide": [
            { "$toDouble": "$storageStats.size" }, { "$toDouble": "$storageStats.maxSize" },
        ] } } },
    ];
    let Some(stats) = unless_unknowable(with_deadline(collection(local, OPLOG).aggregate(stages)).await)? else {
        return Ok(None);
    };
    let stats: Vec<Document> = with_deadline(stats.try_collect()).await.map_err(Failure::Read)?;
    Ok(stats.first().and_then(|stats| stats.get("used")).and_then(Bson::as_f64))
}

fn unless_unknowable<T>(answer: Result<T, MongoError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if command_code(&error).is_some_and(|code| UNKNOWABLE.contains(&code)) => Ok(None),
        Err(error) => Err(Failure::Read(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 0 }
    }

    #[test]
    fn a_full_oplog_keeps_a_position_until_its_oldest_entry_gets_there() {
        let oplog = Oplog { first: at(1_000), last: at(4_600), used: Some(1.0) };
        assert_eq!(oplog.window(), Duration::from_hours(1));
        assert_eq!(oplog.headroom(at(4_600)), Duration::from_hours(1));
        assert_eq!(oplog.headroom(at(1_600)), Duration::from_mins(10));
        assert_eq!((oplog.reaches(at(999)), oplog.headroom(at(999))), (false, Duration::ZERO));
        assert_eq!(
            Oplog { used: None, ..oplog }.headroom(at(1_600)),
            Duration::from_mins(10),
            "unknown counts as full"
        );
    }

    #[test]
    fn an_oplog_that_is_half_empty_keeps_a_position_for_as_long_again() {
        let oplog = Oplog { first: at(1_000), last: at(4_600), used: Some(0.5) };
        assert_eq!(oplog.headroom(at(1_000)), Duration::from_hours(1));
        assert_eq!(oplog.headroom(at(4_600)), Duration::from_hours(2));
    }
}
