//! Carries out a command that writes (spec 06, "Command line").
//! The command is stored, and the leader carries it out between its batches. Without a leader, this process takes the
//! lease and does the same work itself. The same command, given again after an interruption, goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use mongodb::Database;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::command_wait::{Succession, Told, paused, refuse_while_paused};
use crate::apply::executor::Apply;
use crate::apply::output::Output;
use crate::apply::preemption::PreemptionCheck;
use crate::apply::stages::Stages;
use crate::context::Context;
use crate::error::{Directive, Failure};
use crate::interruption::{Interruption, Unfinished};
use crate::leader::control::{Control, LeaderState};
use crate::leader::lead;
use crate::leader::pause::StoredPause;
use crate::leader::pressure_watch::PressureWatch;
use crate::lease::{self, Lease};
use crate::maintenance::stored_commands::{self, Command, CommandOutcome, Lane, StoredCommand};
use crate::maintenance::worker::MaintenanceWorker;
use crate::model::names::COMMANDS;
use crate::phase::{state, watcher};
use crate::refusal::{Exit, Refusal};
use crate::retry::Delays;
use crate::tasks::{Group, Task, pause, signals};
use crate::ticker::ledger;
use crate::ticker::runner::{LeaderHandles, Ticker};
use crate::write::Writer;
use crate::write::lease_check::Validity;
use crate::write::recorder::recorder;
use crate::write::throttle::Throttle;
use crate::write::timeline::Timeline;
use crate::write::transaction::Fence;

/// The interval at which the stored command is read again.
const POLL: Duration = Duration::from_millis(200);

/// Stores a command and waits for its result. `show` is called with its progress.
///
/// # Errors
/// A [`Refusal`] when the database fails for good, and when Ctrl-C or SIGTERM came first. Then the command is withdrawn,
/// unless an instance has taken it up. That instance finishes it.
pub(crate) async fn submit(
    context: &Context,
    command: &Command,
    mut show: impl FnMut(&StoredCommand),
) -> Result<CommandOutcome, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    refuse_while_paused(context, command).await?;
    let id = stored_commands::submit(&context.database, command, &context.deployment.operator).await?;
    let mut told = Told::new(command);
    let mut succession = Succession::default();
    let mut delays = Delays::up_to(Duration::from_secs(5));
    while !group.stop.is_cancelled() {
        let delay = match command_state(context, id, &mut succession).await {
            Ok(CommandState::Finished(outcome)) => return Ok(outcome),
            Ok(CommandState::Unfinished(stored, Some(leader))) => {
                told.tell(&context.database, &leader).await?;
                show(&stored);
                delays.reset();
                POLL
            }
            Ok(CommandState::Awaited) => POLL,
            Ok(CommandState::Unfinished(_, None)) => {
                let submitted = SubmittedCommand { id, command };
                match without_leader(context, submitted, &mut group, &mut show).await? {
                    Some(outcome) => return Ok(outcome),
                    None => POLL,
                }
            }
            Err(failure) if failure.directive() == Directive::Retry => {
                warn!(error = %failure, "an attempt failed; retrying");
                delays.next_delay()
            }
            Err(failure) => return Err(failure.into()),
        };
        pause(&group.stop, delay).await;
    }
    let is_withdrawn = stored_commands::withdraw(&context.database, id).await?;
    Err(interrupted(if is_withdrawn {
        "the command is withdrawn; nothing was done"
    } else {
        "the leader finishes the command; give it again to see its progress"
    }))
}

/// Takes the lease and carries the command out; `None` when another process has the lease.
async fn without_leader(
    context: &Context,
    submitted: SubmittedCommand<'_>,
    group: &mut Group,
    show: &mut impl FnMut(&StoredCommand),
) -> Result<Option<CommandOutcome>, Refusal> {
    let (holder, duration) = (&context.deployment.instance, context.settings.lease.duration);
    let Some(lease) = Lease::acquire(&context.database, holder, duration).await? else { return Ok(None) };
    match lead_for_one_command(context, submitted, lease, group, show).await {
        Err(Unfinished::Interrupted(Interruption::Paused)) => {
            stored_commands::withdraw(&context.database, submitted.id).await?;
            Err(paused())
        }
        // Another instance leads now and carries the command out.
        Err(Unfinished::Interrupted(Interruption::LeaseLost)) => Ok(None),
        done => match done? {
            Some(outcome) => Ok(Some(outcome)),
            None => Err(interrupted(
                "run the command again to continue; an instance that becomes the leader also continues it",
            )),
        },
    }
}

fn interrupted(what_follows: &str) -> Refusal {
    Refusal::new(Exit::Interrupted, format!("interrupted: {what_follows}"))
}

