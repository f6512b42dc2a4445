//! The meaning of each phase (spec 04, "The table"), and the possible steps between phases. Pure code.

use super::Phase;
use crate::model::names::WatchedCollection;

/// The use of projections in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamWrites {
    /// Differing fields are written.
    Always,
    /// Differing fields are written unless the offer is newer ("newest wins").
    UnlessNewer,
    /// Differences are counted, and nothing is written.
    Compare,
    /// The stream does not watch `recruiters` and its references.
    Closed,
}

/// The row of a phase in the table of spec 04, as texts for the operator.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The collections to which applications write.
    pub authority: &'static str,
    /// The writes of the stream.
    pub stream: &'static str,
    /// The writes of the time-based jobs.
    pub ticker: &'static str,
    /// The times of verifications.
    pub verification: &'static str,
}

/// A step between neighbouring phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepDirection {
    /// To the next phase of the migration.
    Forward,
    /// To the previous phase.
    Back,
}

impl Phase {
    /// The phases in the order of the migration.
    pub const ALL: [Self; 4] = [Self::Sync, Self::DualWrite, Self::Shadow, Self::Retired];

    #[must_use]
    pub fn stream(self) -> StreamWrites {
        match self {
            Self::Sync => StreamWrites::Always,
            Self::DualWrite => StreamWrites::UnlessNewer,
            Self::Shadow => StreamWrites::Compare,
            Self::Retired => StreamWrites::Closed,
        }
    }

    /// True where the projection of a recruiter may be written into its offers.
    #[must_use]
    pub fn writes_offers(self) -> bool {
        matches!(self.stream(), StreamWrites::Always | StreamWrites::UnlessNewer)
    }

    /// True where the mirror keeps `recruiters` in step (spec 10, "The mirror (phase `shadow`)"). `keeps_backup` is the
    /// setting `phase.keep_recruiters_backup`.
    #[must_use]
    pub fn mirrors(self, keeps_backup: bool) -> bool {
        keeps_backup && self.stream() == StreamWrites::Compare
    }

    /// The collections that the stream watches. Every phase watches anonymisations and the canary. `keeps_backup` is as
    /// in [`Self::mirrors`].
    #[must_use]
    pub fn watched(self, keeps_backup: bool) -> &'static [WatchedCollection] {
        match self.stream() {
            StreamWrites::Compare if keeps_backup => &WatchedCollection::WITH_OFFERS,
            StreamWrites::Closed => &[
                WatchedCollection::AnonymizedRecruiters,
                WatchedCollection::Users,
                WatchedCollection::AnonymizedUsers,
                WatchedCollection::Canary,
            ],
            StreamWrites::Always | StreamWrites::UnlessNewer | StreamWrites::Compare => &WatchedCollection::ALL,
        }
    }

    /// The direction of the step to `to`. `None` when `to` is this phase, or more than one step away.
    #[must_use]
    pub fn way_to(self, to: Self) -> Option<StepDirection> {
        let place = |phase: Self| Self::ALL.iter().position(|other| *other == phase).unwrap_or_default();
        match (place(self), place(to)) {
            (from, to) if from + 1 == to => Some(StepDirection::Forward),
            (from, to) if from == to + 1 => Some(StepDirection::Back),
            _ => None,
        }
    }

    /// The next phase of the migration; `None` for the last one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|to| self.way_to(*to) == Some(StepDirection::Forward))
    }

    #[must_use]
    pub fn row(self) -> Row {
        match self {
            Self::Sync => Row {
                authority: "recruiters (applications write only there)",
                stream: "writes offers, unconditionally",
                ticker: "writes both collections, in one transaction",
                verification: "on demand, nightly",
            },
            Self::DualWrite => Row {
                authority: "both (applications write to both)",
                stream: "writes offers, unless the offer is newer",
                ticker: "writes both collections, in one transaction",
                verification: "continuous and nightly",
            },
            Self::Shadow => Row {
                authority: "jobs_partners (applications write there)",
                stream: "writes no offer: projects, compares, counts what differs",
                ticker: "writes jobs_partners only; the mirror keeps recruiters in step where a backup is kept",
                verification: "continuous and nightly",
            },
            Self::Retired => Row {
                authority: "jobs_partners",
                stream: "the streams of recruiters are closed, late writes to it are counted",
                ticker: "writes jobs_partners only",
                verification: "none",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_step_forward_and_one_back_and_no_other() {
        for (place, from) in Phase::ALL.into_iter().enumerate() {
            for (other, to) in Phase::ALL.into_iter().enumerate() {
                let expected = match other.abs_diff(place) {
                    1 if other > place => Some(StepDirection::Forward),
                    1 => Some(StepDirection::Back),
                    _ => None,
                };
                assert_eq!(from.way_to(to), expected, "{from:?} to {to:?}");
            }
        }
        assert_eq!(Phase::Retired.next(), None);
    }

    #[test]
    fn anonymisation_is_watched_in_every_phase_and_recruiters_in_all_but_the_last() {
        for (phase, keeps_backup) in Phase::ALL.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
            for collection in
                [WatchedCollection::Users, WatchedCollection::AnonymizedUsers, WatchedCollection::AnonymizedRecruiters]
            {
                assert!(phase.watched(keeps_backup).contains(&collection), "{phase:?} {collection:?}");
            }
            assert_eq!(phase.watched(keeps_backup).contains(&WatchedCollection::Recruiters), phase != Phase::Retired);
            let watches_offers = phase.watched(keeps_backup).contains(&WatchedCollection::Offers);
            assert_eq!(watches_offers, phase == Phase::Shadow && keeps_backup);
            assert_eq!(phase.mirrors(keeps_backup), watches_offers);
        }
    }
}
