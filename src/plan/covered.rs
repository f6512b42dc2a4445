//! What earlier batches of the stream have covered. A batch reads the documents as they are now. So in a backlog it also
//! carries out later events on the same recruiter: those that happened before it read. Their touches would only repeat
//! the reads and the comparisons, as they would in one batch with it. Pure code: `apply::executor` says what is settled.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bson::Timestamp;

use super::merge::plan_without;
use super::{Plan, Touch, plan};
use crate::model::ids::RecruiterId;
use crate::source::event::Event;

/// The greatest number of recruiters in the memory, about 2 MB. Touches of further recruiters are only repeated.
const MOST: usize = 10_000;

/// The memory of settled touches. It is valid for one continuity of the stream, and only as long as no plan has more than
/// touches by events on recruiters: a deletion or an anonymisation changes offers, and a touch after it must be repeated.
/// A lost or shared job ends it too, because another recruiter's touch then changes the offer.
#[derive(Debug, Default)]
pub(crate) struct CoveredTouches {
    continuity: u64,
    /// The cluster time of the last planned event.
    last: Option<Timestamp>,
    recruiters: HashMap<RecruiterId, Covered>,
}

/// The touch of a recruiter, and the cluster time up to which it shows all events.
#[derive(Debug)]
struct Covered {
    until: Timestamp,
    touch: Touch,
}

impl CoveredTouches {
    /// Plans one batch as [`plan`] does, without the touches that are covered. `continuity` is that of the database.
    #[must_use]
    pub(crate) fn plan(&mut self, events: &[Event], continuity: u64) -> Plan {
        if self.continuity != continuity {
            self.continuity = continuity;
            self.forget();
        }
        self.last = events.last().map(|event| event.cluster_time);
        if self.recruiters.is_empty() {
            return plan(events);
        }
        let left = plan_without(events, |recruiter, touch, event| self.covers(recruiter, touch, event));
        if left.touches_only() {
            return left;
        }
        self.forget();
        plan(events)
    }

    fn covers(&self, recruiter: RecruiterId, touch: &Touch, event: &Event) -> bool {
        let covered = self.recruiters.get(&recruiter).filter(|covered| event.cluster_time <= covered.until);
        covered.is_some_and(|covered| covered.touch.includes(touch))
    }

    /// Notes the settled touches of the last plan, whose reads showed all events up to `until`.
    pub(crate) fn settled<'a>(
        &mut self,
        touches: impl Iterator<Item = (&'a RecruiterId, &'a Touch)>,
        until: Timestamp,
        continuity: u64,
    ) {
        // The stream is up to date where no event that the reads show is still to come.
        if Some(until) <= self.last || continuity != self.continuity {
            return;
        }
        self.recruiters.retain(|_, covered| Some(covered.until) > self.last);
        for (recruiter, touch) in touches {
            let has_room = self.recruiters.len() < MOST;
            match self.recruiters.entry(*recruiter) {
                // The earlier time stays, because it holds for both.
                Entry::Occupied(mut covered) => covered.get_mut().touch.merge(touch.clone()),
                Entry::Vacant(entry) if has_room => drop(entry.insert(Covered { until, touch: touch.clone() })),
                Entry::Vacant(_) => {}
            }
        }
    }

    /// Forgets all settled touches: from here on, events may have to be carried out in their order.
    pub(crate) fn forget(&mut self) {
        self.recruiters.clear();
    }
}

impl Touch {
    /// True if a touch like this does all that `other` asks for.
    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Positions(all), Self::Positions(some)) => some.is_subset(all),
            (Self::Positions(_), Self::All) => false,
        }
    }
}

