//! The survey: a task that regularly reads the state of the whole service from the database, for the status page and
//! some metrics. Probes and pages then answer from memory. Every instance has its own survey. It writes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::{DateTime, Timestamp};
use resume_tokens::Checkpoint;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::conditions::LeaderCondition;
use super::counts::{self, Counts};
use super::events::{self, ShownEvent};
use super::instances::{self, InstanceStatus};
use super::running::{RunningWork, running};
use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::leader::foreign_minutes::ForeignWritesReport;
use crate::leader::halt::StoredHalt;
use crate::leader::lead;
use crate::leader::minutes;
use crate::leader::pause::StoredPause;
use crate::lease::{self, Holder};
use crate::maintenance::repairs::{self, RepairCondition};
use crate::maintenance::resync::StoredResync;
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::Oplog;
use crate::mongo::server_clock::server_time;
use crate::observe::health::Role;
use crate::observe::recent_history::{self, History, HistorySample, Minute};
use crate::observe::repeated_failure::RepeatedFailure;
use crate::phase::late_writes::{LateWrites, LateWritesReport};
use crate::phase::state::{self, Current};
use crate::phase::step_conditions::{Condition, LastVerification, conditions};
use crate::source::cursor::operation_time;
use crate::tasks::pause;
use crate::ticker::overview::{Overview, overview};
use crate::write::stored_dead_letter;
use crate::write::stored_throttle::StoredThrottle;

/// The time between two reads of the small documents.
const INTERVAL: Duration = Duration::from_secs(5);
/// The age from which the facts are too old for metrics.
const STALE: Duration = Duration::from_secs(60);
/// The shortest time between two counts.
pub(crate) const BETWEEN_COUNTS: Duration = Duration::from_secs(15);
/// The ratio of the pause after a count to the duration of the count. A count reads whole collections, so counting may
/// take at most one per cent of the time.
const SHARE: u32 = 100;

/// The state of the whole service, read from small documents of the database.
#[derive(Debug, Clone)]
pub(crate) struct ServiceFacts {
    /// The beginning of the read, by the server's clock.
    pub at: DateTime,
    /// The beginning of the read, by the monotonic clock of this process.
    asked: Instant,
    pub phase: Current,
    /// The conditions for the step to the next phase.
    pub conditions: Vec<Condition>,
    /// The leader; `None` when no instance leads.
    pub leader: Option<Holder>,
    /// All instances, the leader first.
    pub instances: Vec<InstanceStatus>,
    /// True while the leader is halted.
    pub is_halted: bool,
    /// The work that runs now.
    pub running: Vec<RunningWork>,
    /// What still has to be repaired.
    pub repair: RepairCondition,
    /// The pause; `None` while the service is not paused.
    pub pause: Option<StoredPause>,
    /// The checkpoint; `None` before the first one, and where this instance cannot read it.
    pub checkpoint: Option<Checkpoint>,
    /// The server's operation time.
    pub server_time: Timestamp,
    /// The bounds of the oplog; `None` where the oplog may not be read.
    pub oplog: Option<Oplog>,
    /// The number of dead letters by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// The last full verification; `None` when there was none.
    pub verification: Option<LastVerification>,
    /// Writes to `recruiters` since the step to `retired`; `None` in other phases.
    pub late_writes: Option<LateWritesReport>,
    /// The ordered ceiling of writes, and why work is slowed.
    pub throttle: StoredThrottle,
    /// The writes of others to our offers in the last hour; `None` where the configuration turns the watch off.
    pub foreign_writes: Option<ForeignWritesReport>,
    /// The time-based jobs.
    pub jobs: Vec<Overview>,
    /// The last hour of those who led, by the minute.
    pub minutes: Vec<Minute>,
    /// The last events of the timeline, the newest first. Empty where this instance may not read them.
    pub events: Vec<ShownEvent>,
}

/// The last results of the survey, shared between the task of the survey and the HTTP routes.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The last hour of lag and throughput of this instance, while it led.
    pub history: History,
    /// `None` before the first answer.
    facts: Mutex<Option<Arc<ServiceFacts>>>,
    /// `None` before the first count.
    counts: Mutex<Option<Arc<Counts>>>,
    /// The reason why the last read failed; `None` after a read that succeeded.
    problem: Mutex<Option<String>>,
}

