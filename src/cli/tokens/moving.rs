//! Moves the position of the stream: `tokens import` and `tokens reset`. Both are refused while an instance runs,
//! because the instance would save its own position again. Skipped events are not lost: their span becomes a gap, and a
//! resync follows.

use std::time::Duration;

use bson::Timestamp;
use chrono_tz::Tz;
use mongodb::Database;
use resume_tokens::{Checkpoint, History, OldWorkerTokens, ResumeToken, StoreError};
use tokio_util::sync::CancellationToken;

use super::changes::TokenChange;
use crate::cli::arguments::Override;
use crate::cli::position::NamedPosition;
use crate::clock;
use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::leader::checkpoint_origin;
use crate::leader::lead::{hold, release_lease, store};
use crate::maintenance::gaps;
use crate::maintenance::replay::{too_old, watched};
use crate::maintenance::resync::Resync;
use crate::model::names::WatchedCollection;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::Oplog;
use crate::phase::state;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::shown_time::shown_position;
use crate::source::cursor::operation_time;
use crate::source::replay::Replay;
use crate::tasks::signals;
use crate::tasks::{Group, Task};
use crate::write::Writer;
use crate::write::recorder::recorder;

/// The position after a move.
pub(super) enum MoveTarget {
    /// This position, from a file.
    Position(NamedPosition),
    /// The position at which the old worker stopped.
    OldWorker,
    /// No position: the next start is like the first one.
    Nowhere,
}

/// The fingerprint in a checkpoint whose token was made by an unknown pipeline. The stream is opened by the time of
/// such a checkpoint, not by its token.
const FOREIGN: &str = "imported";

/// The plan of a move.
struct Move {
    /// The present position; `None` when there is none, or when it cannot be read.
    from: Option<Timestamp>,
    /// The new checkpoint; `None` deletes the checkpoint.
    to: Option<Checkpoint>,
    /// The span of events that are never read because of the move.
    skipped: Option<(Timestamp, Timestamp)>,
    /// True when a resync must follow, even without a skipped span.
    everything: bool,
    /// The reasons against the move, which only `--force` overrides.
    objections: Vec<String>,
}

/// Moves the position.
///
/// # Errors
/// A [`Refusal`] with the objections when there are any and `--force` is not given; a [`Refusal`] while an instance
/// runs.
pub(super) async fn run(context: &Context, target: MoveTarget, override_: Override) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let beside = "would continue from its own position: stop all instances first; `stream-processor replay` processes \
        a span again while an instance runs";
    let (lease, validity) = hold(context, beside, &mut group).await?;
    let (timeline, mut recorder) = recorder();
    let writer = lease.writer(&context.database, validity).with_timeline(timeline).with_notices(&context.notices);
    let moved = tokio::select! {
        moved = moved(context, &writer, lease.term, target, override_) => moved,
        () = group.stop.cancelled() => Ok(Exit::Interrupted),
    };
    recorder.drain(&writer).await;
    release_lease(&lease, &group).await;
    moved
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn moved(
    context: &Context,
    writer: &Writer,
    term: i64,
    target: MoveTarget,
    override_: Override,
) -> Result<Exit, Refusal> {
    let step = plan(context, target, term).await?;
    if !step.objections.is_empty() && !override_.force {
        let message = format!("refused: {}; --force --reason TEXT overrides", step.objections.join("; "));
        return Err(Refusal::new(Exit::Findings, message));
    }
    // The gap and the resync are stored before the position moves. A crash in between costs a needless resync; in the
    // other order it would lose the resync.
    if let Some((from, to)) = step.skipped {
        gaps::open(writer, from, to, "passed over by hand", clock::now()).await?;
    }
    if step.skipped.is_some() || step.everything {
        Resync::request(writer, &context.metrics, "the position was moved by hand", term).await?;
    }
    let record = TokenChange {
        at: clock::now(),
        who: context.deployment.operator.clone(),
        from: step.from.map(text),
        to: step.to.as_ref().map(Checkpoint::history_id),
        reason: override_.reason,
        overridden: step.objections,
    };
    let mut store = store(context);
    store.set_variables(writer.variables().await?);
    let to = match &step.to {
        Some(to) => {
            checkpoint_origin::record(writer, &store, to.cluster_time, term).await?;
            with_deadline(store.save(to)).await.map_err(Failure::from)?;
            format!("the next instance continues after {}", shown_position(to.cluster_time, context.time_zone))
        }
        None => {
            with_deadline(store.clear()).await.map_err(Failure::from)?;
            "the next start is like the first one".to_owned()
        }
    };
    let (cleared, forced) = (step.to.is_none(), !record.overridden.is_empty());
    record.store(&context.database).await?;
    writer.note(TimelineEvent::PositionMoved { cleared, forced });
    println!("done: {to}");
    if step.skipped.is_some() || step.everything {
        println!("the skipped events are not lost: the next instance runs a resync");
    }
    Ok(Exit::Done)
}

