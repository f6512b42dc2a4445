//! One dead letter: what it is about, why it was written, and what failed, so that a retry can repeat it.

use std::fmt;

use bson::{DateTime, oid::ObjectId};

use crate::model::dead_letter::{Action, Reason};
use crate::model::names::WatchedCollection;

/// What a letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Address {
    /// A whole recruiter.
    Recruiter(ObjectId),
    /// One of its jobs.
    Job {
        /// The recruiter.
        recruiter: ObjectId,
        /// The job.
        job: ObjectId,
    },
    /// An offer of which it is not known whose it is.
    Offer(ObjectId),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recruiter(recruiter) => write!(formatter, "{}/{recruiter}", WatchedCollection::Recruiters.name()),
            Self::Job { recruiter, job } => {
                write!(formatter, "{}/{recruiter}/{job}", WatchedCollection::Recruiters.name())
            }
            Self::Offer(offer) => write!(formatter, "{}/{offer}", WatchedCollection::Offers.name()),
        }
    }
}

impl Address {
    /// Of a job; of its recruiter where the job has no usable `_id`.
    #[must_use]
    pub(crate) fn of(recruiter: ObjectId, job: Option<ObjectId>) -> Self {
        job.map_or(Self::Recruiter(recruiter), |job| Self::Job { recruiter, job })
    }

    /// The recruiter, where it is known.
    #[must_use]
    pub(crate) fn recruiter(&self) -> Option<ObjectId> {
        match self {
            Self::Recruiter(recruiter) | Self::Job { recruiter, .. } => Some(*recruiter),
            Self::Offer(_) => None,
        }
    }

    /// The address that a stored `_id` tells; `None` for that of a document whose `_id` is no ObjectId.
    #[must_use]
    pub(crate) fn from_stored(id: &str) -> Option<Self> {
        let mut parts = id.split('/');
        let collection = WatchedCollection::from_name(parts.next()?)?;
        let first = ObjectId::parse_str(parts.next()?).ok()?;
        let second = parts.next().map(ObjectId::parse_str).transpose().ok()?;
        match (collection, second) {
            // As 1.0.0 wrote of an offer: in the place of its recruiter too.
            (WatchedCollection::Recruiters, Some(job)) if job == first => Some(Self::Offer(job)),
            (WatchedCollection::Recruiters, job) => Some(Self::of(first, job)),
            (WatchedCollection::Offers, None) => Some(Self::Offer(first)),
            _ => None,
        }
    }

    /// Under which `_id`s such a letter may stand.
    #[must_use]
    pub(crate) fn stored(&self) -> Vec<String> {
        match self {
            Self::Offer(offer) => vec![self.to_string(), Self::Job { recruiter: *offer, job: *offer }.to_string()],
            address => vec![address.to_string()],
        }
    }
}

/// A letter to write.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    /// Why.
    pub reason: Reason,
    /// More of why, without personal data: a code, the name of a field.
    pub detail: String,
    /// What failed.
    pub action: Action,
    /// The date that the action gives to a history entry, where it does.
    pub date: Option<DateTime>,
}

impl DeadLetter {
    /// About a projection.
    #[must_use]
    pub(crate) fn of_projection(reason: Reason, detail: String) -> Self {
        Self { reason, detail, action: Action::Project, date: None }
    }
}

/// What is known of a letter that stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownDeadLetter {
    /// Why it was written.
    pub reason: Reason,
    /// What failed.
    pub action: Action,
    /// See [`DeadLetter::date`].
    pub date: Option<DateTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_from_its_text() {
        let recruiter = ObjectId::new();
        let job = ObjectId::new();
        for address in [Address::Recruiter(recruiter), Address::Job { recruiter, job }, Address::Offer(job)] {
            for id in address.stored() {
                assert_eq!(Address::from_stored(&id), Some(address), "{id}");
            }
        }
        for id in ["", "recruiters", "recruiters/x", "cfas/65102a7347a6ef7545b05ef0", "jobs_partners/\"x\""] {
            assert_eq!(Address::from_stored(id), None, "{id}");
        }
    }
}
