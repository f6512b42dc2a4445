//! What readiness and liveness rest on: role, lag, troubles, signs of life of the loops. Kept in
//! memory, told by those who know, asked by the probes (spec 06, "HTTP").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::Timestamp;
use serde::Serialize;

use crate::clock;
use crate::error::Failure;

/// What the instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Connecting and checking the database.
    Starting,
    /// Another instance leads; this one would take over.
    Standby,
    /// This instance reads the stream and writes.
    Leader,
}

/// The parts that can be in trouble, each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthPart {
    /// The connection and the lease.
    Lease,
    /// Reading the change stream.
    Stream,
    /// Applying batches and saving checkpoints.
    Pipeline,
}

#[derive(Debug, Clone)]
struct HealthTrouble {
    since: Instant,
    problem: String,
    advice: &'static str,
    /// Ends readiness at once, not only when it lasts: it does not pass by itself, or has lasted already.
    at_once: bool,
}

#[derive(Debug)]
struct HealthState {
    role: Role,
    troubles: BTreeMap<HealthPart, HealthTrouble>,
    halted: bool,
    /// Watched collections that were dropped or renamed and are not repaired yet.
    dropped: BTreeSet<&'static str>,
    /// The server's time at the last reply, and when that was.
    server: Option<(Timestamp, Instant)>,
    /// The cluster time of the last applied position.
    applied: Option<Timestamp>,
    /// When the last checkpoint was saved.
    checkpointed: Option<Instant>,
    beats: BTreeMap<HealthPart, Instant>,
    /// How often the canary is written; `None` while this instance writes none.
    canary_interval: Option<Duration>,
    /// When events were last applied, or the canary was begun; `None` while a batch is being applied.
    moved: Option<Instant>,
    /// Where the stream is, while it is far back in the oplog.
    catching_up: Option<Timestamp>,
}

impl HealthState {
    fn known_dropped(&self) -> impl Iterator<Item = &'static str> {
        self.dropped.iter().copied().filter(|_| self.role == Role::Leader)
    }

    /// How long nothing came through the stream although the canary should have; `None` while that is not long.
    fn silence(&self) -> Option<Duration> {
        if self.catching_up.is_some() {
            // The canary lies ahead.
            return None;
        }
        let silence = self.moved?.elapsed();
        (silence > longest_silence(self.canary_interval?)).then_some(silence)
    }
}

/// How long a stream may be silent, not even bringing the canary that is written every `interval`, before it
/// counts as stuck.
#[must_use]
pub(crate) fn longest_silence(interval: Duration) -> Duration {
    interval * 3 + SLOW
}

/// The state of health of the process.
#[derive(Debug)]
pub struct Health {
    state: Mutex<HealthState>,
    max_lag: Duration,
    max_retry: Duration,
    /// A reply is due this often, even when nothing happens.
    await_time: Duration,
}

/// A loop that gave no sign of life for so long is dead (spec 06, "`/livez`").
const DEAD_AFTER: Duration = Duration::from_secs(90);
/// How much longer than three times its interval a canary may take to come back.
const SLOW: Duration = Duration::from_secs(4);
/// Why the service halted, and what to do.
const HALTED: &str = "the position of the change stream is lost and stream.on_history_lost = \"halt\": start with \
    \"resync\" to go on from now and look at everything again";

/// The answer of `/readyz`.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// Whether the instance does what it should.
    pub ready: bool,
    /// What the instance is doing.
    pub role: Role,
    /// Lag in seconds; null while unknown.
    pub lag_seconds: Option<f64>,
    /// Why it is not ready, each with advice.
    pub reasons: Vec<String>,
}

