//! The right of a run to write, and the lock that the ticker shares with the pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, watch};

use crate::phase::watcher::Followed;
use crate::write::lease_check::Validity;
use crate::write::throttle::Throttle;
use crate::write::transaction::Fence;

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
    /// The throttle of the leadership.
    pub throttle: Throttle,
    /// The number of changed documents that count against its ceiling already.
    pub throttled: u64,
    /// The `_id` of the run in the ledger.
    pub run: String,
    /// The time at which the progress of the run was last stored.
    pub stored_at: Option<Instant>,
}

impl WriteAccess {
    /// Counts documents that a step wrote, and that are not in the report, against the ceiling of writes.
    pub(super) fn wrote(&self, documents: u64) {
        self.throttle.step_wrote(documents);
    }

    /// Counts the documents that the run has changed so far against the ceiling of writes. Returns the time to wait before
    /// the next step; zero when the step begins now.
    pub(super) fn begin_step(&mut self, changed: u64) -> Duration {
        self.throttle.step_wrote(changed.saturating_sub(self.throttled));
        self.throttled = changed;
        let wait = self.throttle.until_step();
        if wait.is_zero() {
            self.throttle.steps();
        }
        wait
    }
}

/// The lock on writing offers: the pipeline and the ticker take turns with it. The lock is fair, so the task that has
/// waited longest gets it next.
pub type OfferWriteLock = Arc<Mutex<()>>;
