//! Runs a leadership from the lease to its end: the tasks that renew the lease, read the stream and apply its events.
//! The functions for commands that hold the lease themselves are here too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::DateTime;
use mongodb::Database;
use resume_tokens::{FileStore, MongoStore, OldWorkerTokens, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::canary;
use super::checkpoint::{CheckpointTerm, Checkpoints};
use super::control::{Control, LeaderState};
use super::dropped_source_repair;
use super::foreign_write_watch::ForeignWriteWatch;
use super::halt::{self, ResumeOrder};
use super::late_write_watch::LateWriteWatch;
use super::leadership_event;
use super::minutes;
use super::outage_event;
use super::pressure_watch::PressureWatch;
use super::reader::{EVENTS_PER_REPLY, StreamReader};
use super::schema_memory::KnownSchema;
use super::start_position::{self, PositionStores, Start, Watch, prepare};
use super::stream_loop::{LastTimes, Pipeline};
use crate::apply::executor::Apply;
use crate::apply::output::Output;
use crate::apply::preemption::PreemptionCheck;
use crate::apply::sampler::Sampler;
use crate::apply::stages::Stages;
use crate::clock;
use crate::config::TokenStoreKind;
use crate::context::Context;
use crate::error::{Directive, Failure};
use crate::interruption::{Interruption, Unfinished};
use crate::lease;
use crate::lease::{Completeness, Lease};
use crate::maintenance::replay::time_text;
use crate::maintenance::worker::MaintenanceWorker;
use crate::observe::health::{Health, longest_silence};
use crate::observe::repeated_failure::RepeatedFailure;
use crate::phase::Phase;
use crate::phase::state::{self, Current};
use crate::phase::watcher::{self, KnownPhase};
use crate::plan::dropped_sources::Dropped;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::source::aggregation::fingerprint;
use crate::source::cursor::StreamPosition;
use crate::source::undeliverable::Stumbles;
use crate::tasks::{Group, Task, pause};
use crate::ticker::ledger;
use crate::ticker::runner::{LeaderHandles, Ticker};
use crate::verify::continuous::Continuous;
use crate::write::Writer;
use crate::write::lease_check::Validity;
use crate::write::own_writes::OwnWrites;
use crate::write::recorder::recorder;
use crate::write::throttle::Throttle;
use crate::write::transaction::Fence;

/// Leads until the lease is lost, a task fails for good, or `stop` is cancelled.
///
/// # Errors
/// The failure or the interruption that ended the leadership.
pub(crate) async fn lead(
    context: &Context,
    lease: Lease,
    resume: Option<ResumeOrder>,
    stop: &CancellationToken,
) -> Result<(), Unfinished> {
    let (mut group, term, completeness) = (Group::new(stop), lease.term, lease.completeness.clone());
    let (renewed, validity) = watch::channel(lease.validity);
    let (writer, settings) = (lease.writer(&context.database, validity.clone()), &context.settings);
    group.spawn(Task::Lease, renew(lease, renewed, Arc::clone(&context.health), group.stop.clone()));
    let writer = with_timeline(context, writer, term, &mut group);
    // The fence comes before all reads: until then a transaction of the previous leader may still change documents.
    let (fence, through) = Fence::take_over(writer.clone(), term).await?;
    ledger::prepare(&context.database).await?;
    let current = begin_phase(context).await?;
    let (known, store, phase) = (follow_phase(context, &current, &mut group), store(context), current.phase);
    let start = begin_stream(context, &writer, &store, (term, resume), phase).await?;
    let dropped = dropped_sources(context, start.is_first, phase).await?;
    let sampler = Arc::new(Sampler::new(settings.verify.sample_size));
    let mut stages = stages(context, writer.clone(), &completeness, phase).await?;
    let health = Arc::clone(&context.health);
    stages.preemption = Some(PreemptionCheck::new(validity.clone(), known.subscribe(), group.stop.clone(), health));
    stages.sampler = Some(Arc::clone(&sampler));
    // The reader may be one batch ahead of the pipeline, not more: memory is bounded.
    let (outbox, inbox) = mpsc::channel(settings.stream.batch_max.div_ceil(EVENTS_PER_REPLY));
    let handles = LeaderHandles::new(fence, through, validity.clone(), known.subscribe(), stages.throttle.clone());
    let (initial, positions) = (settings.phase.initial, store.clone());
    let mut maintenance =
        MaintenanceWorker::new(start.resync, handles.fence.clone(), initial, Arc::clone(&known), positions);
    // A resync waits if sources are dropped. The pipeline decides again as soon as it knows the stream's time.
    maintenance.held = dropped != Dropped::default();
    let keeps_backup = settings.phase.keep_recruiters_backup;
    let (metrics, fingerprint) = (Arc::clone(&context.metrics), fingerprint(phase.watched(keeps_backup)));
    let of_term = CheckpointTerm { term, fingerprint, history: start.history, events: start.events };
    let checkpoints = Checkpoints::new(store, writer.clone(), settings.tokens.clone(), metrics, of_term);
    let pipeline = Pipeline {
        offer_write_lock: Arc::clone(&handles.offer_write_lock),
        wake: Arc::clone(&handles.wake),
        apply: Apply::new(stages),
        maintenance,
        dropped,
        phase: known.subscribe(),
        times: LastTimes::default(),
        schema: KnownSchema::default(),
        checkpoints,
        inbox,
        batch_max: settings.stream.batch_max,
        batch_max_bytes: settings.stream.batch_max_bytes,
        validity,
        health: Arc::clone(&context.health),
        completeness,
        stop: group.stop.clone(),
    };
    spawn_watches(context, (writer, pipeline.apply.stages.throttle.clone()), term, current, &mut group);
    group.spawn(Task::Reader, reader(context, phase, start.position).run(outbox));
    group.spawn(Task::Verification, Continuous::new(context.clone(), sampler, group.stop.clone()).run());
    group.spawn(Task::Ticker, Ticker::new(context.clone(), handles, group.stop.clone()).run());
    group.spawn(Task::Pipeline, pipeline.run());
    group.join(Task::Pipeline).await
}

/// Spawns the task that writes the timeline, and returns the writer that tells its events to it, and remembers its own writes
/// for the watch for foreign writes.
fn with_timeline(context: &Context, writer: Writer, term: i64, group: &mut Group) -> Writer {
    let own_writes = context.settings.foreign_writes.enabled.then(OwnWrites::default);
    let writer = writer.remembering(own_writes).with_notices(&context.notices);
    let (timeline, recorder) = recorder();
    let (first, stop) = (leadership_event::leadership(context.clone(), term), group.stop.clone());
    group.spawn(Task::Timeline, recorder.run_after(writer.clone(), first, stop));
    writer.with_timeline(timeline)
}

/// Makes the stages of a leadership. The leader before may have been killed in the middle of a batch, perhaps with a
/// greater `batch_max`.
async fn stages(
    context: &Context,
    writer: Writer,
    completeness: &Completeness,
    phase: Phase,
) -> Result<Stages, Failure> {
    let output = Output::Live(writer.of_pipeline(Arc::clone(&context.health)));
    let mut stages = Stages::new(context, phase, output).await?;
    stages.take_over(completeness, context.settings.stream.batch_max.saturating_mul(2)).await?;
    Ok(stages)
}

/// Spawns the task that follows the phase of the database.
fn follow_phase(context: &Context, current: &Current, group: &mut Group) -> KnownPhase {
    let known = watcher::known(current);
    let (database, initial) = (Database::clone(&context.database), context.settings.phase.initial);
    group.spawn(Task::Phase, watcher::follow(database, initial, Arc::clone(&known), group.stop.clone()));
    known
}

/// Spawns the control, the canary, and the watches for pressure, late writes, foreign writes
/// and outages.
fn spawn_watches(
    context: &Context,
    (writer, throttle): (Writer, Throttle),
    term: i64,
    current: Current,
    group: &mut Group,
) {
    let instance = context.deployment.instance.clone();
    let control =
        Control { writer: writer.clone(), term, instance, throttle: throttle.clone(), state: LeaderState::Leads };
    group.spawn(Task::Control, control.run(group.stop.clone()));
    let pressure = PressureWatch::new(context, writer.clone(), term, throttle, group.stop.clone());
    group.spawn(Task::Pressure, pressure.run());
    let late_writes = LateWriteWatch::new(context, writer.clone(), term, current, group.stop.clone());
    group.spawn(Task::LateWrites, late_writes.run());
    group.spawn(Task::Minutes, minutes::store(context.clone(), writer.clone(), group.stop.clone()));
    group.spawn(Task::Outages, outage_event::tell(context.clone(), writer.clone(), group.stop.clone()));
    if let Some(own) = writer.own_writes() {
        let foreign_writes = ForeignWriteWatch::new(context, writer.clone(), own, term, group.stop.clone());
        group.spawn(Task::ForeignWrites, foreign_writes.run());
    }
    let (interval, health) = (context.settings.stream.canary_interval, Arc::clone(&context.health));
    group.spawn(Task::Canary, canary::write_heartbeats(writer, term, interval, health, group.stop.clone()));
}

/// Loads the sources that were dropped and are not repaired yet, and reports them.
async fn dropped_sources(context: &Context, is_first: bool, phase: Phase) -> Result<Dropped, Failure> {
    // Without a checkpoint the database may have been dropped, and the stored names with it. If this process led before
    // that, it still knows them.
    let before = context.health.dropped_names().into_iter().filter(|_| is_first);
    let watched = phase.watched(context.settings.phase.keep_recruiters_backup);
    let dropped = dropped_source_repair::load(&context.database, watched, before).await?;
    context.health.set_dropped(dropped.names());
    Ok(dropped)
}

/// Reads the phase from the database, or stores the initial one, and reports it.
async fn begin_phase(context: &Context) -> Result<Current, Failure> {
    let current = state::begin(&context.database, context.settings.phase.initial).await?;
    info!(phase = current.phase.word(), "the phase of the database");
    context.metrics.set_phase(current.phase);
    Ok(current)
}

async fn begin_stream(
    context: &Context,
    writer: &Writer,
    store: &Store,
    (term, resume): (i64, Option<ResumeOrder>),
    phase: Phase,
) -> Result<Start, Unfinished> {
    prepare(&context.database).await?;
    let old_worker = OldWorkerTokens::new(Database::clone(&context.database));
    let on_history_lost = context.settings.stream.on_history_lost;
    let stores = PositionStores { store, old_worker: &old_worker };
    let watch = Watch { phase, keeps_backup: context.settings.phase.keep_recruiters_backup };
    let start = match resume {
        Some(order) => start_position::resume(writer, stores, &context.metrics, term, order).await,
        None => start_position::start(writer, stores, on_history_lost, &context.metrics, term, watch).await,
    };
    // A lost position is a failure only if the configuration says to halt then.
    let start = start.inspect_err(|unfinished| {
        if unfinished.failure().is_some_and(|failure| failure.directive() == Directive::Resync) {
            context.health.halt();
        }
    })?;
    halt::end(writer).await?;
    let position = time_text(start.position.time());
    info!(position, resync = start.resync.is_some(), "the change stream begins");
    Ok(start)
}

fn reader(context: &Context, phase: Phase, position: StreamPosition) -> StreamReader {
    let settings = &context.settings.stream;
    StreamReader {
        database: context.database.clone(),
        watched: phase.watched(context.settings.phase.keep_recruiters_backup),
        partner_label: context.settings.target.partner_label.clone(),
        position,
        await_time: settings.await_time,
        batch_size: u32::try_from(settings.batch_max.min(EVENTS_PER_REPLY)).unwrap_or(u32::MAX),
        primary_changes: context.primary_changes.clone(),
        stumbles: Stumbles::default(),
        longest_silence: longest_silence(settings.canary_interval),
        on_history_lost: settings.on_history_lost,
        health: Arc::clone(&context.health),
        metrics: Arc::clone(&context.metrics),
    }
}

/// Raises the term of a lease above that of the checkpoint. A lease that was dropped with its database begins at term 1
/// again. An older checkpoint with a higher term would refuse all checkpoints after it.
///
/// # Errors
/// As [`Lease::raise`].
pub(crate) async fn raise_term(context: &Context, lease: &mut Lease) -> Result<(), Unfinished> {
    match store(context).load().await {
        Ok(Some(checkpoint)) if checkpoint.term >= lease.term => lease.raise(checkpoint.term + 1).await,
        // An unreadable checkpoint is handled at the start of the leadership.
        _ => Ok(()),
    }
}

/// Takes the lease for a command that writes, so that no instance writes at the same time. A task of `group` renews the
/// lease until the group stops. `beside` completes the refusal "an instance is running and ...".
///
/// # Errors
/// A [`Refusal`] while an instance leads, or when the database fails.
pub(crate) async fn hold(
    context: &Context,
    beside: &str,
    group: &mut Group,
) -> Result<(Lease, watch::Receiver<Validity>), Refusal> {
    let lease =
        Lease::acquire(&context.database, &context.deployment.instance, context.settings.lease.duration).await?;
    let Some(lease) = lease else {
        let leader = lease::current(&context.database).await?;
        let leader = leader.map_or_else(|| "another process".to_owned(), |leader| leader.name);
        return Err(Refusal::new(Exit::Findings, format!("an instance is running ({leader}) and {beside}")));
    };
    let (renewed, validity) = watch::channel(lease.validity);
    group.spawn(Task::Lease, renew(lease.clone(), renewed, Arc::clone(&context.health), group.stop.clone()));
    Ok((lease, validity))
}

/// Gives back the lease that [`hold`] took. A failure is only logged, because the lease also ends by itself.
pub(crate) async fn release_lease(lease: &Lease, group: &Group) {
    group.stop.cancel();
    if let Err(failure) = lease.release().await {
        warn!(error = %failure, "the lease could not be released; it expires by itself");
    }
}

/// Makes the store of checkpoints that the configuration names.
#[must_use]
pub(crate) fn store(context: &Context) -> Store {
    let tokens = &context.settings.tokens;
    match tokens.store {
        TokenStoreKind::Mongodb => Store::MongoDb(MongoStore::new(Database::clone(&context.database))),
        TokenStoreKind::Files => Store::Files(FileStore::new(tokens.directory.clone(), context.database.name())),
    }
}

/// Renews the lease regularly, long before it ends, until `stop` is cancelled.
///
/// # Errors
/// [`Interruption::LeaseLost`] when another instance has the lease, or when the lease ran out before it could be
/// renewed.
pub(crate) async fn renew(
    mut lease: Lease,
    renewed: watch::Sender<Validity>,
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<(), Unfinished> {
    let mut delay = lease.interval();
    let mut failed = RepeatedFailure::default();
    while pause(&stop, delay).await {
        match before_end(&mut lease, health.lag()).await {
            Ok(()) => {
                renewed.send_replace(lease.validity);
                health.leads_until(lease.validity.until);
                delay = lease.interval();
                if let Some(ended) = failed.end() {
                    info!(failures = ended.failures, seconds = ended.seconds, "the lease can be renewed again");
                }
            }
            Err(Unfinished::Interrupted(interruption)) => {
                tell_lost(&health, lease.validity.until);
                return Err(interruption.into());
            }
            Err(_) if lease.validity.left().is_zero() => {
                tell_lost(&health, lease.validity.until);
                return Err(Interruption::LeaseLost.into());
            }
            Err(Unfinished::Failed(failure)) => {
                if failed.is_new(&failure) {
                    warn!(error = %failure, "the lease could not be renewed; retrying");
                }
                delay = (lease.interval() / 5).max(Duration::from_millis(50));
            }
        }
    }
    Ok(())
}

/// Renews the lease. A renewal that is not answered before the end of the lease comes too late.
async fn before_end(lease: &mut Lease, lag: Option<f64>) -> Result<(), Unfinished> {
    let end = lease.validity.until.into();
    tokio::time::timeout_at(end, lease.renew(lag)).await.unwrap_or(Err(Interruption::LeaseLost.into()))
}

/// Tells that the lease is lost, at once and once for each leadership: the end of its tasks may take seconds. `until` is
/// the end of the lease by the clock of this process.
pub(crate) fn tell_lost(health: &Health, until: Instant) {
    if health.loses_lease() {
        let ago = i64::try_from(until.elapsed().as_millis()).unwrap_or_default();
        let since = DateTime::from_millis(clock::now().timestamp_millis() - ago).try_to_rfc3339_string().ok();
        warn!(since, "the lease was lost: nothing is written any more, and this instance stands by");
    }
}
