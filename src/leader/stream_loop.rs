//! The pipeline: takes what the reader hands on, plans, applies, checkpoints; does a step of a resync
//! when the stream has nothing to say. One batch after another; a batch that fails is applied again
//! whole, and the checkpoint stays where it was until it succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, DateTime};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::checkpoint::{Applied, Checkpoints};
use super::reader::{EVENTS_PER_REPLY, Incoming};
use crate::apply::executor::Apply;
use crate::clock;
use crate::error::{Directive, Failure};
use crate::failpoint;
use crate::maintenance::worker::MaintenanceWorker;
use crate::model::names::STATE;
use crate::observe::facts::TouchOrigin;
use crate::observe::health::{Health, HealthPart};
use crate::phase::watcher::Followed;
use crate::plan::sources::Dropped;
use crate::plan::{Plan, plan};
use crate::retry::Delays;
use crate::source::cursor::StreamReply;
use crate::source::event::Event;
use crate::tasks::pause;
use crate::ticker::write_access::OfferWriteLock;
use crate::write::command;
use crate::write::dead_letters::EventPosition;
use crate::write::writer::Validity;

/// How long the reply after a full one is waited for: reading it takes the server less, unless there is none.
const ON_THE_WAY: Duration = Duration::from_millis(50);

/// How often a request of a command is looked for.
pub(crate) const COMMANDS_INTERVAL: Duration = Duration::from_millis(500);

/// What the pipeline works with.
#[derive(Debug)]
pub struct Pipeline {
    /// Fetch, project, write.
    pub apply: Apply,
    /// Where positions are saved.
    pub checkpoints: Checkpoints,
    /// What the reader hands on.
    pub inbox: mpsc::Receiver<Incoming>,
    /// What goes on beside the stream.
    pub maintenance: MaintenanceWorker,
    /// Sources that were dropped and are not repaired.
    pub dropped: Dropped,
    /// The phase as it was last read from the database.
    pub phase: watch::Receiver<Followed>,
    /// When what is done now and then was done last.
    pub times: LastTimes,
    /// `stream.batch_max`
    pub batch_max: usize,
    /// `stream.batch_max_bytes`
    pub batch_max_bytes: usize,
    /// Until when the lease allows writes.
    pub validity: watch::Receiver<Validity>,
    /// Told of progress and trouble.
    pub health: Arc<Health>,
    /// Held while offers are written: the ticker does so too.
    pub offer_write_lock: OfferWriteLock,
    /// Rung when the ticker has stored a request.
    pub wake: Arc<Notify>,
    /// Set when the process is to end, or the lease is lost.
    pub stop: CancellationToken,
}

/// When what is done now and then was done last.
#[derive(Debug, Default)]
pub struct LastTimes {
    /// Commands were looked for.
    pub(crate) looked: Option<Instant>,
    /// A step beside the stream was done.
    pub(crate) stepped: Option<Instant>,
    /// How long that took.
    pub(crate) step_took: Duration,
}

/// Replies merged into one unit of work.
struct Batch {
    events: Vec<Event>,
    last: StreamReply,
}

impl Pipeline {
    /// Works until it is told to stop or the reader ends; then everything applied is checkpointed.
    ///
    /// # Errors
    /// What must end the leadership of this instance.
    pub async fn run(mut self) -> Result<(), Failure> {
        while let Some(incoming) = self.next().await? {
            match incoming {
                Incoming::Reply(reply) => {
                    let (batch, gap) = self.merge(reply).await;
                    Box::pin(self.handle(&batch)).await?;
                    self.tend_sources(batch.last.position.cluster_time().time).await?;
                    if let Some(gap) = gap {
                        self.open_gap(gap).await?;
                    }
                }
                gap @ Incoming::Gap { .. } => self.open_gap(gap).await?,
            }
        }
        match self.may_write() {
            Ok(()) => self.checkpoints.save_old_worker_tokens(true).await,
            // Another instance writes them now.
            Err(_) => Ok(()),
        }
    }

