//! The table of reactions (spec 03, "Reactions"): what one event asks for.

use std::collections::BTreeSet;

use super::Touch;
use crate::model::names::WatchedCollection;
use crate::source::event::{Event, Operation};

/// The paths of the keys of references.
const KEYS: [&str; 3] = ["siret", "rome", "rome.code_rome"];

/// What one event asks for, before it is coalesced with its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing to do.
    Nothing,
    /// Project the recruiter again.
    TouchRecruiter(Touch),
    /// The recruiter is gone.
    RecruiterDeleted,
    /// Anonymise the offers of the recruiter.
    AnonymizeRecruiter,
    /// Touch the delegated recruiters of the user.
    UserChanged {
        /// `status` is among the changes, or the whole document is new.
        status: bool,
        /// `email` or `phone` is among them, or the whole document is new.
        contact: bool,
    },
    /// Anonymise the offers of the user.
    AnonymizeUser,
    /// Refresh the cache, touch the recruiters concerned.
    ReferenceChanged {
        /// The key itself is among the changes.
        key: bool,
    },
    /// The same, but the key is no longer there to be read.
    ReferenceDeleted,
    /// A watched collection is gone, or has another name.
    SourceDropped,
    /// The database is gone, or the cursor ends here.
    Invalidated,
    /// Somebody changed an offer, or we did: touch the recruiters that hold its job.
    OfferChanged,
    /// Our own sign of life came back.
    Canary,
}

/// Looks one event up in the table.
#[must_use]
pub(crate) fn react(event: &Event) -> Reaction {
    let collection = match (event.operation, event.collection) {
        (Operation::DropDatabase | Operation::Invalidate, _) => return Reaction::Invalidated,
        (Operation::Drop | Operation::Rename, Some(WatchedCollection::Canary)) => return Reaction::Nothing,
        (_, None) => return Reaction::Nothing,
        (Operation::Drop | Operation::Rename, Some(_)) => return Reaction::SourceDropped,
        (_, Some(collection)) => collection,
    };
    match (collection, event.operation) {
        (WatchedCollection::Recruiters, Operation::Delete) => Reaction::RecruiterDeleted,
        (WatchedCollection::Recruiters, Operation::Update) => match &event.paths {
            Some(paths) => recruiter_update(paths),
            None => Reaction::TouchRecruiter(Touch::All),
        },
        (WatchedCollection::Recruiters, _) => Reaction::TouchRecruiter(Touch::All),
        (WatchedCollection::AnonymizedRecruiters, Operation::Delete) => Reaction::Nothing,
        (WatchedCollection::AnonymizedRecruiters, _) => Reaction::AnonymizeRecruiter,
        (WatchedCollection::Users, Operation::Delete) => Reaction::AnonymizeUser,
        (WatchedCollection::Users, Operation::Update) => match &event.paths {
            Some(paths) => user_update(paths),
            None => Reaction::UserChanged { status: true, contact: true },
        },
        (WatchedCollection::Users, _) => Reaction::UserChanged { status: true, contact: true },
        (WatchedCollection::AnonymizedUsers, Operation::Delete) => Reaction::Nothing,
        (WatchedCollection::AnonymizedUsers, _) => Reaction::AnonymizeUser,
        (
            WatchedCollection::Cfas | WatchedCollection::RomeSheets | WatchedCollection::Engagements,
            Operation::Delete,
        ) => Reaction::ReferenceDeleted,
        (WatchedCollection::Cfas | WatchedCollection::RomeSheets | WatchedCollection::Engagements, _) => {
            Reaction::ReferenceChanged {
                // The event does not tell the old key, and whoever refers to it is concerned too.
                key: event.operation == Operation::Replace
                    || event.paths.as_ref().is_none_or(|paths| paths.iter().any(|path| KEYS.contains(&path.as_str()))),
            }
        }
        (WatchedCollection::Offers, _) => Reaction::OfferChanged,
        (WatchedCollection::Canary, _) => Reaction::Canary,
    }
}

fn recruiter_update(paths: &[String]) -> Reaction {
    let mut positions = BTreeSet::new();
    for path in paths {
        match job_path(path) {
            Some((_, field)) if field.starts_with("stats_") => {}
            // A new `_id` changes which jobs there are, so removed ones must be looked for.
            Some((position, field)) if field != "_id" => {
                positions.insert(position);
            }
            _ => return Reaction::TouchRecruiter(Touch::All),
        }
    }
    if positions.is_empty() { Reaction::Nothing } else { Reaction::TouchRecruiter(Touch::Positions(positions)) }
}

/// `jobs.N.field…` as `(N, field…)`.
fn job_path(path: &str) -> Option<(usize, &str)> {
    let (position, field) = path.strip_prefix("jobs.")?.split_once('.')?;
    Some((position.parse().ok()?, field))
}

fn user_update(paths: &[String]) -> Reaction {
    let status = paths.iter().any(|path| path == "status" || path.starts_with("status."));
    let contact = paths.iter().any(|path| path == "email" || path == "phone");
    if status || contact { Reaction::UserChanged { status, contact } } else { Reaction::Nothing }
}
