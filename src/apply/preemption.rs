//! The check between chunks whether the pipeline may go on.
//! Through this check a long batch reports that it is alive, ends soon after SIGTERM, stops when the lease ran out
//! during a pause of the process, and follows a change of the phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::interruption::{Interruption, Unfinished};
use crate::observe::health::{Health, HealthPart};
use crate::phase::Phase;
use crate::phase::watcher::Followed;
use crate::write::lease_check::Validity;

/// The time that a running batch has after SIGTERM. A batch that takes longer is abandoned, and applied again at the
/// next start.
const GRACE: Duration = Duration::from_millis(500);

/// The check of lease, phase and stop signal.
#[derive(Debug)]
pub(crate) struct PreemptionCheck {
    /// The time until which the lease allows writes.
    validity: watch::Receiver<Validity>,
    /// The phase as it was last read from the database.
    phase: watch::Receiver<Followed>,
    stop: CancellationToken,
    /// The time of the first check after the stop signal.
    stopped_at: Option<Instant>,
    health: Arc<Health>,
}

impl PreemptionCheck {
    /// Makes a check for the time of one lease.
    #[must_use]
    pub(crate) fn new(
        validity: watch::Receiver<Validity>,
        phase: watch::Receiver<Followed>,
        stop: CancellationToken,
        health: Arc<Health>,
    ) -> Self {
        Self { validity, phase, stop, stopped_at: None, health }
    }

    /// Reports that the pipeline is alive, and fails if it may not go on in `phase`.
    ///
    /// # Errors
    /// [`Interruption::LeaseLost`], [`Interruption::Stopping`], [`Interruption::PhaseChanged`].
    pub(crate) fn check(&mut self, phase: Phase) -> Result<(), Unfinished> {
        self.health.alive(HealthPart::Pipeline);
        let now = clock::instant();
        if self.validity.borrow().left().is_zero() {
            return Err(Interruption::LeaseLost.into());
        }
        if self.phase.borrow().phase != phase {
            return Err(Interruption::PhaseChanged.into());
        }
        if self.stop.is_cancelled() {
            let stopped_at = *self.stopped_at.get_or_insert(now);
            if now.duration_since(stopped_at) >= GRACE {
                return Err(Interruption::Stopping.into());
            }
        }
        Ok(())
    }
}
