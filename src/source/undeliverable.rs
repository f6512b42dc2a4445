//! Undeliverable events: an event that is too large for a reply, or that cannot be read. After a failure, replies have
//! one event. The same failure again at the same position is about the next event. That event is passed over, so that
//! nothing is retried for ever.

use std::time::Duration;

use bson::{Timestamp, doc};
use mongodb::Database;

use super::cursor::{StreamPosition, operation_time};
use crate::error::Failure;
use crate::model::names::WatchedCollection;
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::{LOCAL, OPLOG};
use crate::mongo::reads::collection;

/// The number of events in a row that are passed over one by one. After them, everything up to now is passed over.
const ONE_BY_ONE: u32 = 9;
/// A failure at every position is not about events. Then only every hundredth attempt passes over everything up to now.
const ATTEMPTS: u32 = 100;
/// The number of replies with one event after a failure.
const SINGLY: u32 = 1_000;
/// The time limit for the server's search of the next event in the oplog.
const LONGEST: Duration = Duration::from_secs(20);

/// The next step after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StumbleAction {
    /// Read again from the same position.
    Again,
    /// Pass over the next event.
    PassOne,
    /// Pass over everything up to now.
    PassAll,
    /// Read again from the same position after a pause, because reading fails at every position.
    Wait,
}

/// The recent failures of reading the stream.
#[derive(Debug, Default)]
pub(crate) struct Stumbles {
    /// The last failure: the position after which it happened, and its code.
    last: Option<(StreamPosition, String)>,
    /// The number of times that events were passed over since the last reply.
    passed: u32,
    /// The number of attempts since events were last passed over.
    attempts: u32,
    /// The number of replies since the last failure.
    singly: u32,
}

impl Stumbles {
    /// Records that reading after `position` failed. `code` comes from [`Failure::code`].
    pub(crate) fn meet(&mut self, position: &StreamPosition, code: String) -> StumbleAction {
        let met = (position.clone(), code);
        if self.last.as_ref() != Some(&met) {
            self.last = Some(met);
            self.singly = 0;
            return StumbleAction::Again;
        }
        self.attempts += 1;
        if self.passed > ONE_BY_ONE && self.attempts < ATTEMPTS {
            return StumbleAction::Wait;
        }
        self.attempts = 0;
        self.passed += 1;
        if self.passed <= ONE_BY_ONE { StumbleAction::PassOne } else { StumbleAction::PassAll }
    }

    /// The greatest number of events in a reply: 1 after a failure, else `usual`.
    #[must_use]
    pub(crate) fn batch_size(&self, usual: u32) -> u32 {
        if self.last.is_some() { 1 } else { usual }
    }

    /// Records a reply with this number of events. True when replies may have many events again.
    pub(crate) fn replied(&mut self, events: usize) -> bool {
        self.passed = 0;
        if self.last.is_none() {
            return false;
        }
        self.singly += 1;
        let past = events == 0 || self.singly >= SINGLY;
        if past {
            self.last = None;
        }
        past
    }
}

/// The cluster time up to which events are passed over. Reading goes on with the first operation after it. The flag is
/// true when only the next event is passed over. Where that event cannot be found, everything up to now is passed over.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn last_to_pass(
    database: &Database,
    watched: &[WatchedCollection],
    position: &StreamPosition,
    way: StumbleAction,
) -> Result<(Timestamp, bool), Failure> {
    if way == StumbleAction::PassOne
        && let Some(next) = next_event(database, watched, position).await
    {
        return Ok((next, true));
    }
    Ok((operation_time(database).await?, false))
}

/// The position behind all operations of this cluster time.
#[must_use]
pub(crate) fn behind(time: Timestamp) -> Timestamp {
    Timestamp { increment: time.increment.saturating_add(1), ..time }
}

/// The time of the first operation after `position` that gives events. `None` where there is no such operation, or the
/// oplog cannot be read in time.
async fn next_event(
    database: &Database,
    watched: &[WatchedCollection],
    position: &StreamPosition,
) -> Option<Timestamp> {
    let from = match position {
        StreamPosition::After(token) => doc! { "$gt": token.cluster_time() },
        StreamPosition::At(time) => doc! { "$gte": *time },
    };
    let namespaces: Vec<String> =
        watched.iter().map(|collection| format!("{}.{}", database.name(), collection.name())).collect();
    // All events of a transaction have the time of its last oplog entry. Where a transaction has several entries, only
    // the last one has `count`.
    let of_transaction = doc! {
        "op": "c", "o.partialTxn": { "$ne": true },
        "$or": [{ "o.applyOps.ns": { "$in": &namespaces } }, { "o.applyOps": { "$exists": true }, "o.count": { "$exists": true } }],
    };
    let filter = doc! {
        "ts": from,
        "$or": [{ "op": { "$in": ["i", "u", "d"] }, "ns": { "$in": &namespaces } }, of_transaction],
    };
    let local = database.client().database(LOCAL);
    let oplog = collection(&local, OPLOG);
    let entry = oplog.find_one(filter).sort(doc! { "$natural": 1 }).projection(doc! { "ts": 1 }).max_time(LONGEST);
    with_deadline(entry).await.ok().flatten()?.get_timestamp("ts").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u32) -> StreamPosition {
        StreamPosition::At(Timestamp { time, increment: 0 })
    }

    #[test]
    fn the_same_failure_twice_at_a_position_passes_over_the_next_event_and_another_one_does_not() {
        let mut stumbles = Stumbles::default();
        assert_eq!(stumbles.batch_size(1_000), 1_000);
        let mut meet = |time, code: &str| stumbles.meet(&at(time), code.to_owned());
        assert_eq!(meet(1, "10334"), StumbleAction::Again);
        assert_eq!(meet(2, "10334"), StumbleAction::Again, "one by one, it got further");
        assert_eq!(meet(2, "292"), StumbleAction::Again);
        assert_eq!(meet(2, "292"), StumbleAction::PassOne);
        assert_eq!(stumbles.batch_size(1_000), 1);
        assert!(!stumbles.replied(1));
        assert!(stumbles.replied(0) && !stumbles.replied(0));
        assert_eq!(stumbles.batch_size(1_000), 1_000);
    }

    #[test]
    fn what_fails_alike_at_every_position_is_waited_for_and_passed_over_seldom() {
        let mut stumbles = Stumbles::default();
        let mut ways = Vec::new();
        let mut time = 0;
        for _ in 0..1_000 {
            let way = stumbles.meet(&at(time), "292".to_owned());
            if [StumbleAction::PassOne, StumbleAction::PassAll].contains(&way) {
                time += 1;
            }
            ways.push(way);
        }
        let count = |way: StumbleAction| ways.iter().filter(|met| **met == way).count();
        assert_eq!(count(StumbleAction::PassOne), 9);
        assert!((8..=12).contains(&count(StumbleAction::PassAll)), "{}", count(StumbleAction::PassAll));
        assert!(!stumbles.replied(3), "three events at once are no reply of one");
        assert_eq!(stumbles.meet(&at(time + 1), "292".to_owned()), StumbleAction::Again);
        assert_eq!(stumbles.meet(&at(time + 1), "292".to_owned()), StumbleAction::PassOne, "it is another one");
    }
}