/// A command with the id under which it is stored.
#[derive(Debug, Clone, Copy)]
struct SubmittedCommand<'a> {
    id: ObjectId,
    command: &'a Command,
}

enum CommandState {
    Finished(CommandOutcome),
    /// An instance is about to lead.
    Awaited,
    /// The stored command, with the name of the leader if there is one.
    Unfinished(Box<StoredCommand>, Option<String>),
}

async fn command_state(context: &Context, id: ObjectId, succession: &mut Succession) -> Result<CommandState, Failure> {
    let stored = stored_commands::load(&context.database, id).await?;
    let stored = stored.ok_or(Failure::OwnDocument { collection: COMMANDS, field: "_id" })?;
    match &stored.result {
        Some(outcome) => Ok(CommandState::Finished(outcome.clone())),
        None => {
            let leader = lease::current(&context.database).await?.map(|leader| leader.name);
            if leader.is_none() && succession.awaits(context).await? {
                return Ok(CommandState::Awaited);
            }
            Ok(CommandState::Unfinished(Box::new(stored), leader))
        }
    }
}

/// Carries a stored command out in this process, under `lease`. `None` means that it was interrupted.
async fn lead_for_one_command(
    context: &Context,
    submitted: SubmittedCommand<'_>,
    lease: Lease,
    group: &mut Group,
    show: &mut impl FnMut(&StoredCommand),
) -> Result<Option<CommandOutcome>, Unfinished> {
    let (renewed, validity) = watch::channel(lease.validity);
    let renewal = lead::renew(lease.clone(), renewed, Arc::clone(&context.health), group.stop.clone());
    group.spawn(Task::Lease, renewal);
    let writer = lease.writer(&context.database, validity.clone()).with_notices(&context.notices);
    let ((timeline, recorder), ended) = (recorder(), CancellationToken::new());
    let lease_of = (&lease, validity, timeline);
    let done = async {
        let done = carry_out(context, submitted, lease_of, &group.stop, show).await;
        ended.cancel();
        done
    };
    let (done, ()) = tokio::join!(done, recorder.run(writer.clone(), ended.clone()));
    if lease.release().await.is_err() {
        warn!("the lease could not be released; it expires by itself");
    }
    match done {
        Err(Unfinished::Interrupted(Interruption::Stopping)) => Ok(None),
        done => done.map(Some),
    }
}

async fn carry_out(
    context: &Context,
    SubmittedCommand { id, command }: SubmittedCommand<'_>,
    (lease, validity, timeline): (&Lease, watch::Receiver<Validity>, Timeline),
    stop: &CancellationToken,
    show: &mut impl FnMut(&StoredCommand),
) -> Result<CommandOutcome, Unfinished> {
    let (database, initial) = (&context.database, context.settings.phase.initial);
    crate::leader::start_position::prepare(database).await?;
    let writer = lease.writer(database, validity.clone()).with_timeline(timeline);
    // As in a leadership, the fence comes before all reads: a transaction of the previous leader may still be open.
    let (fence, through) = Fence::take_over(writer.clone(), lease.term).await?;
    if command.lane() == Lane::Control {
        return control(context, writer, lease.term, id).await;
    }
    if StoredPause::read(database).await?.is_some() {
        return Err(Interruption::Paused.into());
    }
    ledger::prepare(&context.database).await?;
    let current = state::begin(database, initial).await?;
    let known = watcher::known(&current);
    let mut stages = Stages::new(context, current.phase, Output::Live(writer.clone())).await?;
    stages.preemption =
        Some(PreemptionCheck::new(validity.clone(), known.subscribe(), stop.clone(), Arc::clone(&context.health)));
    // A command does not read the stream, so it does not get past what an earlier crash left.
    stages.take_over(&lease.completeness, 1).await?;
    let mut apply = Apply::new(stages);
    let handles =
        LeaderHandles::new(fence, through, validity.clone(), known.subscribe(), apply.stages.throttle.clone());
    let mut maintenance = MaintenanceWorker::new(None, handles.fence.clone(), initial, known, lead::store(context));
    // The command is slowed as a leader's work is.
    let (throttle, ended) = (apply.stages.throttle.clone(), stop.child_token());
    let pressure = PressureWatch::new(context, writer, lease.term, throttle, ended.clone());
    let done = async {
        let done = if command.lane() == Lane::Ticker {
            let ticker = Ticker::new(context.clone(), handles, stop.clone());
            // The end of the job may cut another command in the middle of a touch, so the lease stays incomplete.
            Box::pin(run_with(ticker, id, &mut maintenance, &mut apply)).await
        } else {
            let done = steps(&mut maintenance, &mut apply, id, (&validity, stop), show).await;
            done.inspect(|_| apply.stages.complete(&lease.completeness))
        };
        ended.cancel();
        done
    };
    tokio::join!(done, pressure.run()).0
}