fn held<T: Clone>(value: &Mutex<T>) -> T {
    value.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn put<T>(place: &Mutex<T>, value: T) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

impl ServiceFacts {
    /// The condition of the leader; `None` when no instance leads. Its lag is unknown once the facts are old.
    #[must_use]
    pub(crate) fn leader_condition(&self) -> Option<LeaderCondition> {
        let condition = LeaderCondition::of(self.leader.as_ref()?, self.at);
        let lag = condition.lag.filter(|_| self.asked.elapsed() <= INTERVAL * 2);
        Some(LeaderCondition { lag, ..condition })
    }

    /// The time since the read began.
    #[must_use]
    pub(crate) fn age(&self) -> Duration {
        self.asked.elapsed()
    }

    /// True when the oplog no longer has the checkpoint.
    #[must_use]
    pub(crate) fn is_position_lost(&self) -> bool {
        self.checkpoint
            .as_ref()
            .zip(self.oplog)
            .is_some_and(|(checkpoint, oplog)| !oplog.reaches(checkpoint.cluster_time))
    }

    /// The server's time minus the position of the checkpoint, in seconds. The age also grows while the server does not
    /// answer. `None` without a checkpoint.
    #[must_use]
    pub(crate) fn checkpoint_age(&self) -> Option<u64> {
        let position = self.checkpoint.as_ref()?.cluster_time;
        let unanswered = self.asked.elapsed().saturating_sub(INTERVAL * 2);
        Some(u64::from(self.server_time.time.saturating_sub(position.time)) + unanswered.as_secs())
    }

    /// The time that the oplog holds, in seconds; `None` where the oplog may not be read.
    #[must_use]
    pub(crate) fn oplog_window(&self) -> Option<f64> {
        Some(self.oplog?.window().as_secs_f64())
    }

    /// The time until the checkpoint falls off the oplog, in seconds; `None` without a checkpoint, where the oplog may not
    /// be read, and while it is young.
    #[must_use]
    pub(crate) fn headroom(&self) -> Option<f64> {
        let position = self.checkpoint.as_ref()?.cluster_time;
        Some(self.oplog?.headroom(position)?.as_secs_f64())
    }
}

impl Survey {
    /// The last facts; `None` before the first answer.
    #[must_use]
    pub(crate) fn facts(&self) -> Option<Arc<ServiceFacts>> {
        held(&self.facts)
    }

    /// The last facts; `None` also when they are older than [`STALE`], so that a metric never shows an old value.
    #[must_use]
    pub(crate) fn fresh_facts(&self) -> Option<Arc<ServiceFacts>> {
        self.facts().filter(|facts| facts.asked.elapsed() < STALE)
    }

    /// The last counts; `None` before the first count.
    #[must_use]
    pub(crate) fn counts(&self) -> Option<Arc<Counts>> {
        held(&self.counts)
    }

    /// The reason why the last read failed, with advice; `None` when it succeeded.
    #[must_use]
    pub(crate) fn problem(&self) -> Option<String> {
        held(&self.problem)
    }
}

/// Runs the survey until `stop`: reads the small documents, counts, and samples lag and throughput.
///
/// # Errors
/// None: a failed read or count is repeated later.
pub(crate) async fn watch(context: Context, survey: Arc<Survey>, stop: CancellationToken) -> Result<(), Failure> {
    tokio::join!(sample(&context, &survey, &stop), refresh(&context, &survey, &stop), count(&context, &survey, &stop));
    Ok(())
}

async fn sample(context: &Context, survey: &Survey, stop: &CancellationToken) {
    loop {
        survey.history.add(HistorySample {
            at: clock::now().timestamp_millis() / 1_000,
            leads: context.health.role() == Role::Leader,
            lag: context.health.lag(),
            events: context.metrics.events_read(),
            offers: context.metrics.offers_changed(),
        });
        if !pause(stop, recent_history::INTERVAL).await {
            return;
        }
    }
}

async fn refresh(context: &Context, survey: &Survey, stop: &CancellationToken) {
    loop {
        let asked = tokio::select! { () = stop.cancelled() => return, asked = Box::pin(facts(context)) => asked };
        match asked {
            Ok(facts) => {
                put(&survey.facts, Some(Arc::new(facts)));
                put(&survey.problem, None);
            }
            Err(failure) => put(&survey.problem, Some(format!("{failure}; {}", failure.advice()))),
        }
        if !pause(stop, INTERVAL).await {
            return;
        }
    }
}

async fn count(context: &Context, survey: &Survey, stop: &CancellationToken) {
    let mut failed = RepeatedFailure::default();
    loop {
        let began = clock::instant();
        let label = &context.settings.target.partner_label;
        let counting = Box::pin(counts::count(&context.database, label));
        match tokio::select! { () = stop.cancelled() => return, counted = counting => counted } {
            Ok(counts) => {
                context.metrics.counted(&counts.source_jobs, &counts.target_offers);
                put(&survey.counts, Some(Arc::new(counts)));
                if let Some(ended) = failed.end() {
                    let (failures, seconds) = (ended.failures, ended.seconds);
                    info!(failures, seconds, "jobs and offers can be counted again");
                }
            }
            Err(failure) if failed.is_new(&failure) => {
                warn!(error = %failure, "jobs and offers could not be counted; retrying");
            }
            Err(_) => {}
        }
        if !pause(stop, (began.elapsed() * SHARE).max(BETWEEN_COUNTS)).await {
            return;
        }
    }
}

async fn facts(context: &Context) -> Result<ServiceFacts, Failure> {
    let database = &context.database;
    let asked = clock::instant();
    let at = server_time(database).await?;
    let phase = state::load(database, context.settings.phase.initial).await?;
    let known = state::facts(database, &phase, None, at).await?;
    let (next, leader) = (phase.phase.next(), lease::current(database).await?);
    let resync = StoredResync::read(database).await?;
    let (halt, pause) = (StoredHalt::read(database).await?, StoredPause::read(database).await?);
    let is_held_up = halt.is_some() || pause.is_some();
    Ok(ServiceFacts {
        at,
        asked,
        conditions: next.map(|next| conditions(&known, next)).unwrap_or_default(),
        late_writes: LateWrites::read(database, &phase).await?.map(|late| late.report()),
        throttle: StoredThrottle::read(database).await?,
        foreign_writes: ForeignWritesReport::of_last_hour(context, at).await?,
        phase,
        instances: instances::read(database, leader.as_ref(), at).await?,
        leader,
        is_halted: halt.is_some(),
        repair: repairs::read(database, resync.as_ref()).await?,
        running: running(context, resync.as_ref(), is_held_up).await?,
        pause,
        // A checkpoint that cannot be read counts as none here; the leader, which needs it, reports the failure.
        checkpoint: with_deadline(lead::store(context).load()).await.ok().flatten(),
        server_time: operation_time(database).await?,
        oplog: Oplog::measure(database).await?,
        dead_letters: stored_dead_letter::count_by_reason(database).await?,
        verification: known.verification,
        jobs: overview(database, &context.settings.ticker, at).await?,
        minutes: minutes::read(database).await?,
        events: events::newest(database).await.unwrap_or_default(),
    })
}
