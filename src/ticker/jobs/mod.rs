//! The jobs, one file each: a pure plan plus a thin run. Here: their names, where they apply, and which file runs them.

mod cancel_expired_offers;

use super::work::Work;
use crate::error::Failure;
use crate::phase::Phase;

/// The jobs of spec 05, in the order of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Cancels offers past their expiration.
    CancelExpiredOffers,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::CancelExpiredOffers];

    /// Its name in the configuration, on the command line and in the history.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CancelExpiredOffers => "cancel-expired-offers",
        }
    }

    /// The job of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    /// Whether it has anything to do in this phase.
    #[must_use]
    pub fn applies_in(self, _phase: Phase) -> bool {
        match self {
            Self::CancelExpiredOffers => true,
        }
    }

    /// Does it. Counts and lines are in `work.report`, also of a run that fails.
    ///
    /// # Errors
    /// A [`Failure`] that is not about one document. The run may be done again.
    pub async fn run(self, work: &mut Work) -> Result<(), Failure> {
        match self {
            Self::CancelExpiredOffers => Box::pin(cancel_expired_offers::run(work)).await,
        }
    }
}
