//! The unit of work: "recruiter X (all its jobs, or these) must be projected again" (spec 00).

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, oid::ObjectId};

use crate::model::ids::{JobId, RecruiterId, UserId};
use crate::model::names::WatchedCollection;

/// The jobs of a recruiter that must be projected again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// All jobs, and a search for jobs that disappeared.
    All,
    /// The jobs at these positions of the current document. A position that no longer exists means all jobs (spec 03).
    Positions(BTreeSet<usize>),
}

impl Touch {
    /// Extends this touch by the jobs of `other`.
    pub fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Positions(positions), Self::Positions(more)) => positions.extend(more),
            _ => *self = Self::All,
        }
    }
}

/// The merged reactions to one batch of events. They are applied in this order: anonymisations, touches, deletions. See
/// [`super::merge`] for the reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Recruiters to project again.
    pub touches: BTreeMap<RecruiterId, Touch>,
    /// Recruiters whose offers are to be anonymised, with the time of the event.
    pub anonymized_recruiters: BTreeMap<RecruiterId, DateTime>,
    /// Recruiters that were deleted, with the time of the event.
    pub deleted_recruiters: BTreeMap<RecruiterId, DateTime>,
    /// New users, and users whose contact changed. Their delegated recruiters are touched.
    pub changed_users: BTreeSet<UserId>,
    /// New users, and users whose `status` changed.
    pub users_with_new_status: BTreeSet<UserId>,
    /// Users whose offers are to be anonymised. They were deleted, or copied to `anonymized_userswithaccounts`.
    pub anonymized_users: BTreeSet<UserId>,
    /// New and changed reference documents.
    pub changed_references: BTreeSet<(WatchedCollection, ObjectId)>,
    /// Offers that any program changed or deleted. A replay touches their recruiters, and the mirror mirrors them.
    pub changed_offers: BTreeSet<JobId>,
    /// Those of them that were deleted and not inserted again.
    pub deleted_offers: BTreeSet<JobId>,
    /// Collections of references in which a key may have disappeared, or a document without ObjectId changed. A thin event
    /// does not tell which key, so a resync follows.
    pub shrunk_references: BTreeSet<WatchedCollection>,
    /// Watched collections that were dropped or renamed.
    pub dropped_sources: BTreeSet<WatchedCollection>,
    /// Watched collections whose name another collection took. No event tells of the documents in it.
    pub replaced_sources: BTreeSet<WatchedCollection>,
    /// Documents whose `_id` is no ObjectId, as `(collection, _id)`.
    pub unusable_keys: BTreeSet<(WatchedCollection, String)>,
    /// Deleted documents whose `_id` is no ObjectId. Their dead letters are removed.
    pub vanished_keys: BTreeSet<(WatchedCollection, String)>,
    /// The time of the newest canary of the batch.
    pub canary: Option<DateTime>,
}
