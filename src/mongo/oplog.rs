//! The reach of the oplog. A saved position that is older than the oplog's first entry is lost. Reading the oplog needs
//! privileges on `local.oplog.rs`. The service works without them, but then the reach is unknown.

use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::error::Error as MongoError;

use super::deadline::with_deadline;
use super::reads::collection;
use crate::error::{Failure, command_code};

/// The database of the oplog.
pub(crate) const LOCAL: &str = "local";
/// The collection of the oplog.
pub(crate) const OPLOG: &str = "oplog.rs";

/// The codes `Unauthorized` and `NamespaceNotFound`. A router of a sharded cluster answers with the second one.
const UNKNOWABLE: [i32; 2] = [13, 26];

/// The used share of the oplog above which it loses its oldest entries soon, or already does.
pub(crate) const NEARLY_FULL: f64 = 0.9;
/// The text in place of a headroom while the oplog is young.
pub(crate) const YOUNG_OPLOG: &str = "the oplog is young and holds everything";
/// The window below which an oplog that is not nearly full is young.
const YOUNG: Duration = Duration::from_hours(1);

/// The primary's oplog.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Oplog {
    /// The time of the oldest entry.
    pub first: Timestamp,
    /// The time of the newest entry.
    pub last: Timestamp,
    /// The share of the oplog's size that is in use, up to 1. `None` without the privilege `collStats` on the oplog.
    /// An oplog that is not full loses no entry.
    pub used: Option<f64>,
}

impl Oplog {
    /// Reads the oplog; `None` where the privileges do not allow it, or the server has no oplog.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn measure(database: &Database) -> Result<Option<Self>, Failure> {
        let local = database.client().database(LOCAL);
        let (Some(first), Some(last)) = (end(&local, 1).await?, end(&local, -1).await?) else {
            return Ok(None);
        };
        Ok(Some(Self { first, last, used: used(&local).await? }))
    }

    /// The time between the oldest and the newest entry.
    #[must_use]
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.last.time.saturating_sub(self.first.time)))
    }

    /// The window of the full oplog, estimated from the rate of writes so far. An unknown `used` counts as full.
    #[must_use]
    pub(crate) fn window_when_full(&self) -> Duration {
        let share = self.used.unwrap_or(1.0).clamp(0.000_1, 1.0);
        self.window().div_f64(share)
    }

    /// True while the oplog is so young that it loses nothing yet, and its rate of writes says nothing about the days to
    /// come.
    #[must_use]
    pub(crate) fn is_young(&self) -> bool {
        self.used.is_some_and(|used| used < NEARLY_FULL) && self.window() < YOUNG
    }

    /// True when a stream can be opened at this position.
    #[must_use]
    pub(crate) fn reaches(&self, position: Timestamp) -> bool {
        position >= self.first
    }

    /// The time until a position that does not move falls off the oplog, at the rate of writes so far. Zero for a lost
    /// position. `None` while the oplog is young: the estimate would be a guess, and raise an alarm on the first day of a
    /// server.
    #[must_use]
    pub(crate) fn headroom(&self, position: Timestamp) -> Option<Duration> {
        if !self.reaches(position) {
            return Some(Duration::ZERO);
        }
        let age = Duration::from_secs(u64::from(self.last.time.saturating_sub(position.time)));
        (!self.is_young()).then(|| self.window_when_full().saturating_sub(age))
    }
}

/// The time of the first or last entry. `direction` is 1 for the oldest entry and -1 for the newest.
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
        assert_eq!(oplog.headroom(at(4_600)), Some(Duration::from_hours(1)));
        assert_eq!(oplog.headroom(at(1_600)), Some(Duration::from_mins(10)));
        assert_eq!((oplog.reaches(at(999)), oplog.headroom(at(999))), (false, Some(Duration::ZERO)));
        assert_eq!(
            Oplog { used: None, ..oplog }.headroom(at(1_600)),
            Some(Duration::from_mins(10)),
            "unknown counts as full"
        );
    }

    #[test]
    fn an_oplog_is_young_while_it_is_short_and_not_nearly_full() {
        let oplog = Oplog { first: at(1_000), last: at(4_599), used: Some(0.01) };
        assert!(oplog.is_young());
        assert_eq!((oplog.headroom(at(1_000)), oplog.headroom(at(999))), (None, Some(Duration::ZERO)));
        for other in
            [Oplog { used: Some(0.9), ..oplog }, Oplog { used: None, ..oplog }, Oplog { last: at(4_600), ..oplog }]
        {
            assert!(!other.is_young(), "{other:?}");
        }
    }

    #[test]
    fn an_oplog_that_is_half_empty_keeps_a_position_for_as_long_again() {
        let oplog = Oplog { first: at(1_000), last: at(4_600), used: Some(0.5) };
        assert_eq!(oplog.headroom(at(1_000)), Some(Duration::from_hours(1)));
        assert_eq!(oplog.headroom(at(4_600)), Some(Duration::from_hours(2)));
    }
}
