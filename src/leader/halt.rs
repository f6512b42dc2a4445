//! The halt: the position of the stream is lost, and `stream.on_history_lost` says that a person decides. The leader keeps
//! the lease and waits for the command `resume`. Nothing is read or written meanwhile.

use bson::{DateTime, Document, Timestamp, doc};
use chrono_tz::Tz;
use mongodb::Database;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::context::Context;
use crate::error::Failure;
use crate::interruption::{Interruption, Unfinished};
use crate::lease::Lease;
use crate::maintenance::command_end::end_cancelled;
use crate::model::names::STATE;
use crate::model::names::state_id::HALT;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::shown_time::shown_position;
use crate::tasks::pause;
use crate::write::recorder::{note_at_once, recorder};
use crate::write::{Writer, update_command};

/// The decision of a person to go on after a halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumeOrder {
    /// The position at which the stream is opened; `None` for the present.
    pub from: Option<Timestamp>,
}

/// The document `halt`. It exists while a leader is halted.
#[derive(Debug, Clone)]
pub(crate) struct StoredHalt {
    /// The name of the leader.
    pub instance: String,
    /// The failure that led to the halt.
    pub cause: String,
    /// The last time at which a leader halted, by the server's clock.
    since: DateTime,
    order: Option<ResumeOrder>,
}

impl StoredHalt {
    /// Reads the halt; `None` while no leader is halted.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database) -> Result<Option<Self>, Failure> {
        let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": HALT })).await;
        Ok(stored.map_err(Failure::Read)?.as_ref().map(Self::of))
    }

    fn of(stored: &Document) -> Self {
        let text = |field: &str| stored.get_str(field).unwrap_or_default().to_owned();
        let order = stored.get_document("resume").ok();
        Self {
            instance: text("instance"),
            cause: text("cause"),
            since: stored.get_datetime("since").copied().unwrap_or(DateTime::from_millis(0)),
            order: order.map(|order| ResumeOrder { from: order.get_timestamp("from").ok() }),
        }
    }
}

/// Stores the decision to go on. False when no leader is halted.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn order(
    database: &Database,
    order: ResumeOrder,
    (who, reason, at): (&str, &str, DateTime),
) -> Result<bool, Failure> {
    let resume = doc! { "from": order.from, "who": who, "reason": reason, "at": at };
    let update = doc! { "$set": { "resume": resume } };
    let stored = with_deadline(collection(database, STATE).update_one(doc! { "_id": HALT }, update)).await;
    Ok(stored.map_err(Failure::Write)?.matched_count > 0)
}

/// Removes the document after the stream was opened.
///
/// # Errors
/// As [`update_command::delete`].
pub(crate) async fn end(writer: &Writer) -> Result<(), Unfinished> {
    update_command::delete(writer, STATE, doc! { "_id": HALT }).await
}

/// Keeps the lease until a person decides; `None` when the process stops.
///
/// # Errors
/// [`Interruption::LeaseLost`] when the lease cannot be kept.
pub(crate) async fn until_resumed(
    context: &Context,
    lease: &mut Lease,
    cause: &Failure,
    stop: &CancellationToken,
) -> Result<Option<ResumeOrder>, Unfinished> {
    error!(error = %cause, next = "stream-processor resume --reason TEXT", "halted: the position is lost, a person decides");
    let (mut is_stored, mut failed) = (false, RepeatedFailure::default());
    let (timeline, mut recorder) = recorder();
    loop {
        match lease.renew(None).await {
            Ok(()) => {
                context.health.leads_until(lease.validity.until);
                if let Some(ended) = failed.end() {
                    info!(failures = ended.failures, seconds = ended.seconds, "the lease can be renewed again");
                }
            }
            Err(Unfinished::Interrupted(interruption)) => return Err(interruption.into()),
            Err(_) if lease.validity.left().is_zero() => return Err(Interruption::LeaseLost.into()),
            Err(Unfinished::Failed(failure)) if failed.is_new(&failure) => {
                warn!(error = %failure, "the lease could not be renewed; retrying");
            }
            Err(_) => {}
        }
        let database = &context.database;
        let (_renewed, validity) = watch::channel(lease.validity);
        let writer = lease.writer(database, validity).with_notices(&context.notices);
        if !is_stored {
            is_stored = store(database, lease, &context.deployment.instance, cause).await.is_ok();
            if is_stored {
                note_at_once(&writer, TimelineEvent::Halted { cause: cause.to_string() }).await;
            }
        }
        // What fails is repeated with the next renewal.
        if let Err(unfinished) = end_cancelled(&writer.clone().with_timeline(timeline.clone()), lease.term).await {
            debug!(error = %unfinished, "cancelled commands could not be ended");
        }
        recorder.drain(&writer).await;
        if let Ok(Some(StoredHalt { order: Some(order), since, .. })) = StoredHalt::read(database).await {
            // The length is for people. It does not fail because the clock cannot be read.
            let now = server_time(database).await.unwrap_or(since);
            let seconds = (now.timestamp_millis() - since.timestamp_millis()) / 1_000;
            note_at_once(&writer, TimelineEvent::Resumed { seconds }).await;
            info!(from = order.from.map(|from| shown_position(from, Tz::UTC)), "a person decided to go on");
            return Ok(Some(order));
        }
        if !pause(stop, lease.interval()).await {
            return Ok(None);
        }
    }
}

/// Stores the halt of this term. A decision that was made for an earlier term counts for this one too.
async fn store(database: &Database, lease: &Lease, instance: &str, cause: &Failure) -> Result<(), Failure> {
    let update = doc! {
        "$set": { "term": lease.term, "instance": instance, "cause": cause.to_string() },
        "$currentDate": { "since": true },
    };
    let newer = doc! { "_id": HALT, "term": { "$not": { "$gt": lease.term } } };
    let stored = with_deadline(collection(database, STATE).update_one(newer, update).upsert(true)).await;
    stored.map(drop).map_err(Failure::Write)
}
