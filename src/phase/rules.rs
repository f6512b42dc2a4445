//! What each phase means (spec 04, "The table"), and which steps there are between phases. Pure.

use super::Phase;
use crate::model::names::WatchedCollection;

/// What the stream does with offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamWrites {
    /// Writes what differs.
    Always,
    /// Writes what differs unless the offer is newer ("newest wins").
    UnlessNewer,
    /// Projects, compares and counts.
    Compare,
    /// The streams of `recruiters` and of what its projection looks up are closed.
    Closed,
}

/// The table's row, in words for people.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Who the applications write to.
    pub authority: &'static str,
    /// What the stream does with offers.
    pub stream: &'static str,
    /// Where the time-based jobs write.
    pub ticker: &'static str,
    /// When both sides are compared.
    pub verification: &'static str,
}

/// A step between neighbouring phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepDirection {
    /// To the next phase of the migration.
    Forward,
    /// To the one before.
    Back,
}

impl Phase {
    /// All of them, in the order of the migration.
    pub const ALL: [Self; 4] = [Self::Sync, Self::DualWrite, Self::Shadow, Self::Retired];

    /// What the stream does with offers.
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

    /// The collections whose changes are read. Reactions to anonymisation are active in every phase, and so
    /// is our own sign of life.
    #[must_use]
    pub fn watched(self) -> &'static [WatchedCollection] {
        match self.stream() {
            StreamWrites::Closed => &[
                WatchedCollection::AnonymizedRecruiters,
                WatchedCollection::Users,
                WatchedCollection::AnonymizedUsers,
                WatchedCollection::Canary,
            ],
            StreamWrites::Always | StreamWrites::UnlessNewer | StreamWrites::Compare => &WatchedCollection::ALL,
        }
    }

    /// The step to `to`; `None` when it is this phase, or further than one step.
    #[must_use]
    pub fn way_to(self, to: Self) -> Option<StepDirection> {
        let place = |phase: Self| Self::ALL.iter().position(|other| *other == phase).unwrap_or_default();
        match (place(self), place(to)) {
            (from, to) if from + 1 == to => Some(StepDirection::Forward),
            (from, to) if from == to + 1 => Some(StepDirection::Back),
            _ => None,
        }
    }

    /// The next phase of the migration.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|to| self.way_to(*to) == Some(StepDirection::Forward))
    }

    /// The table's row.
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
                ticker: "writes jobs_partners, recruiters as a backup where that is kept",
                verification: "continuous and nightly",
            },
            Self::Retired => Row {
                authority: "jobs_partners",
                stream: "the streams of recruiters are closed",
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
        for phase in Phase::ALL {
            for collection in
                [WatchedCollection::Users, WatchedCollection::AnonymizedUsers, WatchedCollection::AnonymizedRecruiters]
            {
                assert!(phase.watched().contains(&collection), "{phase:?} {collection:?}");
            }
            assert_eq!(phase.watched().contains(&WatchedCollection::Recruiters), phase != Phase::Retired);
        }
    }
}
