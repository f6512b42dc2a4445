//! Merges the reactions of one batch by key. So n events on one recruiter cost one read and one projection.
//! Deletions and anonymisations win over earlier touches of the same key (spec 03, "Batches"). A touch after them
//! stays, because the document exists again.

use bson::oid::ObjectId;

use super::react::{Reaction, react};
use super::{Plan, Touch};
use crate::model::ids::{JobId, RecruiterId, UserId};
use crate::model::names::WatchedCollection;
use crate::source::event::{DocumentKey, Event, Operation};

/// Plans one batch. A batch may be split anywhere: the plans of its parts lead to the same final state.
#[must_use]
pub fn plan(events: &[Event]) -> Plan {
    plan_without(events, |_, _, _| false)
}

/// Plans one batch without the touches by single events for which `leaves_out` is true.
pub(super) fn plan_without(events: &[Event], leaves_out: impl Fn(RecruiterId, &Touch, &Event) -> bool) -> Plan {
    let mut plan = Plan::default();
    for event in events {
        match (react(event), event.id().map(RecruiterId)) {
            (Reaction::TouchRecruiter(touch), Some(recruiter)) if leaves_out(recruiter, &touch, event) => {}
            (reaction, _) => plan.add(event, reaction),
        }
    }
    plan
}

impl Plan {
    fn add(&mut self, event: &Event, reaction: Reaction) {
        if let (Some(DocumentKey::Other(key)), Some(collection)) = (&event.key, event.collection) {
            self.add_unusable(collection, key.clone(), event.operation, &reaction);
        }
        match reaction {
            Reaction::Nothing if event.renamed_to.is_none() => return,
            Reaction::SourceDropped => self.dropped_sources.extend(event.collection),
            Reaction::Canary => self.canary = self.canary.max(Some(event.wall_time)),
            Reaction::ReferenceDeleted | Reaction::ReferenceChanged { key: true } => {
                self.shrunk_references.extend(event.collection);
            }
            // The recruiters of a reference are found by its ObjectId, and a projection also uses references with
            // another `_id`.
            Reaction::ReferenceChanged { .. } if event.id().is_none() => {
                self.shrunk_references.extend(event.collection);
            }
            _ => {}
        }
        self.replaced_sources.extend(event.renamed_to.filter(|source| *source != WatchedCollection::Canary));
        if let Some(id) = event.id() {
            self.add_for(id, reaction, event);
        }
    }

    /// Records a document whose `_id` is no ObjectId, until its deletion.
    fn add_unusable(&mut self, collection: WatchedCollection, key: String, operation: Operation, reaction: &Reaction) {
        let document = (collection, key);
        if operation == Operation::Delete {
            self.unusable_keys.remove(&document);
            self.vanished_keys.insert(document);
        } else if !matches!(
            reaction,
            Reaction::Nothing | Reaction::Canary | Reaction::OfferChanged | Reaction::ForeignOffer
        ) {
            self.vanished_keys.remove(&document);
            self.unusable_keys.insert(document);
        }
    }

    fn add_for(&mut self, id: ObjectId, reaction: Reaction, event: &Event) {
        match reaction {
            Reaction::TouchRecruiter(touch) => self.touch(RecruiterId(id), touch),
            Reaction::RecruiterDeleted => {
                self.touches.remove(&RecruiterId(id));
                self.deleted_recruiters.insert(RecruiterId(id), event.wall_time);
            }
            Reaction::AnonymizeRecruiter => {
                self.touches.remove(&RecruiterId(id));
                self.anonymized_recruiters.insert(RecruiterId(id), event.wall_time);
            }
            Reaction::UserChanged { status, contact } => {
                let id = UserId(id);
                if contact {
                    self.changed_users.insert(id);
                }
                if event.operation == Operation::Insert {
                    // The user exists again, so only a later event may anonymise the user's offers.
                    self.anonymized_users.remove(&id);
                }
                if status {
                    self.users_with_new_status.insert(id);
                }
            }
            Reaction::AnonymizeUser => {
                self.anonymized_users.insert(UserId(id));
            }
            Reaction::ReferenceChanged { .. } => {
                self.changed_references.extend(event.collection.map(|collection| (collection, id)));
            }
            Reaction::OfferChanged => {
                self.changed_offers.insert(JobId(id));
                if event.operation == Operation::Delete {
                    self.deleted_offers.insert(JobId(id));
                } else {
                    self.deleted_offers.remove(&JobId(id));
                }
            }
            // Another offer took the name of a deleted one.
            Reaction::ForeignOffer => drop(self.deleted_offers.remove(&JobId(id))),
            Reaction::Nothing
            | Reaction::ReferenceDeleted
            | Reaction::SourceDropped
            | Reaction::Invalidated
            | Reaction::Canary => {}
        }
    }

    fn touch(&mut self, id: RecruiterId, touch: Touch) {
        let touch = match self.deleted_recruiters.remove(&id) {
            // The recruiter was deleted and inserted again. A touch of all jobs finds the jobs that only the old
            // document had.
            Some(_) => Touch::All,
            None => touch,
        };
        match self.touches.get_mut(&id) {
            Some(present) => present.merge(touch),
            None => {
                self.touches.insert(id, touch);
            }
        }
    }

    /// True when documents changed, and no event tells which ones: see `shrunk_references` and `replaced_sources`.
    #[must_use]
    pub fn requires_resync(&self) -> bool {
        !self.shrunk_references.is_empty()
            || !self.replaced_sources.is_empty()
            || self.dropped_sources.iter().any(|source| {
                use WatchedCollection::{Cfas, Engagements, Offers, RomeSheets};
                matches!(source, Cfas | RomeSheets | Engagements | Offers)
            })
    }
}
