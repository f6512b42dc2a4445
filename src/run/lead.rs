//! A leadership: from the lease to its end, the tasks that renew it, read the stream and apply it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resume_tokens::{FileStore, MongoStore, OldWorkerTokens, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::apply::Apply;
use super::checkpoint::Checkpoints;
use super::lease::Lease;
use super::pipeline::Pipeline;
use super::portion::Stages;
use super::reader::{EVENTS_PER_REPLY, Reader};
use super::start::{prepare, start};
use super::tasks::{Group, Task};
use super::turn::Turn;
use crate::app::App;
use crate::clock;
use crate::config::TokenStoreKind;
use crate::error::{Directive, Failure};
use crate::fetch::references::ReferenceCaches;
use crate::source::event::Collection;
use crate::source::pipeline::fingerprint;
use crate::verify::continuous::Continuous;
use crate::verify::sampler::Sampler;
use crate::write::dead_letters::DeadLetters;

/// Leads until the lease is lost, something fails for good, or `stop`.
///
/// # Errors
/// What ended the leadership.
pub async fn lead(app: &App, lease: Lease, stop: &CancellationToken) -> Result<(), Failure> {
    let mut group = Group::new(stop);
    let term = lease.term;
    let (renewed, valid_until) = watch::channel(lease.valid_until);
    group.spawn(Task::Lease, renew(lease, renewed, group.stop.clone()));

    let settings = &app.settings;
    let store = store(app);
    let old_worker = OldWorkerTokens::new(app.database.clone());
    prepare(&app.database).await?;
    let stores = (&store, &old_worker);
    let start = start(&app.database, stores, settings.stream.on_history_lost, &app.metrics).await;
    // It gives back a lost position only where it is told to halt then.
    let start = start.inspect_err(|failure| {
        if failure.directive() == Directive::Resync {
            app.health.halt();
        }
    })?;
    info!(position = ?start.position, resync = start.resync.is_some(), "the change stream begins");
    let mut stages = stages(app).await?;
    stages.turn = Some(Turn::new(valid_until.clone(), group.stop.clone(), Arc::clone(&app.health)));
    let sampler = Arc::new(Sampler::new(settings.verify.sample_size));
    stages.sampler = Some(Arc::clone(&sampler));
    // One batch ahead, and no more than that.
    let batch_max = settings.stream.batch_max;
    let (outbox, inbox) = mpsc::channel(batch_max.div_ceil(EVENTS_PER_REPLY));
    let reader = Reader {
        database: app.database.clone(),
        position: start.position,
        await_time: settings.stream.await_time,
        batch_size: u32::try_from(batch_max.min(EVENTS_PER_REPLY)).unwrap_or(u32::MAX),
        on_history_lost: settings.stream.on_history_lost,
        health: Arc::clone(&app.health),
        metrics: Arc::clone(&app.metrics),
    };
    let pipeline = Pipeline {
        apply: Apply::new(stages),
        checkpoints: Checkpoints::new(
            (store, old_worker),
            settings.tokens.clone(),
            Arc::clone(&app.metrics),
            (term, fingerprint(&Collection::ALL)),
            start.events,
        ),
        inbox,
        resync: start.resync,
        batch_max,
        batch_max_bytes: settings.stream.batch_max_bytes,
        valid_until,
        health: Arc::clone(&app.health),
        stop: group.stop.clone(),
    };
    group.spawn(Task::Reader, reader.run(outbox));
    group.spawn(Task::Verification, Continuous::new(app.clone(), sampler, group.stop.clone()).run());
    group.spawn(Task::Pipeline, pipeline.run());
    group.join(Task::Pipeline).await
}

/// The stages after planning, with what they must know before the first portion.
///
/// # Errors
/// [`Failure::Read`].
pub async fn stages(app: &App) -> Result<Stages, Failure> {
    let stages = Stages {
        database: app.database.clone(),
        settings: app.projection_settings(),
        references: ReferenceCaches::new(&app.database),
        dead_letters: DeadLetters::load(&app.database).await?,
        metrics: Arc::clone(&app.metrics),
        rehearsal: None,
        turn: None,
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
pub async fn outrank(app: &App, lease: &mut Lease) -> Result<(), Failure> {
    match store(app).load().await {
        Ok(Some(checkpoint)) if checkpoint.term >= lease.term => lease.raise(checkpoint.term + 1).await,
        // What cannot be read is the business of the start.
        _ => Ok(()),
    }
}

/// Where checkpoints are kept, as configured.
fn store(app: &App) -> Store {
    let tokens = &app.settings.tokens;
    match tokens.store {
        TokenStoreKind::Mongodb => Store::MongoDb(MongoStore::new(app.database.clone())),
        TokenStoreKind::Files => Store::Files(FileStore::new(tokens.directory.clone(), app.database.name())),
    }
}

/// Prolongs the lease three times in its duration.
///
/// # Errors
/// [`Failure::LeaseLost`] when another instance has it, or it ran out before it could be prolonged.
pub async fn renew(mut lease: Lease, renewed: watch::Sender<Instant>, stop: CancellationToken) -> Result<(), Failure> {
    let mut pause = lease.interval();
    loop {
        tokio::select! { () = stop.cancelled() => return Ok(()), () = tokio::time::sleep(pause) => {} }
        match lease.renew().await {
            Ok(()) => {
                renewed.send_replace(lease.valid_until);
                pause = lease.interval();
            }
            Err(Failure::LeaseLost) => return Err(Failure::LeaseLost),
            Err(_) if clock::instant() >= lease.valid_until => return Err(Failure::LeaseLost),
            Err(failure) => {
                warn!(error = %failure, "the lease could not be prolonged; tried again");
                pause = (lease.interval() / 5).max(Duration::from_millis(50));
            }
        }
    }
}