async fn plan(context: &Context, target: MoveTarget, term: i64) -> Result<Move, Refusal> {
    let shown = |time: Timestamp| shown_position(time, context.time_zone);
    let standing = standing(context).await?;
    let now = operation_time(&context.database).await?;
    let from = standing.as_ref().map(|standing| standing.cluster_time);
    let everything = matches!(target, MoveTarget::OldWorker);
    let (current, mut foreign) = (checkpoint_origin::current(&context.database).await?, None);
    let to = match target {
        MoveTarget::Nowhere => None,
        MoveTarget::OldWorker => Some(bare(old_worker_token(context).await?, &standing, term, current)),
        MoveTarget::Position(NamedPosition::Token(token)) => Some(bare(token, &standing, term, current)),
        MoveTarget::Position(NamedPosition::Checkpoint(checkpoint)) => {
            let events = standing.as_ref().map_or(checkpoint.events, |standing| standing.events);
            foreign = checkpoint.history.as_ref().and_then(|history| history.difference(&current));
            Some(Checkpoint { term, events, updated_at: clock::now(), history: Some(current), ..*checkpoint })
        }
        // `position::in_file` never returns a time.
        MoveTarget::Position(NamedPosition::Time(_)) => None,
    };
    let mut step = Move { from, to, skipped: None, everything, objections: Vec::new() };
    let Some(to) = step.to.as_ref().map(|to| to.cluster_time) else {
        if let Some((from, unread)) = from.zip(unread(context, from, now).await?) {
            step.objections.push(forgotten(&unread, from, now, context.time_zone));
        }
        return Ok(step);
    };
    if to > now {
        let message = format!("{} is later than the server's time: it belongs to another replica set", shown(to));
        return Err(Refusal::new(Exit::Findings, message));
    }
    let oplog = Oplog::measure(&context.database).await?;
    if let Some(oplog) = oplog.filter(|oplog| !oplog.reaches(to)) {
        step.objections.push(too_old(to, Some(&oplog)));
    }
    // A position of another history tells nothing about the events up to now, so this whole span becomes a gap.
    if let Some(difference) = foreign {
        step.objections.push(format!("it is {difference}"));
        step.skipped = Some((to, now));
        return Ok(step);
    }
    match from {
        Some(from) if to < from => step.objections.push(format!(
            "{} is before the position, {}: later events would be applied again; `stream-processor replay` does that \
             while an instance runs",
            shown(to),
            shown(from)
        )),
        // The old worker has read the events in between, and a resync follows anyway.
        Some(_) if everything => {}
        Some(from) => {
            if let Some(unread) = unread(context, Some(from), to).await? {
                let span = format!("between {} and {}", shown(from), shown(to));
                step.objections.push(format!("not read yet: {unread} {span}"));
                step.skipped = Some((from, to));
            }
        }
        None => {}
    }
    Ok(step)
}

/// What is lost when the position is deleted.
fn forgotten(unread: &str, from: Timestamp, now: Timestamp, zone: Tz) -> String {
    let ago = humantime::format_duration(Duration::from_secs(u64::from(now.time.saturating_sub(from.time))));
    format!(
        "not read yet: {unread}; the position {}, {ago} ago, would be forgotten, and the next instance would \
         look at every recruiter again (`stream-processor tokens export FILE` keeps a copy)",
        shown_position(from, zone)
    )
}

/// The present checkpoint. `None` also when it cannot be read: any other position is better than that one.
async fn standing(context: &Context) -> Result<Option<Checkpoint>, Refusal> {
    match with_deadline(store(context).load()).await {
        Ok(standing) => Ok(standing),
        Err(StoreError::Garbled { .. }) => Ok(None),
        Err(error) => Err(Failure::from(error).into()),
    }
}

/// A checkpoint for a token that came without one. The pipeline that made the token is unknown.
fn bare(token: ResumeToken, standing: &Option<Checkpoint>, term: i64, history: History) -> Checkpoint {
    Checkpoint {
        cluster_time: token.cluster_time(),
        token,
        wall_time: None,
        term,
        fingerprint: FOREIGN.to_owned(),
        events: standing.as_ref().map_or(0, |standing| standing.events),
        updated_at: clock::now(),
        history: Some(history),
    }
}

async fn old_worker_token(context: &Context) -> Result<ResumeToken, Refusal> {
    let tokens =
        with_deadline(OldWorkerTokens::new(Database::clone(&context.database)).load()).await.map_err(Failure::from)?;
    let oldest = tokens.oldest().cloned();
    oldest
        .ok_or_else(|| Refusal::new(Exit::Findings, "the old worker left no token in `resumetokens` that can be read"))
}

/// The number of events between the position and `to` that are not read yet, as text; `None` when there are none. When
/// the position fell off the oplog, the text says that the number is unknown.
async fn unread(context: &Context, from: Option<Timestamp>, to: Timestamp) -> Result<Option<String>, Refusal> {
    let Some(from) = from else {
        return Ok(None);
    };
    let phase = state::load(&context.database, context.settings.phase.initial).await?.phase;
    let collections =
        watched(phase, None).into_iter().filter(|collection| *collection != WatchedCollection::Offers).collect();
    let mut source = Replay::open(&context.database, collections, from, to);
    let mut events = 0;
    loop {
        match source.next(Duration::from_millis(500)).await {
            Ok(Some(part)) => {
                events += part.events.iter().filter(|event| event.cluster_time > from).count();
                events += usize::try_from(part.passed_over).unwrap_or_default();
                if part.ended {
                    return Ok((events > 0).then(|| counted(events, "event", "events")));
                }
            }
            Ok(None) => {}
            Err(failure) if failure.directive() == crate::error::Directive::Resync => {
                return Ok(Some("an unknown number of events, because the position fell off the oplog".to_owned()));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}

fn text(time: Timestamp) -> String {
    format!("{}-{}", time.time, time.increment)
}
