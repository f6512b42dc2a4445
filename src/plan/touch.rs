//! The unit of work: "recruiter X (all its jobs, or these) must be projected again" (spec 00).

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, oid::ObjectId};

use crate::model::names::WatchedCollection;

/// Which jobs of a recruiter to project again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// All of them, and look for removed ones.
    All,
    /// Those at these positions of the current document; a position that no longer exists stands
    /// for all (spec 03).
    Positions(BTreeSet<usize>),
}

impl Touch {
    /// Both touches in one.
    pub fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Positions(positions), Self::Positions(more)) => positions.extend(more),
            _ => *self = Self::All,
        }
    }
}

/// Everything that one batch of events asks for, coalesced by key. Applied in this order:
/// anonymisations, touches, deletions; see [`super::coalesce`] for why.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Recruiters to project again.
    pub touches: BTreeMap<ObjectId, Touch>,
    /// Recruiters whose offers are to be anonymised, with the time of the event.
    pub anonymized_recruiters: BTreeMap<ObjectId, DateTime>,
    /// Recruiters that were deleted, with the time of the event.
    pub deleted_recruiters: BTreeMap<ObjectId, DateTime>,
    /// Users that appeared or whose contact changed: their delegated recruiters are touched.
    pub changed_users: BTreeSet<ObjectId>,
    /// Users that appeared or whose `status` changed.
    pub users_with_new_status: BTreeSet<ObjectId>,
    /// Users whose offers are to be anonymised: deleted, or copied to `anonymized_userswithaccounts`.
    pub anonymized_users: BTreeSet<ObjectId>,
    /// Reference documents that appeared or changed.
    pub changed_references: BTreeSet<(WatchedCollection, ObjectId)>,
    /// Offers that were changed, by whomever; only a replay tells.
    pub changed_offers: BTreeSet<ObjectId>,
    /// Collections of references in which a key disappeared: a thin event does not tell which, so
    /// everything that may have used it is looked at again.
    pub shrunk_references: BTreeSet<WatchedCollection>,
    /// Watched collections that were dropped or renamed.
    pub dropped_sources: BTreeSet<WatchedCollection>,
    /// Watched collections whose name another one took: no event tells what is in it.
    pub replaced_sources: BTreeSet<WatchedCollection>,
    /// Documents whose `_id` is no ObjectId, as `(collection, _id)`.
    pub unusable_keys: BTreeSet<(WatchedCollection, String)>,
    /// Documents of that kind that were deleted: nothing is left to complain about.
    pub vanished_keys: BTreeSet<(WatchedCollection, String)>,
    /// A canary came back; the newest one's time.
    pub canary: Option<DateTime>,
}
