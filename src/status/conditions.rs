//! What the database says about the service, as far as the verdict rests on it. Pure.

use std::time::Duration;

use bson::DateTime;

use crate::leader::pause::StoredPause;
use crate::lease::Holder;
use crate::maintenance::repairs::RepairCondition;
use crate::phase::Phase;
use crate::write::throttle::Slowed;

/// How long a pause lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PauseCondition {
    /// The time since the beginning of the pause.
    pub lasts: Duration,
    /// The time until the limit; zero when it is over.
    pub left: Duration,
}

impl PauseCondition {
    /// The condition of a stored pause at this time of the server.
    #[must_use]
    pub(crate) fn of(pause: &StoredPause, now: DateTime) -> Self {
        let between = |from: DateTime, to: DateTime| {
            Duration::from_millis(u64::try_from(to.timestamp_millis() - from.timestamp_millis()).unwrap_or_default())
        };
        Self { lasts: between(pause.since, now), left: between(now, pause.limit_at) }
    }
}

/// What the lease says about the leader.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LeaderCondition {
    /// The lag at the last renewal of the lease, in seconds; `None` while the stream has not answered, and while the
    /// leader is silent.
    pub lag: Option<f64>,
    /// The time since the last renewal; `None` where the lease does not tell it.
    pub heard: Option<Duration>,
    /// True when a renewal is overdue.
    pub is_silent: bool,
    /// True when the stream had answered at the last renewal.
    pub has_answered: bool,
}

impl LeaderCondition {
    /// The condition of the holder of the lease at this time of the server.
    #[must_use]
    pub(crate) fn of(holder: &Holder, now: DateTime) -> Self {
        let is_silent = holder.is_silent(now);
        let has_answered = holder.lag.is_some();
        Self { lag: holder.lag.filter(|_| !is_silent), heard: holder.heard(now), is_silent, has_answered }
    }
}

/// What the database says about the service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceCondition {
    pub phase: Phase,
    /// True while the leader is halted.
    pub is_halted: bool,
    /// `None` while the service is not paused.
    pub pause: Option<PauseCondition>,
    /// `None` while no instance holds the lease.
    pub leader: Option<LeaderCondition>,
    /// True when the oplog no longer has the position of the stream.
    pub is_position_lost: bool,
    pub repair: RepairCondition,
    /// Why the leader slows its work; `None` while it does not, and without a leader.
    pub slowed: Option<Slowed>,
    pub dead_letters: u64,
    /// The differences that the last full verification found; `None` when there was none.
    pub differences: Option<i64>,
    /// Writes to `recruiters` since the step to `retired`.
    pub late_writes: u64,
}
