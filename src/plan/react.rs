//! The table of reactions to single events (spec 03, "Reactions").

use std::collections::BTreeSet;

use super::Touch;
use crate::model::names::WatchedCollection;
use crate::source::event::{Event, Operation};

/// The paths whose change can change the key of a reference.
const KEYS: [&str; 3] = ["siret", "rome", "rome.code_rome"];

/// The reaction to one event, before the reactions of a batch are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reaction {
    Nothing,
    /// Project the recruiter again.
    TouchRecruiter(Touch),
    /// Cancel the offers that no other recruiter has.
    RecruiterDeleted,
    /// Anonymise the offers of the recruiter.
    AnonymizeRecruiter,
    /// Touch recruiters of the user.
    UserChanged {
        /// True when `status` changed, or the whole document is new.
        status: bool,
        /// True when `email` or `phone` changed, or the whole document is new.
        contact: bool,
    },
    /// Anonymise the offers of the user.
    AnonymizeUser,
    /// Refresh the cache, and touch the recruiters concerned.
    ReferenceChanged {
        /// True when the key may have changed.
        key: bool,
    },
    /// The deleted document cannot tell its key any more, so nothing tells which recruiters are concerned.
    ReferenceDeleted,
    /// A watched collection was dropped or renamed.
    SourceDropped,
    /// The database was dropped, or the cursor ends with this event.
    Invalidated,
    /// Mirror the offer, or, in a replay, touch the recruiters that have its job. Another program or the service itself
    /// changed the offer.
    OfferChanged,
    /// The offer is new and not ours.
    ForeignOffer,
    /// Measure the time since the canary was written.
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
                // A changed key concerns the recruiters of the old key too, and the event does not tell the old key.
                key: event.operation == Operation::Replace
                    || event.paths.as_ref().is_none_or(|paths| paths.iter().any(|path| KEYS.contains(&path.as_str()))),
            }
        }
        (WatchedCollection::Offers, _) if event.is_foreign => Reaction::ForeignOffer,
        (WatchedCollection::Offers, _) => Reaction::OfferChanged,
        (WatchedCollection::Canary, _) => Reaction::Canary,
    }
}

fn recruiter_update(paths: &[String]) -> Reaction {
    let mut positions = BTreeSet::new();
    for path in paths {
        match job_path(path) {
            Some((_, field)) if field.starts_with("stats_") => {}
            // A changed `_id` makes a new job of the element, so the old job must be looked for as a removal.
            Some((position, field)) if field != "_id" => {
                positions.insert(position);
            }
            _ => return Reaction::TouchRecruiter(Touch::All),
        }
    }
    if positions.is_empty() { Reaction::Nothing } else { Reaction::TouchRecruiter(Touch::Positions(positions)) }
}

/// Splits `jobs.N.field…` into `(N, field…)`; `None` for any other path.
fn job_path(path: &str) -> Option<(usize, &str)> {
    let (position, field) = path.strip_prefix("jobs.")?.split_once('.')?;
    Some((position.parse().ok()?, field))
}

fn user_update(paths: &[String]) -> Reaction {
    let status = paths.iter().any(|path| path == "status" || path.starts_with("status."));
    let contact = paths.iter().any(|path| path == "email" || path == "phone");
    if status || contact { Reaction::UserChanged { status, contact } } else { Reaction::Nothing }
}
