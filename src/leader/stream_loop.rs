//! The pipeline takes replies from the reader, plans their events, applies the plan and saves a checkpoint.
//! Batches are applied one after another. A batch that fails is applied again as a whole, and the checkpoint does not
//! move until the batch succeeds. Between batches the pipeline does steps of maintenance, for instance of a resync.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, DateTime};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, warn};

use super::checkpoint::{Applied, Checkpoints};
use super::reader::{EVENTS_PER_REPLY, Incoming};
use super::schema_memory::KnownSchema;
use crate::apply::executor::Apply;
use crate::clock;
use crate::error::Directive;
use crate::failpoint;
use crate::interruption::{Interruption, Unfinished};
use crate::lease::Completeness;
use crate::maintenance::worker::MaintenanceWorker;
use crate::model::names::{STATE, WatchedCollection};
use crate::observe::exemplar::ExemplarOrigin;
use crate::observe::facts::TouchOrigin;
use crate::observe::health::{Health, HealthPart};
use crate::phase::watcher::Followed;
use crate::plan::Plan;
use crate::plan::dropped_sources::Dropped;
use crate::retry::Delays;
use crate::source::cursor::StreamReply;
use crate::source::event::Event;
use crate::tasks::pause;
use crate::ticker::write_access::OfferWriteLock;
use crate::traces;
use crate::write::dead_letters::EventPosition;
use crate::write::lease_check::Validity;
use crate::write::update_command;

/// The time to wait for the reply after a full one. A busy server reads a reply in less time, if there is one. Each batch
/// reads its recruiters and offers once, so a wait is cheaper than one batch more.
const ON_THE_WAY: Duration = Duration::from_millis(200);

/// The interval at which the pipeline looks for stored commands.
pub(crate) const COMMANDS_INTERVAL: Duration = Duration::from_millis(500);

/// The pipeline of one leadership.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(super) apply: Apply,
    pub(super) checkpoints: Checkpoints,
    /// Replies and gaps from the reader, in order.
    pub(super) inbox: mpsc::Receiver<Incoming>,
    /// Stored commands and resyncs, which are done in steps between batches.
    pub(super) maintenance: MaintenanceWorker,
    /// Sources that were dropped and that no resync has repaired yet.
    pub(super) dropped: Dropped,
    /// The phase as it was last read from the database.
    pub(super) phase: watch::Receiver<Followed>,
    pub(super) times: LastTimes,
    pub(super) schema: KnownSchema,
    /// The setting `stream.batch_max`: the greatest number of events in a batch.
    pub(super) batch_max: usize,
    /// The setting `stream.batch_max_bytes`. Merging stops when a batch has so many bytes.
    pub(super) batch_max_bytes: usize,
    /// The time until which the lease allows writes.
    pub(super) validity: watch::Receiver<Validity>,
    pub(super) health: Arc<Health>,
    /// The lock that pipeline and ticker hold while they write offers.
    pub(super) offer_write_lock: OfferWriteLock,
    /// The ticker notifies it when it has stored a command for the pipeline.
    pub(super) wake: Arc<Notify>,
    /// Tells at the end of the leadership whether any touch is applied in part.
    pub(super) completeness: Completeness,
    /// Cancelled when the leadership must end: when the process ends, the lease is lost, or the phase needs another
    /// change stream.
    pub(super) stop: CancellationToken,
}

/// Times of recurring work. `None` means not yet.
#[derive(Debug, Default)]
pub(crate) struct LastTimes {
    /// The last look for stored commands.
    pub(super) looked: Option<Instant>,
    /// The end of the last step of maintenance.
    pub(super) stepped: Option<Instant>,
    /// The duration of that step.
    pub(super) step_took: Duration,
}

/// Events of one or more merged replies.
struct Batch {
    events: Vec<Event>,
    /// The last reply, whose position is that of the batch. Its events are moved to `events`.
    last: StreamReply,
}

impl Pipeline {
    /// Runs until `stop` is cancelled or the reader ends. Every applied batch then has its checkpoint.
    ///
    /// # Errors
    /// A failure or an interruption that must end the leadership of this instance.
    pub(crate) async fn run(mut self) -> Result<(), Unfinished> {
        while let Some(incoming) = self.next().await? {
            match incoming {
                Incoming::Reply { reply, is_full } => {
                    // An idle stream has no traces.
                    let (trace, read) = if reply.events.is_empty() {
                        (Span::none(), Span::none())
                    } else {
                        let trace = traces::batch(self.apply.stages.phase.word());
                        (trace.clone(), trace.in_scope(|| traces::stage("read")))
                    };
                    let (batch, gap) = self.merge(reply, is_full).instrument(read).await;
                    Box::pin(self.handle(&batch)).instrument(trace).await?;
                    self.tend_sources(batch.last.position.cluster_time().time).await?;
                    if let Some(gap) = gap {
                        self.open_gap(gap).await?;
                    }
                }
                gap @ Incoming::Gap { .. } => self.open_gap(gap).await?,
            }
        }
        self.apply.stages.complete(&self.completeness);
        match self.may_write() {
            Ok(()) => self.checkpoints.save_old_worker_tokens(true).await,
            // The lease is over, so another instance writes these tokens now.
            Err(_) => Ok(()),
        }
    }

