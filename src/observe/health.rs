//! The health of this instance: role, lag, troubles, signs of life of the loops. It is kept in memory. The loops report
//! to it, and the probes for readiness and liveness read it (spec 06, "HTTP").

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::Timestamp;
use serde::Serialize;

use super::latency::RecentLatencies;
use super::reachability::Reachability;
use crate::clock;

/// The role of this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// This instance has not got an answer about the lease yet.
    Starting,
    /// Another instance leads; this one takes over when the lease is free.
    Standby,
    /// This instance reads the stream and writes.
    Leader,
}

/// The parts of an instance. Each has its own trouble and its own sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthPart {
    /// The connection and the lease.
    Lease,
    /// The reader of the change stream.
    Stream,
    /// The task that applies batches and saves checkpoints.
    Pipeline,
}

#[derive(Debug, Clone)]
pub(super) struct HealthTrouble {
    pub(super) since: Instant,
    pub(super) problem: String,
    pub(super) advice: &'static str,
    /// True when the trouble ends readiness at once, because it does not pass by itself or has already lasted for long.
    /// Any other trouble ends readiness after `health.max_retry`.
    pub(super) at_once: bool,
}

#[derive(Debug)]
pub(super) struct HealthState {
    role: Role,
    /// The end of the lease, by the clock of this process; `None` unless this instance leads.
    leads_until: Option<Instant>,
    pub(super) troubles: BTreeMap<HealthPart, HealthTrouble>,
    pub(super) halted: bool,
    /// True while this instance leads and the service is paused.
    pub(super) paused: bool,
    /// True once the lease of this leadership is lost.
    is_lost: bool,
    /// True while this instance does not ask for the lease, because it was told to step down.
    stepped_down: bool,
    /// Watched collections that were dropped or renamed and are not repaired yet.
    dropped: BTreeSet<&'static str>,
    /// The server's time in the last reply of the stream, and the time of the reply by the clock of this process.
    server: Option<(Timestamp, Instant)>,
    /// The cluster time of the last applied position.
    applied: Option<Timestamp>,
    /// The time at which the last checkpoint was saved.
    checkpointed: Option<Instant>,
    /// The last sign of life of each part.
    pub(super) beats: BTreeMap<HealthPart, Instant>,
    /// The time between two canaries; `None` while this instance writes none.
    canary_interval: Option<Duration>,
    /// The time at which a batch was last applied, the canary was started, or the stream had caught up. `None` while a
    /// batch is being applied.
    moved: Option<Instant>,
    /// The position of the stream while it is far back in the oplog; otherwise `None`.
    catching_up: Option<Timestamp>,
}

impl HealthState {
    /// The role. A leader whose lease ran out may not write any more, so it is none.
    pub(super) fn role(&self) -> Role {
        match self.leads_until {
            Some(until) if self.role == Role::Leader && (self.is_lost || until <= clock::instant()) => Role::Standby,
            _ => self.role,
        }
    }

    fn forget_stream(&mut self) {
        self.server = None;
        self.applied = None;
        self.checkpointed = None;
        self.troubles.clear();
        self.beats.clear();
        self.canary_interval = None;
        self.moved = None;
        self.catching_up = None;
    }

    pub(super) fn known_dropped(&self) -> impl Iterator<Item = &'static str> {
        self.dropped.iter().copied().filter(|_| self.role() == Role::Leader)
    }

    /// The time since the last event, when it is longer than the canary explains; otherwise `None`.
    pub(super) fn silence(&self) -> Option<Duration> {
        if self.catching_up.is_some() {
            // The canary is later than the position of the stream, so it cannot come yet.
            return None;
        }
        let silence = self.moved?.elapsed();
        (silence > longest_silence(self.canary_interval?)).then_some(silence)
    }
}

/// The time after which a stream without any event counts as stuck. `interval` is the time between two canaries.
#[must_use]
pub(crate) fn longest_silence(interval: Duration) -> Duration {
    interval * 3 + SLOW
}

/// The health of this instance, shared between its tasks.
#[derive(Debug)]
pub struct Health {
    state: Mutex<HealthState>,
    /// Whether MongoDB answers.
    pub(crate) reachability: Reachability,
    /// The time from an event to its effect in the last minute.
    pub(crate) latencies: RecentLatencies,
    pub(super) max_lag: Duration,
    pub(super) max_retry: Duration,
    /// The longest time between two replies of the stream, even without events.
    await_time: Duration,
}

