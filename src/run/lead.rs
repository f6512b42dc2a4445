//! A leadership: from the lease to its end, the tasks that renew it, read the stream and apply it.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Database;
use resume_tokens::{FileStore, MongoStore, OldWorkerTokens, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::apply::Apply;
use super::canary;
use super::checkpoint::Checkpoints;
use super::dry_run::WriteCounts;
use super::lease::{Lease, Validity};
use super::maintenance_worker::MaintenanceWorker;
use super::phase_watcher;
use super::pipeline::{Pipeline, Times};
use super::portion::Stages;
use super::preemption::PreemptionCheck;
use super::reader::{EVENTS_PER_REPLY, Reader};
use super::sources;
use super::start::{Start, prepare, start};
use super::tasks::{Group, Task};
use crate::app::{App, Refusal};
use crate::config::TokenStoreKind;
use crate::error::{Directive, Failure};
use crate::fetch::portions::Portions;
use crate::fetch::references::ReferenceCaches;
use crate::observe::health::{Health, longest_silence};
use crate::phase::Phase;
use crate::phase::state::{self, Current};
use crate::plan::sources::Dropped;
use crate::source::cursor::{Position, operation_time};
use crate::source::pipeline::fingerprint;
use crate::source::undeliverable::Stumbles;
use crate::ticker::runner::{LeaderHandles, Ticker};
use crate::ticker::transaction::Fence;
use crate::verify::continuous::Continuous;
use crate::verify::sampler::Sampler;
use crate::write::Writer;
use crate::write::dead_letters::DeadLetters;

/// Leads until the lease is lost, something fails for good, or `stop`.
///
/// # Errors
/// What ended the leadership.
pub async fn lead(app: &App, lease: Lease, stop: &CancellationToken) -> Result<(), Failure> {
    let mut group = Group::new(stop);
    let term = lease.term;
    let (renewed, validity) = watch::channel(lease.validity);
    let writer = lease.writer(&app.database, validity.clone());
    group.spawn(Task::Lease, renew(lease, renewed, Arc::clone(&app.health), group.stop.clone()));

    let settings = &app.settings;
    let initial = settings.phase.initial;
    // Before anything is looked at that a transaction of the leader before may still change.
    let fence = Fence::take_over(writer.clone(), term).await?;
    let current = begin_phase(app).await?;
    let phase = current.phase;
    let known = phase_watcher::known(&current);
    let followed = Database::clone(&app.database);
    group.spawn(Task::Phase, phase_watcher::follow(followed, initial, Arc::clone(&known), group.stop.clone()));
    let store = store(app);
    let start = begin_stream(app, &writer, &store, (term, phase)).await?;
    let dropped = dropped_sources(app, start.is_first, phase).await?;
    let mut stages = stages(app, phase, writer.clone().of_pipeline(Arc::clone(&app.health))).await?;
    stages.preemption =
        Some(PreemptionCheck::new(validity.clone(), known.subscribe(), group.stop.clone(), Arc::clone(&app.health)));
    let sampler = Arc::new(Sampler::new(settings.verify.sample_size));
    stages.sampler = Some(Arc::clone(&sampler));
    let batch_max = settings.stream.batch_max;
    // One batch ahead, and no more than that.
    let (outbox, inbox) = mpsc::channel(batch_max.div_ceil(EVENTS_PER_REPLY));
    let reader = reader(app, phase, start.position);
    let handles = LeaderHandles::new(fence, validity.clone(), known.subscribe());
    let phases = (initial, Arc::clone(&known));
    let mut maintenance = MaintenanceWorker::new(start.resync, handles.fence.clone(), phases, store.clone());
    // Until the stream tells its time.
    maintenance.held = dropped != Dropped::default();
    let of_term = (term, fingerprint(phase.watched()));
    let (metrics, so_far) = (Arc::clone(&app.metrics), (start.history, start.events));
    let checkpoints = Checkpoints::new((store, writer.clone()), settings.tokens.clone(), metrics, of_term, so_far);
    let pipeline = Pipeline {
        offer_write_lock: Arc::clone(&handles.offer_write_lock),
        wake: Arc::clone(&handles.wake),
        apply: Apply::new(stages),
        maintenance,
        dropped,
        phase: known.subscribe(),
        times: Times::default(),
        checkpoints,
        inbox,
        batch_max,
        batch_max_bytes: settings.stream.batch_max_bytes,
        validity,
        health: Arc::clone(&app.health),
        stop: group.stop.clone(),
    };
    let rhythm = (term, settings.stream.canary_interval);
    group.spawn(Task::Canary, canary::write_heartbeats(writer, rhythm, Arc::clone(&app.health), group.stop.clone()));
    group.spawn(Task::Reader, reader.run(outbox));
    group.spawn(Task::Verification, Continuous::new(app.clone(), sampler, group.stop.clone()).run());
    group.spawn(Task::Ticker, Ticker::new(app.clone(), handles, group.stop.clone()).run());
    group.spawn(Task::Pipeline, pipeline.run());
    group.join(Task::Pipeline).await
}

/// The sources that were dropped and are not repaired yet, told from here on.
async fn dropped_sources(app: &App, is_first: bool, phase: Phase) -> Result<Dropped, Failure> {
    // With the database, what was stored of them went too.
    let before = app.health.dropped_names().into_iter().filter(|_| is_first);
    let dropped = sources::load(&app.database, phase.watched(), before).await?;
    app.health.set_dropped(dropped.names());
    Ok(dropped)
}

/// The phase of the database, and what follows from it for those who watch.
async fn begin_phase(app: &App) -> Result<Current, Failure> {
    let current = state::begin(&app.database, app.settings.phase.initial).await?;
    info!(phase = current.phase.word(), "the phase of the database");
    app.metrics.set_phase(current.phase);
    Ok(current)
}

async fn begin_stream(
    app: &App,
    writer: &Writer,
    store: &Store,
    (term, phase): (i64, Phase),
) -> Result<Start, Failure> {
    prepare(&app.database).await?;
    let old_worker = OldWorkerTokens::new(Database::clone(&app.database));
    let on_history_lost = app.settings.stream.on_history_lost;
    let start = start(writer, (store, &old_worker), on_history_lost, &app.metrics, (term, phase)).await;
    // It gives back a lost position only where it is told to halt then.
    let start = start.inspect_err(|failure| {
        if failure.directive() == Directive::Resync {
            app.health.halt();
        }
    })?;
    info!(position = ?start.position, resync = start.resync.is_some(), "the change stream begins");
    Ok(start)
}

fn reader(app: &App, phase: Phase, position: Position) -> Reader {
    let settings = &app.settings.stream;
    Reader {
        database: app.database.clone(),
        watched: phase.watched(),
        position,
        await_time: settings.await_time,
        batch_size: u32::try_from(settings.batch_max.min(EVENTS_PER_REPLY)).unwrap_or(u32::MAX),
        primary_changes: app.primary_changes.clone(),
        stumbles: Stumbles::default(),
        longest_silence: longest_silence(settings.canary_interval),
        on_history_lost: settings.on_history_lost,
        health: Arc::clone(&app.health),
        metrics: Arc::clone(&app.metrics),
    }
}

/// The stages after planning, with what they must know before the first portion.
///
/// # Errors
/// [`Failure::Read`].
pub async fn stages(app: &App, phase: Phase, writer: Writer) -> Result<Stages, Failure> {
    // No read of this leadership or command may show less than what was there when it began.
    app.database.advance(operation_time(&app.database).await?);
    let stages = Stages {
        database: app.database.clone(),
        settings: app.projection_settings(),
        references: ReferenceCaches::new(&app.database),
        offers: Portions::of_offers(&app.database),
        dead_letters: DeadLetters::load(&app.database, &writer).await?,
        writer,
        metrics: Arc::clone(&app.metrics),
        phase,
        write_counts: WriteCounts::default(),
        dry_run: None,
        preemption: None,
        sampler: None,
    };
    stages.count_dead_letters();
    Ok(stages)
}

/// Gives a lease a term that no checkpoint has reached. A lease that was dropped with its database begins at
/// term 1 again, and a checkpoint in a file, or one that was saved since, would refuse those that follow.
///
/// # Errors
/// As [`Lease::raise`].
pub async fn raise_term(app: &App, lease: &mut Lease) -> Result<(), Failure> {
    match store(app).load().await {
        Ok(Some(checkpoint)) if checkpoint.term >= lease.term => lease.raise(checkpoint.term + 1).await,
        // What cannot be read is the business of the start.
        _ => Ok(()),
    }
}

/// Takes the lease for a command that writes, and renews it in `group` until that stops. `beside` as in
/// [`App::take_lease`].
///
/// # Errors
/// As [`App::take_lease`].
pub async fn hold(app: &App, beside: &str, group: &mut Group) -> Result<(Lease, watch::Receiver<Validity>), Refusal> {
    let lease = app.take_lease(beside).await?;
    let (renewed, validity) = watch::channel(lease.validity);
    group.spawn(Task::Lease, renew(lease.clone(), renewed, Arc::clone(&app.health), group.stop.clone()));
    Ok((lease, validity))
}

/// Gives back what [`hold`] took.
pub async fn release_lease(lease: &Lease, group: &Group) {
    group.stop.cancel();
    if lease.release().await.is_err() {
        warn!("the lease could not be given back; it ends by itself");
    }
}

/// Where checkpoints are kept, as configured.
#[must_use]
pub fn store(app: &App) -> Store {
    let tokens = &app.settings.tokens;
    match tokens.store {
        TokenStoreKind::Mongodb => Store::MongoDb(MongoStore::new(Database::clone(&app.database))),
        TokenStoreKind::Files => Store::Files(FileStore::new(tokens.directory.clone(), app.database.name())),
    }
}

/// Prolongs the lease again and again, long before it ends.
///
/// # Errors
/// [`Failure::LeaseLost`] when another instance has it, or it ran out before it could be prolonged.
pub async fn renew(
    mut lease: Lease,
    renewed: watch::Sender<Validity>,
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let mut pause = lease.interval();
    loop {
        tokio::select! { () = stop.cancelled() => return Ok(()), () = tokio::time::sleep(pause) => {} }
        match lease.renew(health.lag()).await {
            Ok(()) => {
                renewed.send_replace(lease.validity);
                pause = lease.interval();
            }
            Err(Failure::LeaseLost) => return Err(Failure::LeaseLost),
            Err(_) if lease.validity.left().is_zero() => return Err(Failure::LeaseLost),
            Err(failure) => {
                warn!(error = %failure, "the lease could not be prolonged; tried again");
                pause = (lease.interval() / 5).max(Duration::from_millis(50));
            }
        }
    }
}
