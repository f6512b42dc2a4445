//! The stages of a resync, in their order.

use super::other_ids;
use crate::model::names::{DEAD_LETTERS, LINKS, OFFERS, WatchedCollection};

/// The stages of a resync, in their order. Links must be complete before a job without a link counts as removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResyncStage {
    /// Writes dead letters about documents whose `_id` is no ObjectId, and removes those of deleted documents.
    Others(WatchedCollection),
    /// Touches every recruiter.
    Recruiters,
    /// Handles recruiters whose deletion was not seen: those that have a link and no document.
    Links,
    /// Handles recruiters whose anonymisation was not seen.
    Anonymized,
    /// Handles our offers whose user is anonymised or deactivated, or whose job no recruiter holds.
    Offers,
    /// Mirrors our offers into `recruiters`, in the phase in which the mirror is on.
    Mirror,
    /// Retries the dead letters of deleted recruiters. No document may tell any more what failed.
    DeadLettersOfRecruiters,
    /// Retries the dead letters of offers whose recruiter is unknown.
    DeadLettersOfOffers,
}

impl ResyncStage {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let others = other_ids::COLLECTIONS.into_iter().map(Self::Others);
        let rest = [Self::Recruiters, Self::Links, Self::Anonymized, Self::Offers, Self::Mirror];
        others.chain(rest).chain([Self::DeadLettersOfRecruiters, Self::DeadLettersOfOffers])
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Others(collection) => format!("others/{}", collection.name()),
            Self::Recruiters => "recruiters".to_owned(),
            Self::Links => "links".to_owned(),
            Self::Anonymized => "anonymized".to_owned(),
            Self::Offers => "offers".to_owned(),
            Self::Mirror => "mirror".to_owned(),
            Self::DeadLettersOfRecruiters => "dead letters/recruiters".to_owned(),
            Self::DeadLettersOfOffers => "dead letters/offers".to_owned(),
        }
    }

    pub(super) fn collection(self) -> &'static str {
        match self {
            Self::Others(collection) => collection.name(),
            Self::Recruiters => WatchedCollection::Recruiters.name(),
            Self::Links => LINKS,
            Self::Anonymized => WatchedCollection::AnonymizedRecruiters.name(),
            Self::Offers | Self::Mirror => OFFERS,
            Self::DeadLettersOfRecruiters | Self::DeadLettersOfOffers => DEAD_LETTERS,
        }
    }

    pub(super) fn after(self) -> Option<Self> {
        Self::all().skip_while(|stage| *stage != self).nth(1)
    }
}