/// The time without a sign of life after which a loop counts as dead (spec 06, "`/livez`").
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(90);
/// The time that a canary may take to come back, beyond three times its interval.
const SLOW: Duration = Duration::from_secs(4);
impl Health {
    /// The health of an instance that starts. `max_lag` and `max_retry` are settings of `health`, `await_time` is a
    /// setting of `stream`.
    #[must_use]
    pub fn new(max_lag: Duration, max_retry: Duration, await_time: Duration) -> Self {
        let state = HealthState {
            role: Role::Starting,
            leads_until: None,
            troubles: BTreeMap::new(),
            halted: false,
            paused: false,
            is_lost: false,
            stepped_down: false,
            dropped: BTreeSet::new(),
            server: None,
            applied: None,
            checkpointed: None,
            beats: BTreeMap::new(),
            canary_interval: None,
            moved: None,
            catching_up: None,
        };
        Self {
            state: Mutex::new(state),
            reachability: Reachability::default(),
            latencies: RecentLatencies::default(),
            max_lag,
            max_retry,
            await_time,
        }
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut HealthState) -> T) -> T {
        // A panic in another task poisons the lock, but the plain values behind it are still valid.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a new role and forgets everything about the stream, which belongs to the old role. A halt and the dropped
    /// collections stay.
    pub fn set_role(&self, role: Role) {
        self.with(|state| {
            state.role = role;
            state.paused = false;
            state.is_lost = false;
            state.leads_until = None;
            state.forget_stream();
        });
    }

    /// Reports that a pause begins or ends. Nothing is known about the stream then.
    pub fn set_paused(&self, paused: bool) {
        self.with(|state| {
            state.paused = paused;
            state.forget_stream();
        });
    }

    /// Reports that the lease of this leadership is lost. True the first time.
    pub(crate) fn loses_lease(&self) -> bool {
        self.with(|state| !std::mem::replace(&mut state.is_lost, true))
    }

    /// Reports that this instance begins or ends not to ask for the lease after `stepdown`.
    pub fn set_stepped_down(&self, stepped_down: bool) {
        self.with(|state| state.stepped_down = stepped_down);
    }

    /// True while this instance does not ask for the lease after `stepdown`.
    #[must_use]
    pub fn has_stepped_down(&self) -> bool {
        self.with(|state| state.stepped_down)
    }

    /// Reports the end of the lease of this leader, by the clock of this process.
    pub fn leads_until(&self, until: Instant) {
        self.with(|state| state.leads_until = Some(until));
    }

    /// Reports that a part failed and retries. `advice` is a sentence for the operator. `at_once` ends readiness now,
    /// not only after `health.max_retry`. The report is a sign of life too. A repeated trouble keeps the time of its
    /// beginning.
    pub fn trouble(&self, part: HealthPart, problem: &impl Display, advice: &'static str, at_once: bool) {
        let trouble = HealthTrouble { since: clock::instant(), problem: problem.to_string(), advice, at_once };
        self.with(|state| {
            let since = state.troubles.get(&part).map_or(trouble.since, |standing| standing.since);
            state.troubles.insert(part, HealthTrouble { since, ..trouble });
            state.beats.insert(part, clock::instant());
        });
    }

    /// Reports that a part works: this is a sign of life and ends the trouble of the part.
    pub fn works(&self, part: HealthPart) {
        self.with(|state| {
            state.troubles.remove(&part);
            state.beats.insert(part, clock::instant());
        });
    }

    /// Reports a sign of life of a part. A trouble of the part stays.
    pub fn alive(&self, part: HealthPart) {
        self.with(|state| state.beats.insert(part, clock::instant()));
    }

    /// Reports a halt: the position is lost, and the configuration says to wait for a person then.
    pub fn halt(&self) {
        self.with(|state| {
            state.halted = true;
            // Nothing is read any more, so nothing catches up, and no canary is due.
            state.catching_up = None;
            state.canary_interval = None;
        });
    }

    /// Sets the names of all watched collections that were dropped or renamed and are not repaired yet.
    pub fn set_dropped(&self, names: impl IntoIterator<Item = &'static str>) {
        self.with(|state| state.dropped = names.into_iter().collect());
    }

    /// The names of dropped collections that this process last reported, even when it does not lead any more.
    #[must_use]
    pub fn dropped_names(&self) -> BTreeSet<&'static str> {
        self.with(|state| state.dropped.clone())
    }

    /// Reports a reply of the stream at this time of the server. A reply ends a halt.
    fn replied(&self, operation_time: Timestamp) {
        self.works(HealthPart::Stream);
        self.with(|state| {
            state.server = Some((operation_time, clock::instant()));
            state.halted = false;
        });
    }

    /// Reports that the stream is at `position`, far behind the server's time, or that the server searches the oplog
    /// from `position` on.
    pub fn catching_up(&self, position: Timestamp, operation_time: Timestamp) {
        self.replied(operation_time);
        self.with(|state| state.catching_up = Some(position));
    }

    /// Reports that the stream is not far behind the server's time.
    pub fn caught_up(&self, operation_time: Timestamp) {
        self.replied(operation_time);
        self.with(|state| {
            if state.catching_up.take().is_some() && state.moved.is_some() {
                state.moved = Some(clock::instant());
            }
        });
    }

    /// True while the stream is read far behind the server's time.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        self.with(|state| state.catching_up.is_some())
    }

    /// Reports that everything up to this cluster time has been applied.
    pub fn applied(&self, cluster_time: Timestamp) {
        self.with(|state| state.applied = state.applied.max(Some(cluster_time)));
    }

    /// Reports that the canary is written at this interval from now on, so that silence of the stream means trouble.
    pub fn canary_every(&self, interval: Duration) {
        self.with(|state| {
            state.canary_interval = Some(interval);
            state.moved = Some(clock::instant());
        });
    }

    /// Reports that a batch begins. While it is being applied, however long that takes, the stream does not count as
    /// silent.
    pub fn batch_begins(&self) {
        self.with(|state| state.moved = None);
    }

    /// Reports that the batch is applied.
    pub fn batch_ends(&self) {
        self.with(|state| state.moved = Some(clock::instant()));
    }

    /// The cluster time up to which everything has been applied; `None` before the first batch and on a standby.
    #[must_use]
    pub fn applied_time(&self) -> Option<Timestamp> {
        self.with(|state| state.applied)
    }

    /// Reports that a checkpoint was saved just now.
    pub fn checkpointed(&self) {
        self.with(|state| state.checkpointed = Some(clock::instant()));
    }

    /// Seconds since the last checkpoint was saved; `None` before the first and on a standby.
    #[must_use]
    pub fn checkpoint_age(&self) -> Option<f64> {
        let saved = self.with(|state| state.checkpointed)?;
        Some(saved.elapsed().as_secs_f64())
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.with(|state| state.role())
    }

    /// True while the position is lost and a person must decide.
    #[must_use]
    pub fn halted(&self) -> bool {
        self.with(|state| state.halted)
    }

    /// The number of watched collections that were dropped or renamed and are not repaired yet; 0 unless this instance
    /// leads.
    #[must_use]
    pub fn dropped_sources(&self) -> usize {
        self.with(|state| state.known_dropped().count())
    }

    /// The troubles of all parts, each with advice, whether or not they end readiness.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.with(|state| {
            state.troubles.values().map(|trouble| format!("{}; {}", trouble.problem, trouble.advice)).collect()
        })
    }

    /// The lag in seconds: the server's time minus the last applied position, both from server clocks. Before the first
    /// batch, the position of the stream counts while it catches up. The delay of an overdue reply is added. `None`
    /// while unknown (spec 03, "Lag").
    #[must_use]
    pub fn lag(&self) -> Option<f64> {
        let (server, applied) = self.with(|state| {
            let server = state.server.filter(|_| state.role() == Role::Leader)?;
            Some((server, state.applied.or(state.catching_up)?))
        })?;
        let behind = server.0.time.saturating_sub(applied.time);
        let overdue = server.1.elapsed().saturating_sub(self.await_time * 2);
        Some(f64::from(behind) + overdue.as_secs_f64())
    }

    /// The parts without a sign of life for too long; empty when all are alive. While the leader is halted, no part
    /// works, and a restart would change nothing.
    #[must_use]
    pub fn dead(&self) -> Vec<HealthPart> {
        self.with(|state| {
            if state.halted {
                return Vec::new();
            }
            let dead = state.beats.iter().filter(|(_, beat)| beat.elapsed() > DEAD_AFTER);
            dead.map(|(part, _)| *part).collect()
        })
    }
}