impl Health {
    /// `max_lag` and `max_retry` as configured under `health`; `await_time` as under `stream`.
    #[must_use]
    pub fn new(max_lag: Duration, max_retry: Duration, await_time: Duration) -> Self {
        let state = HealthState {
            role: Role::Starting,
            troubles: BTreeMap::new(),
            halted: false,
            dropped: BTreeSet::new(),
            server: None,
            applied: None,
            checkpointed: None,
            beats: BTreeMap::new(),
            canary_interval: None,
            moved: None,
            catching_up: None,
        };
        Self { state: Mutex::new(state), max_lag, max_retry, await_time }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HealthState) -> T) -> T {
        // A panic elsewhere leaves plain values behind: they are still the best that is known.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The role changed; what was known of the stream belongs to the old one.
    pub fn set_role(&self, role: Role) {
        self.with(|state| {
            state.role = role;
            state.server = None;
            state.applied = None;
            state.checkpointed = None;
            state.troubles.clear();
            state.beats.clear();
            state.canary_interval = None;
            state.moved = None;
            state.catching_up = None;
        });
    }

    /// A part failed and tries again; `at_once` when that ends readiness before it has lasted for `health.max_retry`.
    pub fn trouble(&self, part: HealthPart, failure: &Failure, at_once: bool) {
        let trouble =
            HealthTrouble { since: clock::instant(), problem: failure.to_string(), advice: failure.advice(), at_once };
        self.with(|state| {
            let since = state.troubles.get(&part).map_or(trouble.since, |standing| standing.since);
            state.troubles.insert(part, HealthTrouble { since, ..trouble });
            state.beats.insert(part, clock::instant());
        });
    }

    /// A part works: it gives a sign of life, and its trouble is over.
    pub fn works(&self, part: HealthPart) {
        self.with(|state| {
            state.troubles.remove(&part);
            state.beats.insert(part, clock::instant());
        });
    }

    /// A part is alive, whether it works or not.
    pub fn alive(&self, part: HealthPart) {
        self.with(|state| state.beats.insert(part, clock::instant()));
    }

    /// The position is lost, and the service is told to wait for an operator then.
    pub fn halt(&self) {
        self.with(|state| state.halted = true);
    }

    /// These watched collections, and no others, were dropped or renamed and are not repaired yet.
    pub fn set_dropped(&self, names: impl IntoIterator<Item = &'static str>) {
        self.with(|state| state.dropped = names.into_iter().collect());
    }

    /// Those that this process knew of when it last led.
    #[must_use]
    pub fn dropped_names(&self) -> BTreeSet<&'static str> {
        self.with(|state| state.dropped.clone())
    }

    /// The stream is read, and its server answered at this time of its own.
    fn replied(&self, operation_time: Timestamp) {
        self.works(HealthPart::Stream);
        self.with(|state| {
            state.server = Some((operation_time, clock::instant()));
            state.halted = false;
        });
    }

    /// The stream is at `position`, far behind the server's time, or the server is searching the oplog from there on.
    pub fn catching_up(&self, position: Timestamp, operation_time: Timestamp) {
        self.replied(operation_time);
        self.with(|state| state.catching_up = Some(position));
    }

    /// The stream was read to near the server's time.
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

    /// Everything up to this cluster time has been applied.
    pub fn applied(&self, cluster_time: Timestamp) {
        self.with(|state| state.applied = state.applied.max(Some(cluster_time)));
    }

    /// The canary is written this often from now on: the stream is not silent any longer.
    pub fn canary_every(&self, interval: Duration) {
        self.with(|state| {
            state.canary_interval = Some(interval);
            state.moved = Some(clock::instant());
        });
    }

    /// A batch of events is being applied, however long that takes.
    pub fn batch_begins(&self) {
        self.with(|state| state.moved = None);
    }

    /// It is applied.
    pub fn batch_ends(&self) {
        self.with(|state| state.moved = Some(clock::instant()));
    }

    /// Up to which cluster time everything has been applied; `None` before the first batch and on a standby.
    #[must_use]
    pub fn applied_time(&self) -> Option<Timestamp> {
        self.with(|state| state.applied)
    }

    /// A checkpoint was saved.
    pub fn checkpointed(&self) {
        self.with(|state| state.checkpointed = Some(clock::instant()));
    }

    /// Seconds since the last checkpoint was saved; `None` before the first and on a standby.
    #[must_use]
    pub fn checkpoint_age(&self) -> Option<f64> {
        let saved = self.with(|state| state.checkpointed)?;
        Some(saved.elapsed().as_secs_f64())
    }

    /// What the instance is doing.
    #[must_use]
    pub fn role(&self) -> Role {
        self.with(|state| state.role)
    }

    /// True while the position is lost and a person must decide.
    #[must_use]
    pub fn halted(&self) -> bool {
        self.with(|state| state.halted)
    }

    /// How many watched collections were dropped or renamed and are not repaired yet; only the leader knows.
    #[must_use]
    pub fn dropped_sources(&self) -> usize {
        self.with(|state| state.known_dropped().count())
    }

    /// What fails and is tried again, whether or not that ends readiness, each with advice.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.with(|state| {
            state.troubles.values().map(|trouble| format!("{}; {}", trouble.problem, trouble.advice)).collect()
        })
    }

    /// Seconds between the server's time and the last applied position, from server clocks; while
    /// replies are missing, their age is added. `None` before the first (spec 03, "Lag").
    #[must_use]
    pub fn lag(&self) -> Option<f64> {
        let (server, applied) = self.with(|state| Some((state.server?, state.applied.or(state.catching_up)?)))?;
        let behind = server.0.time.saturating_sub(applied.time);
        let overdue = server.1.elapsed().saturating_sub(self.await_time * 2);
        Some(f64::from(behind) + overdue.as_secs_f64())
    }

    /// The answer of `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let lag = self.lag();
        let (role, mut reasons) = self.with(|state| {
            let bad = state
                .troubles
                .iter()
                .filter(|(_, trouble)| trouble.at_once || trouble.since.elapsed() >= self.max_retry);
            let reasons = bad.map(|(_, trouble)| format!("{}; {}", trouble.problem, trouble.advice));
            let halted = state.halted.then(|| HALTED.to_owned());
            let dropped = state.known_dropped().map(|name| {
                format!(
                    "source_collection_dropped: {name} was dropped or renamed; restore it: once it is there again, \
                     everything is looked at; if that was meant, create it empty and restart"
                )
            });
            let silent = state.silence().map(|silence| {
                format!(
                    "no event came through the stream for {} s, not even the canary: the stream is stuck; look at the \
                     log, and restart if it stays so",
                    silence.as_secs()
                )
            });
            (state.role, reasons.chain(halted).chain(dropped).chain(silent).collect::<Vec<String>>())
        });
        match (role, lag) {
            (Role::Starting, _) => reasons.push("starting: not connected to MongoDB yet".to_owned()),
            (Role::Leader, None) => reasons.push("the change stream has not answered yet".to_owned()),
            (Role::Leader, Some(lag)) if lag > self.max_lag.as_secs_f64() && self.is_catching_up() => {
                reasons.push(format!(
                    "catching up: {lag:.0} s behind, more than {} s; nothing to do, the oplog is read from there on",
                    self.max_lag.as_secs()
                ));
            }
            (Role::Leader, Some(lag)) if lag > self.max_lag.as_secs_f64() => {
                reasons.push(format!("lag of {lag:.0} s, more than {} s", self.max_lag.as_secs()));
            }
            _ => {}
        }
        Readiness { ready: reasons.is_empty(), role, lag_seconds: lag, reasons }
    }

    /// Loops that gave no sign of life for too long; empty when all is well.
    #[must_use]
    pub fn dead(&self) -> Vec<HealthPart> {
        self.with(|state| {
            let dead = state.beats.iter().filter(|(_, beat)| beat.elapsed() > DEAD_AFTER);
            dead.map(|(part, _)| *part).collect()
        })
    }
}
