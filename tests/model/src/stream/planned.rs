//! The events of the writes, and what the product's plan makes of a batch of them.

use bson::oid::ObjectId;
use bson::{DateTime, Timestamp};
use resume_tokens::ResumeToken;
use stream_processor::inside::{DocumentKey, Event, Operation as Kind, Touch, WatchedCollection, plan};

use super::documents::Operation;

/// What a batch asks for, about the one recruiter and the one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Planned {
    /// `Some(true)` for all jobs.
    pub(super) touch: Option<bool>,
    pub(super) anonymizes_recruiter: bool,
    pub(super) deletes_recruiter: bool,
    pub(super) anonymizes_user: bool,
    pub(super) forgets_user: bool,
}

impl Planned {
    pub(super) fn of(operations: &[Operation]) -> Self {
        let events: Vec<Event> = operations.iter().map(event).collect();
        let plan = plan(&events);
        assert!(!plan.requires_resync(), "no operation asks for a resync");
        Self {
            touch: plan.touches.values().next().map(|touch| *touch == Touch::All),
            anonymizes_recruiter: !plan.anonymized_recruiters.is_empty(),
            deletes_recruiter: !plan.deleted_recruiters.is_empty(),
            anonymizes_user: !plan.anonymized_users.is_empty(),
            forgets_user: !plan.changed_users.is_empty() || !plan.anonymized_users.is_empty(),
        }
    }
}

fn event(operation: &Operation) -> Event {
    let (collection, kind, paths) = match operation {
        Operation::Edit => (WatchedCollection::Recruiters, Kind::Update, vec!["jobs.0.offer_title_custom"]),
        Operation::RemoveJob | Operation::AddJob => (WatchedCollection::Recruiters, Kind::Update, vec!["jobs"]),
        Operation::CopyRecruiter => (WatchedCollection::AnonymizedRecruiters, Kind::Insert, vec![]),
        Operation::DeleteRecruiter => (WatchedCollection::Recruiters, Kind::Delete, vec![]),
        Operation::CopyUser => (WatchedCollection::AnonymizedUsers, Kind::Insert, vec![]),
        Operation::DeleteUser => (WatchedCollection::Users, Kind::Delete, vec![]),
    };
    Event {
        collection: Some(collection),
        renamed_to: None,
        operation: kind,
        key: Some(DocumentKey::Id(ObjectId::from_bytes([1; 12]))),
        cluster_time: Timestamp { time: 1, increment: 1 },
        wall_time: DateTime::from_millis(0),
        paths: Some(paths.into_iter().map(str::to_owned).collect()),
        is_foreign: false,
        // The position does not matter to a plan.
        token: ResumeToken::parse("826B056CD5000000032B0229296E04").expect("a token"),
    }
}
