//! The right of a run to write, and the lock that the ticker shares with the pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, watch};

use crate::phase::watcher::Followed;
use crate::write::lease_check::Validity;
use crate::write::throttle::Throttle;
use crate::write::transaction::Fence;

/// The longest time for which pressure on the server slows one run. Jobs run one after another, and a reminder that is due
/// meanwhile must not be late by hours.
const LONGEST_SLOWED: Duration = Duration::from_mins(10);
/// The longest wait between two checks of the run.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The right of one run to write, which only a leader has.
#[derive(Debug)]
pub struct WriteAccess {
    /// The fence of the writes and transactions of the leadership.
    pub fence: Fence,
    /// The time that the lease still allows for writes.
    pub validity: watch::Receiver<Validity>,
    /// The phase as it was last read from the database.
    pub phase: watch::Receiver<Followed>,
    pub offer_write_lock: OfferWriteLock,
    /// The signal that wakes the pipeline when a command is stored for it.
    pub wake: Arc<Notify>,
    pub pace: RunPace,
    /// The `_id` of the run in the ledger.
    pub run: String,
    /// The time at which the progress of the run was last stored.
    pub stored_at: Option<Instant>,
}

/// The pace of the steps of one run. The default one slows nothing.
#[derive(Debug, Default)]
pub struct RunPace {
    throttle: Throttle,
    /// The number of changed documents in the report that count against the ceiling of writes already.
    counted: u64,
    /// The time for which the run has waited.
    waited: Duration,
}

impl RunPace {
    /// The pace of a leadership.
    pub(super) fn of(throttle: Throttle) -> Self {
        Self { throttle, ..Self::default() }
    }

    /// Takes the documents that earlier attempts of the run changed for counted.
    pub(super) fn go_on_from(&mut self, changed: u64) {
        self.counted = changed;
    }

    /// The greatest number of documents of one step.
    pub(super) fn step_size(&self, usual: u32) -> u32 {
        self.throttle.step_size(usual)
    }

    /// Counts documents that a step wrote, and that are not in the report, against the ceiling of writes.
    pub(super) fn wrote(&self, documents: u64) {
        self.throttle.step_wrote(documents);
    }

    /// Counts the documents that the run has changed so far against the ceiling of writes. Returns the time to wait, after
    /// which this is to be asked again; zero when the step begins now.
    pub(super) fn begin_step(&mut self, changed: u64) -> Duration {
        self.throttle.step_wrote(changed.saturating_sub(self.counted));
        self.counted = changed;
        let wait =
            if self.waited < LONGEST_SLOWED { self.throttle.until_step() } else { self.throttle.until_allowed() };
        if wait.is_zero() {
            self.throttle.steps();
        }
        let wait = wait.min(LONGEST_WAIT);
        self.waited += wait;
        wait
    }
}

/// The lock on writing offers: the pipeline and the ticker take turns with it. The lock is fair, so the task that has
/// waited longest gets it next.
pub type OfferWriteLock = Arc<Mutex<()>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::write::throttle::tests::SETTINGS;

    #[test]
    fn pressure_slows_a_run_for_ten_minutes_and_a_ceiling_as_long_as_it_holds() {
        let throttle = Throttle::default();
        throttle.judge(&SETTINGS, Some(Duration::from_secs(11)), None, clock::instant());
        let mut pace = RunPace::of(throttle.clone());
        assert_eq!(pace.begin_step(0), Duration::ZERO, "no step was before");
        let mut waited = Duration::ZERO;
        loop {
            let wait = pace.begin_step(0);
            waited += wait;
            if wait.is_zero() {
                break;
            }
        }
        assert_eq!(waited, LONGEST_SLOWED);
        assert_eq!(pace.begin_step(0), Duration::ZERO, "the reminders that are due after it must not be late");
        throttle.order(Some(1));
        pace.wrote(30);
        assert_eq!(pace.begin_step(0), LONGEST_WAIT);
    }
}