impl Plan {
    /// True if the plan has nothing but touches of recruiters, and the canary.
    #[must_use]
    pub(crate) fn touches_only(&self) -> bool {
        let Self {
            touches: _,
            canary: _,
            anonymized_recruiters,
            deleted_recruiters,
            changed_users,
            users_with_new_status,
            anonymized_users,
            changed_references,
            changed_offers,
            deleted_offers,
            shrunk_references,
            dropped_sources,
            replaced_sources,
            unusable_keys,
            vanished_keys,
        } = self;
        let recruiters = anonymized_recruiters.is_empty() && deleted_recruiters.is_empty();
        let users = changed_users.is_empty() && users_with_new_status.is_empty() && anonymized_users.is_empty();
        let references = changed_references.is_empty() && shrunk_references.is_empty();
        let offers = changed_offers.is_empty() && deleted_offers.is_empty();
        let sources = dropped_sources.is_empty() && replaced_sources.is_empty();
        recruiters && users && references && offers && sources && unusable_keys.is_empty() && vanished_keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bson::DateTime;
    use bson::oid::ObjectId;
    use resume_tokens::ResumeToken;

    use super::*;
    use crate::model::names::WatchedCollection;
    use crate::source::event::{DocumentKey, Operation};

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 0 }
    }

    fn id() -> RecruiterId {
        RecruiterId(ObjectId::from_bytes([1; 12]))
    }

    fn event(time: u32, collection: WatchedCollection, operation: Operation, path: &str) -> Event {
        Event {
            collection: Some(collection),
            renamed_to: None,
            operation,
            key: Some(DocumentKey::Id(id().0)),
            cluster_time: at(time),
            wall_time: DateTime::from_millis(1_000),
            paths: Some(vec![path.to_owned()]),
            is_foreign: false,
            token: ResumeToken::parse("82650F1A2B000000012B0229296E04").unwrap(),
        }
    }

    fn edit(time: u32, path: &str) -> Event {
        event(time, WatchedCollection::Recruiters, Operation::Update, path)
    }

    /// Plans and settles one batch of this event; the reads show everything up to time 9.
    fn batch(covered: &mut CoveredTouches, event: Event) -> Option<Touch> {
        let plan = covered.plan(&[event], 0);
        if plan.touches_only() {
            covered.settled(plan.touches.iter(), at(9), 0);
        } else {
            covered.forget();
        }
        plan.touches.into_values().next()
    }

    #[test]
    fn a_touch_is_covered_up_to_the_time_that_the_reads_showed() {
        let mut covered = CoveredTouches::default();
        let first = Some(Touch::Positions([0].into()));
        assert_eq!(batch(&mut covered, edit(1, "jobs.0.a")), first);
        assert_eq!(batch(&mut covered, edit(2, "jobs.0.b")), None);
        assert_eq!(batch(&mut covered, edit(3, "jobs.1.a")), Some(Touch::Positions([1].into())));
        assert_eq!(batch(&mut covered, edit(4, "jobs.1.a")), None);
        assert_eq!(batch(&mut covered, edit(5, "email")), Some(Touch::All));
        assert_eq!(batch(&mut covered, edit(6, "status")), None);
        assert_eq!(batch(&mut covered, edit(9, "jobs.7.a")), None);
        assert_eq!(batch(&mut covered, edit(10, "jobs.0.a")), first);
    }

    #[test]
    fn anything_but_touches_and_another_continuity_end_what_is_covered() {
        use WatchedCollection::{AnonymizedRecruiters, Recruiters, RomeSheets, Users};
        for (collection, operation) in [
            (Recruiters, Operation::Delete),
            (AnonymizedRecruiters, Operation::Insert),
            (Users, Operation::Delete),
            (Users, Operation::Insert),
            (RomeSheets, Operation::Insert),
        ] {
            let mut covered = CoveredTouches::default();
            batch(&mut covered, edit(1, "email"));
            batch(&mut covered, event(2, collection, operation, "email"));
            assert_eq!(batch(&mut covered, edit(3, "email")), Some(Touch::All), "{collection:?} {operation:?}");
            let both = [event(4, collection, operation, "email"), edit(5, "email")];
            assert_eq!(covered.plan(&both, 0).touches.len(), 1, "{collection:?} {operation:?} in one batch");
        }
        let mut covered = CoveredTouches::default();
        batch(&mut covered, edit(1, "email"));
        assert_eq!(covered.plan(&[edit(2, "email")], 0).touches.len(), 0);
        assert_eq!(covered.plan(&[edit(2, "email")], 1).touches.len(), 1);
    }

    #[test]
    fn recruiters_beyond_the_greatest_number_and_live_touches_are_not_kept() {
        let mut covered = CoveredTouches::default();
        let touches: Vec<(RecruiterId, Touch)> =
            (0..=MOST).map(|_| (RecruiterId(ObjectId::new()), Touch::All)).collect();
        let _ = covered.plan(&[edit(9, "email")], 0);
        covered.settled(touches.iter().map(|(id, touch)| (id, touch)), at(9), 0);
        assert_eq!(covered.recruiters.len(), 0);
        covered.settled(touches.iter().map(|(id, touch)| (id, touch)), at(10), 0);
        assert_eq!(covered.recruiters.len(), MOST);
        let _ = covered.plan(&[edit(11, "email")], 0);
        covered.settled(std::iter::empty(), at(12), 0);
        assert_eq!(covered.recruiters.len(), 0, "no event that they cover is still to come");
    }
}
