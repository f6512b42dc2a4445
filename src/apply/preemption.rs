//! Whether the pipeline may go on: asked between portions, so that a long batch gives signs of life, ends
//! soon after SIGTERM, stops when the lease ran out while the process was paused, and follows a change of
//! the phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::error::Failure;
use crate::observe::health::{Health, HealthPart};
use crate::phase::Phase;
use crate::phase::watcher::Followed;
use crate::write::writer::Validity;

/// A batch that is under way at SIGTERM may end within this time; after that it is left as it is, and
/// applied again at the next start.
const GRACE: Duration = Duration::from_millis(500);

/// The right to go on.
#[derive(Debug)]
pub struct PreemptionCheck {
    /// Until when the lease allows writes.
    validity: watch::Receiver<Validity>,
    /// The phase as it was last read from the database.
    phase: watch::Receiver<Followed>,
    stop: CancellationToken,
    stopped_at: Option<Instant>,
    health: Arc<Health>,
}

impl PreemptionCheck {
    /// A check under a lease.
    #[must_use]
    pub fn new(
        validity: watch::Receiver<Validity>,
        phase: watch::Receiver<Followed>,
        stop: CancellationToken,
        health: Arc<Health>,
    ) -> Self {
        Self { validity, phase, stop, stopped_at: None, health }
    }

    /// Gives a sign of life and asks whether to go on in `phase`.
    ///
    /// # Errors
    /// [`Failure::LeaseLost`], [`Failure::Interrupted`], [`Failure::PhaseChanged`].
    pub fn check(&mut self, phase: Phase) -> Result<(), Failure> {
        self.health.alive(HealthPart::Pipeline);
        let now = clock::instant();
        if self.validity.borrow().left().is_zero() {
            return Err(Failure::LeaseLost);
        }
        if self.phase.borrow().phase != phase {
            return Err(Failure::PhaseChanged);
        }
        if self.stop.is_cancelled() {
            let stopped_at = *self.stopped_at.get_or_insert(now);
            if now.duration_since(stopped_at) >= GRACE {
                return Err(Failure::Interrupted);
            }
        }
        Ok(())
    }
}