    /// Waits for the next reply or gap. Steps of maintenance are done while there is none, and now and then while the
    /// stream is busy. `None` means the end of the leadership.
    async fn next(&mut self) -> Result<Option<Incoming>, Unfinished> {
        loop {
            self.health.alive(HealthPart::Pipeline);
            self.follow_phase().await?;
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            self.look_for_commands().await?;
            let throttled = self.apply.stages.throttle.until_step();
            if self.maintenance.has_work() && throttled.is_zero() {
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
                let longest = self.longest_wait(throttled);
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(None),
                    incoming = self.inbox.recv() => return Ok(incoming),
                    () = self.wake.notified() => self.times.looked = None,
                    // The wait ends so often that the pipeline also reports to be alive while the stream is in trouble.
                    () = tokio::time::sleep(longest) => {}
                }
            }
        }
    }

    /// The longest time to wait for a reply. A step of maintenance that the throttle holds up follows it.
    fn longest_wait(&self, throttled: Duration) -> Duration {
        if self.maintenance.has_work() { throttled.min(COMMANDS_INTERVAL) } else { COMMANDS_INTERVAL }
    }

    /// Merges the replies that wait, up to `batch_max` events. So a backlog of events on few recruiters collapses
    /// (spec 03, "Batches"). A gap ends the batch, because it must be recorded before the events after it are applied.
    async fn merge(&mut self, first: StreamReply, mut is_full: bool) -> (Batch, Option<Incoming>) {
        let mut batch = Batch { events: Vec::new(), last: first };
        batch.events.append(&mut batch.last.events);
        let mut bytes: usize = batch.events.iter().map(Event::weight).sum();
        // An empty reply means that the stream is idle, so there is nothing to merge.
        let has_room = |batch: &Batch| batch.events.len() + EVENTS_PER_REPLY <= self.batch_max;
        while !batch.events.is_empty() && has_room(&batch) && bytes < self.batch_max_bytes {
            let next = match self.inbox.try_recv() {
                // After a full reply there are probably more events, and the reader is fetching them.
                Err(_) if is_full => tokio::time::timeout(ON_THE_WAY, self.inbox.recv()).await.ok().flatten(),
                next => next.ok(),
            };
            match next {
                Some(Incoming::Reply { mut reply, is_full: next_is_full }) => {
                    is_full = next_is_full;
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

    async fn handle(&mut self, batch: &Batch) -> Result<(), Unfinished> {
        let applied = Applied {
            token: batch.last.position.clone(),
            wall_time: batch.events.last().map(|event| event.wall_time),
            events: batch.events.len(),
        };
        if batch.events.is_empty() {
            return self.handle_idle(&applied).await;
        }
        pause(&self.stop, self.apply.stages.throttle.before_batch()).await;
        self.health.batch_begins();
        let began = clock::instant();
        let plan = traces::stage("plan").in_scope(|| self.apply.plan_batch(&batch.events));
        self.report(&batch.events, &plan);
        Span::current().record("events", batch.events.len()).record("touches", plan.touches.len());
        let wall_time = applied.wall_time.unwrap_or_else(clock::now);
        let position = EventPosition {
            token: Bson::Document(applied.token.to_document()),
            cluster_time: Bson::Timestamp(applied.token.cluster_time()),
            wall_time,
        };
        if plan.requires_resync() {
            self.resync_everything("what changed in a collection cannot be told from its events").await?;
        }
        self.note_sources(&batch.events).await?;
        // The batch is repeated as a whole, because nothing in it depends on whether it was applied before.
        let mut delays = Delays::up_to(Duration::from_secs(5));
        while let Err(cause) = self.apply_once(&plan, &position, &applied).await {
            self.apply.stages.expect_repetition(batch.events.len());
            self.wait_after(cause, &mut delays).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
        let repeated = &mut self.apply.stages.repeated_events;
        *repeated = repeated.saturating_sub(batch.events.len());
        self.health.works(HealthPart::Pipeline);
        self.health.applied(applied.token.cluster_time());
        self.health.batch_ends();
        self.checkpoints.note(&batch.events);
        self.save_old_worker_tokens(false).await;
        self.measure(batch, began);
        Ok(())
    }

    async fn apply_once(&mut self, plan: &Plan, position: &EventPosition, applied: &Applied) -> Result<(), Unfinished> {
        let offer_write_lock = Arc::clone(&self.offer_write_lock);
        let offer_write_lock = offer_write_lock.lock().await;
        self.may_write()?;
        self.tell_whether_links_are_complete();
        let before = self.apply.stages.written_documents();
        let done = Box::pin(self.apply.plan(plan, position)).await;
        self.apply.stages.throttle.stream_wrote(self.written_since(before));
        done?;
        drop(offer_write_lock);
        failpoint::passed("applied");
        self.checkpoints.save(applied).instrument(traces::stage("checkpoint")).await?;
        failpoint::passed("checkpointed");
        self.health.checkpointed();
        Ok(())
    }

    /// Saves the position of a reply without events, so that the position does not age out of the oplog.
    async fn handle_idle(&mut self, applied: &Applied) -> Result<(), Unfinished> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        while self.checkpoints.idle_save_is_due() && !self.stop.is_cancelled() {
            self.may_write()?;
            match self.checkpoints.save(applied).await {
                Ok(()) => {
                    self.health.checkpointed();
                    break;
                }
                Err(cause) => self.wait_after(cause, &mut delays).await?,
            }
        }
        self.health.works(HealthPart::Pipeline);
        self.health.applied(applied.token.cluster_time());
        self.save_old_worker_tokens(false).await;
        Ok(())
    }

    /// Saves the old worker's tokens. A failure is only logged, because the stream does not depend on these tokens.
    async fn save_old_worker_tokens(&mut self, at_end: bool) {
        if let Err(cause) = self.checkpoints.save_old_worker_tokens(at_end).await {
            warn!(error = %cause, "the tokens of the old worker could not be saved; retrying");
        }
    }

    /// Counts and reports a failed attempt, and waits before the next one. The wait ends only when a majority has
    /// everything that the failed attempt wrote.
    pub(crate) async fn wait_after(&mut self, mut cause: Unfinished, delays: &mut Delays) -> Result<(), Unfinished> {
        loop {
            // The future is boxed because of a recursion: following the phase may fail and wait too.
            Box::pin(self.wait_once(cause, delays)).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            match update_command::confirm(&self.maintenance.fence.writer, STATE).await {
                Ok(()) => return Ok(()),
                Err(unconfirmed) => cause = unconfirmed,
            }
        }
    }

    async fn wait_once(&mut self, cause: Unfinished, delays: &mut Delays) -> Result<(), Unfinished> {
        match cause {
            Unfinished::Interrupted(Interruption::Stopping) => return Ok(()),
            Unfinished::Interrupted(Interruption::PhaseChanged) => return self.follow_phase().await,
            _ => {}
        }
        let metrics = &self.apply.stages.metrics;
        metrics.write_failed(&cause);
        let failure = match cause {
            Unfinished::Failed(failure) if failure.directive() != Directive::Stop => failure,
            lost_or_stop => return Err(lost_or_stop),
        };
        metrics.retries.inc();
        let at_once = failure.directive() == Directive::RetryUnready;
        self.health.trouble(HealthPart::Pipeline, &failure, failure.advice(), at_once);
        let delay = delays.next_delay();
        warn!(error = %failure, advice = failure.advice(), delay_ms = delay.as_millis(), "an attempt failed; retrying");
        pause(&self.stop, delay).await;
        Ok(())
    }

    /// Fails with [`Interruption::LeaseLost`] if the lease ran out, for instance while the process was paused.
    pub(crate) fn may_write(&self) -> Result<(), Unfinished> {
        if self.validity.borrow().left().is_zero() { Err(Interruption::LeaseLost.into()) } else { Ok(()) }
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
        let position = batch.last.position.cluster_time().time;
        let origin = match traces::id(&Span::current()) {
            Some(id) => ExemplarOrigin::Trace(id),
            None => ExemplarOrigin::Position(DateTime::from_millis(i64::from(position) * 1_000)),
        };
        metrics.batch_duration.observe(began.elapsed().as_secs_f64(), Some(origin.clone()));
        let now = clock::now();
        // The canary's own events would hide the others. Of those, the oldest and the newest are enough: the times of
        // the rest lie between them.
        let mut events = batch.events.iter().filter(|event| event.collection != Some(WatchedCollection::Canary));
        for event in events.next().into_iter().chain(events.next_back()) {
            let seconds = seconds_between(event.wall_time, now);
            metrics.end_to_end.observe(seconds, Some(origin.clone()));
            self.health.latencies.add(seconds);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds between two near times")]
fn seconds_between(from: DateTime, to: DateTime) -> f64 {
    (to.timestamp_millis() - from.timestamp_millis()).max(0) as f64 / 1000.0
}