    /// The next thing from the reader; what goes on beside the stream is done step by step while there is
    /// none, and now and then when there always is one.
    async fn next(&mut self) -> Result<Option<Incoming>, Failure> {
        loop {
            self.health.alive(HealthPart::Pipeline);
            self.follow_phase().await?;
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            self.look_for_commands().await?;
            if self.maintenance.has_work() {
                if self.step_is_due() {
                    Box::pin(self.background_step()).await?;
                    continue;
                }
                match self.inbox.try_recv() {
                    Ok(incoming) => return Ok(Some(incoming)),
                    Err(mpsc::error::TryRecvError::Disconnected) => return Ok(None),
                    Err(mpsc::error::TryRecvError::Empty) => Box::pin(self.background_step()).await?,
                }
            } else {
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(None),
                    incoming = self.inbox.recv() => return Ok(incoming),
                    () = self.wake.notified() => self.times.looked = None,
                    // Waiting for a stream in trouble is a sign of life too.
                    () = tokio::time::sleep(COMMANDS_INTERVAL) => {}
                }
            }
        }
    }

    /// Behind, replies are merged up to `batch_max`, so that a backlog on few recruiters collapses
    /// (spec 03, "Batches"). A gap ends the batch: it must be recorded between what is around it.
    async fn merge(&mut self, first: StreamReply) -> (Batch, Option<Incoming>) {
        let mut is_full = first.events.len() >= EVENTS_PER_REPLY;
        let mut batch = Batch { events: Vec::new(), last: first };
        batch.events.append(&mut batch.last.events);
        let mut bytes: usize = batch.events.iter().map(Event::weight).sum();
        // An empty reply closes nothing worth merging: it is the sign that the stream is idle.
        let has_room = |batch: &Batch| batch.events.len() + EVENTS_PER_REPLY <= self.batch_max;
        while !batch.events.is_empty() && has_room(&batch) && bytes < self.batch_max_bytes {
            let next = match self.inbox.try_recv() {
                // There are more, and they are on their way.
                Err(_) if is_full => tokio::time::timeout(ON_THE_WAY, self.inbox.recv()).await.ok().flatten(),
                next => next.ok(),
            };
            match next {
                Some(Incoming::Reply(mut reply)) => {
                    is_full = reply.events.len() >= EVENTS_PER_REPLY;
                    bytes += reply.events.iter().map(Event::weight).sum::<usize>();
                    batch.events.append(&mut reply.events);
                    batch.last = reply;
                }
                Some(gap @ Incoming::Gap { .. }) => return (batch, Some(gap)),
                None => break,
            }
        }
        (batch, None)
    }

    async fn handle(&mut self, batch: &Batch) -> Result<(), Failure> {
        let applied = Applied {
            token: batch.last.position.clone(),
            wall_time: batch.events.last().map(|event| event.wall_time),
            events: batch.events.len(),
        };
        if batch.events.is_empty() {
            return self.handle_idle(&applied).await;
        }
        self.health.batch_begins();
        let began = clock::instant();
        let plan = plan(&batch.events);
        self.report(&batch.events, &plan);
        let wall_time = applied.wall_time.unwrap_or_else(clock::now);
        let position = EventPosition {
            token: Bson::Document(applied.token.to_document()),
            cluster_time: Bson::Timestamp(applied.token.cluster_time()),
            wall_time,
        };
        if plan.requires_resync() {
            self.look_at_everything("what changed in a collection cannot be told from its events").await?;
        }
        self.note_sources(&batch.events).await?;
        let mut delays = Delays::up_to(Duration::from_secs(5));
        while let Err(failure) = self.apply_once(&plan, &position, &applied).await {
            self.wait_after(failure, &mut delays).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
        self.health.works(HealthPart::Pipeline);
        self.health.applied(applied.token.cluster_time());
        self.health.batch_ends();
        self.checkpoints.note(&batch.events);
        self.save_old_worker_tokens(false).await;
        self.measure(batch, began);
        Ok(())
    }

    async fn apply_once(&mut self, plan: &Plan, position: &EventPosition, applied: &Applied) -> Result<(), Failure> {
        let offer_write_lock = Arc::clone(&self.offer_write_lock);
        let offer_write_lock = offer_write_lock.lock().await;
        self.may_write()?;
        Box::pin(self.apply.plan(plan, position)).await?;
        drop(offer_write_lock);
        failpoint::passed("applied");
        self.checkpoints.save(applied).await?;
        failpoint::passed("checkpointed");
        self.health.checkpointed();
        Ok(())
    }

    /// Nothing happened; the position moves all the same.
    async fn handle_idle(&mut self, applied: &Applied) -> Result<(), Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        while self.checkpoints.idle_save_is_due() && !self.stop.is_cancelled() {
            self.may_write()?;
            match self.checkpoints.save(applied).await {
                Ok(()) => {
                    self.health.checkpointed();
                    break;
                }
                Err(failure) => self.wait_after(failure, &mut delays).await?,
            }
        }
        self.health.works(HealthPart::Pipeline);
        self.health.applied(applied.token.cluster_time());
        self.save_old_worker_tokens(false).await;
        Ok(())
    }

    /// The old worker's tokens are a courtesy: failing to write them must not hold up the stream.
    async fn save_old_worker_tokens(&mut self, at_end: bool) {
        if let Err(failure) = self.checkpoints.save_old_worker_tokens(at_end).await {
            warn!(error = %failure, "the tokens of the old worker could not be saved; tried again");
        }
    }

    /// Between two attempts: counts, tells, waits, and makes sure of what the failed one wrote.
    pub(crate) async fn wait_after(&mut self, mut failure: Failure, delays: &mut Delays) -> Result<(), Failure> {
        loop {
            // Boxed, because following the phase may have to wait after a failure in its turn.
            Box::pin(self.wait_once(failure, delays)).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            match command::confirm(&self.apply.stages.writer, STATE).await {
                Ok(()) => return Ok(()),
                Err(unconfirmed) => failure = unconfirmed,
            }
        }
    }

    async fn wait_once(&mut self, failure: Failure, delays: &mut Delays) -> Result<(), Failure> {
        let directive = failure.directive();
        match failure {
            Failure::Interrupted => return Ok(()),
            Failure::PhaseChanged => return self.follow_phase().await,
            _ => {}
        }
        let metrics = &self.apply.stages.metrics;
        metrics.write_failed(&failure);
        if directive == Directive::Stop {
            return Err(failure);
        }
        metrics.retries.inc();
        self.health.trouble(HealthPart::Pipeline, &failure, directive == Directive::RetryUnready);
        let delay = delays.next_delay();
        warn!(error = %failure, advice = failure.advice(), delay_ms = delay.as_millis(), "tried again");
        pause(&self.stop, delay).await;
        Ok(())
    }

    /// Refuses to go on when the lease ran out, for instance while the process was paused.
    pub(crate) fn may_write(&self) -> Result<(), Failure> {
        if self.validity.borrow().left().is_zero() { Err(Failure::LeaseLost) } else { Ok(()) }
    }

    fn report(&self, events: &[Event], plan: &Plan) {
        let metrics = &self.apply.stages.metrics;
        for event in events {
            metrics.event_read(event.collection.or(event.renamed_to), event.operation);
        }
        metrics.touched(TouchOrigin::Stream, plan.touches.len() as u64);
        metrics.batch_events.observe(events.len() as f64);
        debug!(
            events = events.len(),
            touches = plan.touches.len(),
            anonymized = plan.anonymized_recruiters.len(),
            deleted = plan.deleted_recruiters.len(),
            "batch"
        );
    }

    fn measure(&self, batch: &Batch, began: Instant) {
        let metrics = &self.apply.stages.metrics;
        metrics.batch_duration.observe(began.elapsed().as_secs_f64());
        let now = clock::now();
        // Its oldest and its newest event: what lies between took a time between.
        for event in batch.events.first().into_iter().chain(batch.events.iter().skip(1).next_back()) {
            metrics.end_to_end.observe(seconds_between(event.wall_time, now));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds between two near times")]
fn seconds_between(from: DateTime, to: DateTime) -> f64 {
    (to.timestamp_millis() - from.timestamp_millis()).max(0) as f64 / 1000.0
}
