//! The memory of the leader's own writes to offers. An event of the change stream does not say who wrote, so the watch
//! for foreign writes asks this memory. A write is remembered before it is sent, and forgotten when its event came, or
//! when the stream is past the time at which the write was answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::{Timestamp, oid::ObjectId};

use super::statements::Statement;
use crate::clock;
use crate::model::names::OFFERS;

/// The greatest number of offers in the memory, about 1 MB. More of them wait only while the leader writes many offers.
const MOST: usize = 10_000;
/// The time for which the server may still carry out a command that it did not answer.
pub(crate) const UNANSWERED: Duration = Duration::from_mins(1);

/// The offers that the leader has written and whose events may still come. Clones share the memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnWrites(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    offers: HashMap<ObjectId, OwnWrite>,
    /// True when a write could not be remembered.
    is_incomplete: bool,
    /// The number of times that the memory was emptied. The end of a write of before then says nothing.
    emptied: u64,
}

/// The writes to one offer.
#[derive(Debug)]
struct OwnWrite {
    /// The number of commands that have no answer yet.
    underway: u32,
    /// The number of events that may still come. A write that changes nothing causes none.
    expected: u32,
    /// The time from which the server works on none of these commands, by the monotonic clock.
    settled: Instant,
    /// The cluster time up to which the events have come; `None` while it is unknown.
    until: Option<Timestamp>,
}

/// A command that is sent. If it is dropped without an answer, the server may still carry it out.
#[derive(Debug)]
pub(crate) struct SentWrite {
    memory: OwnWrites,
    offers: Vec<ObjectId>,
    /// [`Memory::emptied`] when the command was sent.
    emptied: u64,
    settled: Option<Instant>,
}

impl SentWrite {
    /// Tells that the server has answered, and works on the command no more.
    pub(crate) fn answered(mut self) {
        self.settled = Some(clock::instant());
    }
}

impl Drop for SentWrite {
    fn drop(&mut self) {
        let settled = self.settled.unwrap_or_else(|| clock::instant() + UNANSWERED);
        let mut memory = self.memory.held();
        if memory.emptied != self.emptied {
            return;
        }
        for offer in &self.offers {
            let Some(own) = memory.offers.get_mut(offer) else { continue };
            own.underway = own.underway.saturating_sub(1);
            own.settled = own.settled.max(settled);
            own.until = None;
            if own.underway == 0 && own.expected == 0 {
                memory.offers.remove(offer);
            }
        }
    }
}

impl OwnWrites {
    fn held(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the offers of a command that is about to be sent.
    pub(crate) fn sends(&self, mut offers: Vec<ObjectId>) -> SentWrite {
        let mut memory = self.held();
        let all = offers.len();
        offers.truncate(MOST.saturating_sub(memory.offers.len()));
        memory.is_incomplete |= offers.len() < all;
        for offer in &offers {
            let none = OwnWrite { underway: 0, expected: 0, settled: clock::instant(), until: None };
            let own = memory.offers.entry(*offer).or_insert(none);
            own.underway += 1;
            own.expected += 1;
        }
        SentWrite { memory: self.clone(), offers, emptied: memory.emptied, settled: None }
    }

    /// True if an event of this offer is the leader's own. Each write explains one event.
    pub(crate) fn explains(&self, offer: ObjectId) -> bool {
        let mut memory = self.held();
        let Some(own) = memory.offers.get_mut(&offer).filter(|own| own.expected > 0) else { return false };
        own.expected -= 1;
        if own.underway == 0 && own.expected == 0 {
            memory.offers.remove(&offer);
        }
        true
    }

    /// Forgets the writes whose events cannot come any more: the stream has come to `position`, and its last reply was
    /// asked for at `asked` and came at the cluster time `replied`.
    pub(crate) fn forget(&self, asked: Instant, replied: Timestamp, position: Timestamp) {
        self.held().offers.retain(|_, own| {
            // A majority had these writes when the reply was asked for, so their events lie before its time.
            if own.underway == 0 && own.until.is_none() && own.settled < asked {
                own.until = Some(replied);
            }
            own.until.is_none_or(|until| until > position)
        });
    }

    /// True once if a write could not be remembered since the last call. The memory is then empty.
    pub(crate) fn was_incomplete(&self) -> bool {
        let mut memory = self.held();
        let was_incomplete = std::mem::take(&mut memory.is_incomplete);
        if was_incomplete {
            memory.offers.clear();
            memory.emptied += 1;
        }
        was_incomplete
    }
}

/// The offers that these statements write, by the ids in their filters. An offer of ours has an ObjectId.
pub(super) fn offers_of(collection: &str, statements: &[Statement]) -> Vec<ObjectId> {
    if collection != OFFERS {
        return Vec::new();
    }
    let of_filter = |statement: &Statement| statement.body.get_document("q").ok()?.get_object_id("_id").ok();
    statements.iter().filter_map(|statement| statement.id.or_else(|| of_filter(statement))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 0 }
    }

    #[test]
    fn each_write_explains_one_event_also_before_its_answer() {
        let (own, offer) = (OwnWrites::default(), ObjectId::new());
        assert!(!own.explains(offer));
        let first = own.sends(vec![offer]);
        let second = own.sends(vec![offer]);
        first.answered();
        assert!(own.explains(offer) && own.explains(offer) && !own.explains(offer));
        second.answered();
        assert!(own.held().offers.is_empty());
    }

    #[test]
    fn a_write_without_an_event_is_forgotten_when_the_stream_is_past_its_answer() {
        let (own, offer) = (OwnWrites::default(), ObjectId::new());
        let before = clock::instant();
        own.sends(vec![offer]).answered();
        own.forget(before, at(5), at(9));
        assert_eq!(own.held().offers.len(), 1, "the reply was asked for before the answer came");
        let after = clock::instant() + Duration::from_millis(1);
        own.forget(after, at(6), at(5));
        own.forget(after, at(9), at(5));
        assert_eq!(own.held().offers.len(), 1, "the stream has not come to the time of the reply");
        own.forget(after, at(9), at(6));
        assert!(!own.explains(offer));
    }

    #[test]
    fn a_write_without_an_answer_is_remembered_for_longer() {
        let (own, offer) = (OwnWrites::default(), ObjectId::new());
        drop(own.sends(vec![offer]));
        own.forget(clock::instant() + Duration::from_secs(1), at(6), at(6));
        assert!(own.explains(offer));
        drop(own.sends(vec![offer]));
        own.forget(clock::instant() + UNANSWERED * 2, at(6), at(6));
        assert!(!own.explains(offer));
    }

    #[test]
    fn more_writes_than_the_memory_holds_are_told_once() {
        let own = OwnWrites::default();
        own.sends((0..MOST).map(|_| ObjectId::new()).collect()).answered();
        assert!(!own.was_incomplete());
        own.sends(vec![ObjectId::new()]).answered();
        assert!(own.was_incomplete() && !own.was_incomplete());
        assert!(own.held().offers.is_empty());
    }
}