/// Does steps of a command of the pipeline's lane until it is finished.
async fn steps(
    maintenance: &mut MaintenanceWorker,
    apply: &mut Apply,
    id: ObjectId,
    (validity, stop): (&watch::Receiver<Validity>, &CancellationToken),
    show: &mut impl FnMut(&StoredCommand),
) -> Result<CommandOutcome, Unfinished> {
    let mut delays = Delays::up_to(Duration::from_secs(5));
    while !stop.is_cancelled() {
        if validity.borrow().left().is_zero() {
            return Err(Interruption::LeaseLost.into());
        }
        match step(maintenance, apply, id).await {
            Ok(Some(stored)) => match stored.result {
                Some(outcome) => return Ok(outcome),
                None => {
                    show(&stored);
                    delays.reset();
                    pause(stop, apply.stages.throttle.until_step()).await;
                }
            },
            Ok(None) => return Err(Interruption::LeaseLost.into()),
            Err(unfinished) if passes(&unfinished, &[Directive::Retry, Directive::Reopen]) => {
                warn!(error = %unfinished, "an attempt failed; retrying");
                apply.stages.expect_repetition(1);
                pause(stop, delays.next_delay()).await;
            }
            Err(unfinished) => return Err(unfinished),
        }
    }
    Err(Interruption::Stopping.into())
}

/// Carries out a command of the ticker's lane. Commands that it stores for the pipeline are carried out meanwhile.
async fn run_with(
    mut ticker: Ticker,
    id: ObjectId,
    maintenance: &mut MaintenanceWorker,
    apply: &mut Apply,
) -> Result<CommandOutcome, Unfinished> {
    let (database, offer_write_lock, wake) =
        (ticker.context.database.clone(), ticker.handles.offer_write_lock.clone(), ticker.handles.wake.clone());
    // There is no leader, so this loop does the pipeline's part: a time-based job may store a command and wait for it.
    let pipeline = async {
        loop {
            if maintenance.has_work() {
                tokio::time::sleep(apply.stages.throttle.until_step()).await;
                let _guard = offer_write_lock.lock().await;
                match Box::pin(counted_step(maintenance, apply)).await {
                    Err(unfinished) if passes(&unfinished, &[Directive::Retry]) => {
                        warn!(error = %unfinished, "an attempt failed; retrying");
                        tokio::time::sleep(POLL).await;
                    }
                    done => done?,
                }
            } else {
                wake.notified().await;
                maintenance.take_up(&database, None).await?;
            }
        }
    };
    tokio::select! {
        done = ticker.carry_out_only(id) => done?,
        failed = pipeline => {
            let failed: Result<(), Unfinished> = failed;
            failed?;
        }
    }
    result(&database, id).await
}

/// Carries out a command of the control.
async fn control(context: &Context, writer: Writer, term: i64, id: ObjectId) -> Result<CommandOutcome, Unfinished> {
    let instance = context.deployment.instance.clone();
    let throttle = Throttle::of(&context.settings.throttle, None);
    Control { writer, term, instance, throttle, state: LeaderState::HoldsForCommand }.look(Some(id)).await?;
    result(&context.database, id).await
}

/// Reads the result that was just stored.
async fn result(database: &Database, id: ObjectId) -> Result<CommandOutcome, Unfinished> {
    let stored = stored_commands::load(database, id).await?;
    Ok(stored.and_then(|stored| stored.result).ok_or(Interruption::LeaseLost)?)
}

/// True if the step of a command can be tried again: after a change of the phase, or a failure with one of these
/// directives.
fn passes(unfinished: &Unfinished, directives: &[Directive]) -> bool {
    match unfinished {
        Unfinished::Interrupted(interruption) => *interruption == Interruption::PhaseChanged,
        Unfinished::Failed(failure) => directives.contains(&failure.directive()),
    }
}

/// Does one step of the stored command, and reads the command again.
async fn step(
    maintenance: &mut MaintenanceWorker,
    apply: &mut Apply,
    id: ObjectId,
) -> Result<Option<StoredCommand>, Unfinished> {
    let database = apply.stages.database.clone();
    maintenance.take_up(&database, Some(id)).await?;
    if !maintenance.has_work() {
        return Err(Interruption::LeaseLost.into());
    }
    counted_step(maintenance, apply).await?;
    Ok(stored_commands::load(&database, id).await?)
}

/// Does one step, and counts its writes against the ceiling.
async fn counted_step(maintenance: &mut MaintenanceWorker, apply: &mut Apply) -> Result<(), Unfinished> {
    let before = apply.stages.written_documents();
    apply.stages.throttle.steps();
    let done = maintenance.step(apply).await;
    apply.stages.throttle.step_wrote(apply.stages.written_documents().saturating_sub(before));
    done
}
