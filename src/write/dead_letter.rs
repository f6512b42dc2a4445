//! One dead letter: the address of its document, its reason, and the failed action, so that a retry can repeat it.

use std::fmt;

use bson::{DateTime, oid::ObjectId};

use crate::model::dead_letter::{Action, Reason};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::WatchedCollection;

/// The address of a dead letter: the recruiter, job or offer that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Address {
    /// A recruiter as a whole.
    Recruiter(RecruiterId),
    /// One job of a recruiter.
    Job { recruiter: RecruiterId, job: JobId },
    /// An offer whose recruiter is unknown.
    Offer(JobId),
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
    /// Makes the address of a job, or of its recruiter if the job has no usable `_id`.
    #[must_use]
    pub(crate) fn of(recruiter: RecruiterId, job: Option<JobId>) -> Self {
        job.map_or(Self::Recruiter(recruiter), |job| Self::Job { recruiter, job })
    }

    /// Returns the recruiter; `None` if it is unknown.
    #[must_use]
    pub(crate) fn recruiter(&self) -> Option<RecruiterId> {
        match self {
            Self::Recruiter(recruiter) | Self::Job { recruiter, .. } => Some(*recruiter),
            Self::Offer(_) => None,
        }
    }

    /// Reads the address from the `_id` of a stored dead letter; `None` if the `_id` of its document is no ObjectId.
    #[must_use]
    pub(crate) fn from_stored(id: &str) -> Option<Self> {
        let mut parts = id.split('/');
        let collection = WatchedCollection::from_name(parts.next()?)?;
        let first = ObjectId::parse_str(parts.next()?).ok()?;
        let second = parts.next().map(ObjectId::parse_str).transpose().ok()?;
        match (collection, second) {
            // Version 1.0.0 wrote the id of an offer in both places.
            (WatchedCollection::Recruiters, Some(job)) if job == first => Some(Self::Offer(JobId(job))),
            (WatchedCollection::Recruiters, job) => Some(Self::of(RecruiterId(first), job.map(JobId))),
            (WatchedCollection::Offers, None) => Some(Self::Offer(JobId(first))),
            _ => None,
        }
    }

    /// Returns the `_id`s that the stored dead letter may have: the present one, and that of version 1.0.0.
    #[must_use]
    pub(crate) fn stored(&self) -> Vec<String> {
        match self {
            Self::Offer(offer) => {
                vec![self.to_string(), Self::Job { recruiter: RecruiterId(offer.0), job: *offer }.to_string()]
            }
            address => vec![address.to_string()],
        }
    }
}

/// A dead letter to write.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub reason: Reason,
    /// A detail of the reason without personal data, for instance a code or the name of a field. It may be empty.
    pub detail: String,
    /// The action that failed.
    pub action: Action,
    /// The date for the entry in the offer's history; `None` if the action knows none.
    pub date: Option<DateTime>,
}

impl DeadLetter {
    /// Makes the dead letter of a failed projection.
    #[must_use]
    pub(crate) fn of_projection(reason: Reason, detail: String) -> Self {
        Self { reason, detail, action: Action::Project, date: None }
    }
}

/// The part of a stored dead letter that is kept in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownDeadLetter {
    pub reason: Reason,
    /// The action that failed.
    pub action: Action,
    /// The date of the history entry, see [`DeadLetter::date`].
    pub date: Option<DateTime>,
}

impl KnownDeadLetter {
    /// True if an offer could not be mirrored whole.
    #[must_use]
    pub(crate) fn is_of_mirror(&self) -> bool {
        self.action == Action::Mirror
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_from_its_text() {
        let recruiter = RecruiterId(ObjectId::new());
        let job = JobId(ObjectId::new());
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
