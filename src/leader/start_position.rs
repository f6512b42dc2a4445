//! Finds the position at which a leadership begins (spec 03, "Starting").
//! This is the position of our checkpoint. Without a checkpoint it is the old worker's position, or else now, and a
//! resync follows.

use bson::{Timestamp, doc};
use mongodb::{Database, IndexModel};
use resume_tokens::{History, OldWorkerTokens, Store, StoreError};
use tracing::{info, warn};

use super::checkpoint_origin;
use super::halt::ResumeOrder;
use crate::clock;
use crate::config::OnHistoryLost;
use crate::error::Failure;
use crate::failpoint;
use crate::interruption::{Interruption, Unfinished};
use crate::maintenance::gaps;
use crate::maintenance::resync::{FIRST_START, Resync};
use crate::model::names::LINKS;
use crate::model::names::STATE;
use crate::model::names::state_id::BEGINNING;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::observe::metrics::Metrics;
use crate::phase::Phase;
use crate::source::aggregation::fingerprint;
use crate::source::cursor::{StreamPosition, operation_time};
use crate::write::{Writer, update_command};

/// The beginning of a leadership.
#[derive(Debug)]
pub struct Start {
    /// The position at which the stream is opened.
    pub position: StreamPosition,
    /// The history to which new checkpoints belong.
    pub history: History,
    /// True if there was no checkpoint, not even an unusable one.
    pub is_first: bool,
    /// The number of events that earlier leaderships applied; 0 if it is unknown.
    pub events: i64,
    /// The resync to begin or to continue.
    pub resync: Option<Resync>,
}

/// The stores that may have a position: the one of our checkpoint and the one of the old worker.
#[derive(Debug, Clone, Copy)]
pub struct PositionStores<'a> {
    pub store: &'a Store,
    pub old_worker: &'a OldWorkerTokens,
}

/// The phase, and the setting `phase.keep_recruiters_backup`: they decide which collections the stream watches.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    pub phase: Phase,
    pub keeps_backup: bool,
}

/// Finds the beginning of a leadership. After a lost position, opens a gap and requests a resync.
///
/// # Errors
/// A [`Failure`] of the stores or the server, or [`Interruption::LeaseLost`]. A garbled checkpoint, or one of another
/// history, is a failure only if the configuration says to halt on a lost history.
pub async fn start(
    writer: &Writer,
    PositionStores { store, old_worker }: PositionStores<'_>,
    on_history_lost: OnHistoryLost,
    metrics: &Metrics,
    term: i64,
    watch: Watch,
) -> Result<Start, Unfinished> {
    let database = writer.database();
    let history = checkpoint_origin::current(database).await?;
    let goes_on = on_history_lost == OnHistoryLost::Resync;
    let checkpoint = match with_deadline(store.load()).await {
        Err(failure @ StoreError::Garbled { .. }) if goes_on => {
            let lost = Lost { from: Timestamp { time: 0, increment: 0 }, cause: "garbled checkpoint", events: 0 };
            return after_lost(writer, Failure::from(failure), lost, metrics, term, history).await;
        }
        loaded => loaded?,
    };
    if let Some(checkpoint) = checkpoint {
        if let Some(cause) = checkpoint_origin::contradiction(database, store, &checkpoint).await? {
            let failure = Failure::OtherHistory(cause);
            if !goes_on {
                return Err(failure.into());
            }
            let lost = Lost { from: checkpoint.cluster_time, cause: "another history", events: checkpoint.events };
            return after_lost(writer, failure, lost, metrics, term, history).await;
        }
        let is_same = checkpoint.fingerprint == fingerprint(watch.phase.watched(watch.keeps_backup));
        let position = if is_same {
            StreamPosition::After(checkpoint.token)
        } else {
            info!("the pipeline of the change stream has changed; the stream starts at the time of the checkpoint");
            StreamPosition::At(checkpoint.cluster_time)
        };
        let resync = if !is_same && watch.phase.mirrors(watch.keeps_backup) {
            // The stream did not watch the offers until now, so the mirror looks at each one.
            Some(Resync::request(writer, metrics, "the mirror begins", term).await?)
        } else {
            Resync::unfinished(database, term).await?
        };
        return Ok(Start { position, history, is_first: false, events: checkpoint.events, resync });
    }
    let (time, cause) = match old_worker_time(old_worker).await? {
        Some(time) => (time, "taking over from the old worker"),
        None => (beginning(writer, term).await?, FIRST_START),
    };
    // The resync starts from its beginning, even if an earlier start left one unfinished: the old worker may have
    // stored an older token since.
    let resync = Resync::request(writer, metrics, cause, term).await?;
    Ok(Start { position: StreamPosition::At(time), history, is_first: true, events: 0, resync: Some(resync) })
}

/// Begins after a halt, as a person decided. What lies between the lost position and now is a gap, and a resync repairs it.
/// That holds also if the stream is opened before now, because events may be applied twice.
///
/// # Errors
/// As [`start`].
pub(crate) async fn resume(
    writer: &Writer,
    PositionStores { store, .. }: PositionStores<'_>,
    metrics: &Metrics,
    term: i64,
    order: ResumeOrder,
) -> Result<Start, Unfinished> {
    let history = checkpoint_origin::current(writer.database()).await?;
    // An unreadable checkpoint is one of the reasons for a halt.
    let (from, events) = match with_deadline(store.load()).await {
        Ok(Some(checkpoint)) => (checkpoint.cluster_time, checkpoint.events),
        Ok(None) | Err(StoreError::Garbled { .. }) => (Timestamp { time: 0, increment: 0 }, 0),
        Err(error) => return Err(error.into()),
    };
    let lost = Lost { from, cause: "resumed by hand", events };
    let mut start = go_on(writer, lost, metrics, term, history).await?;
    if let Some(from) = order.from {
        start.position = StreamPosition::At(from);
    }
    Ok(start)
}

/// Returns the time of the very first start, which is recorded before anything else is done. An instance may write
/// offers and end before it saves a checkpoint. The next start must read all changes since the first one.
async fn beginning(writer: &Writer, term: i64) -> Result<Timestamp, Unfinished> {
    let database = writer.database();
    let now = operation_time(database).await?;
    failpoint::passed("beginning");
    let filter = doc! { "_id": BEGINNING, "term": { "$not": { "$gt": term } } };
    let update = doc! { "$set": { "term": term }, "$setOnInsert": { "cluster_time": now } };
    // The lease fences this write. The term in the filter is not enough: a successor's first checkpoint deletes the
    // document, and then no term is stored.
    update_command::record(writer, STATE, filter, update).await?;
    let recorded =
        with_deadline(collection(database, STATE).find_one(doc! { "_id": BEGINNING })).await.map_err(Failure::Read)?;
    // Only a successor that has saved a checkpoint deletes the document.
    let recorded = recorded.ok_or(Interruption::LeaseLost)?;
    Ok(recorded
        .get_timestamp("cluster_time")
        .map_err(|_| Failure::OwnDocument { collection: STATE, field: "cluster_time" })?)
}

/// Returns the time of the older of the old worker's tokens, so that no event is missed at the switch. The token itself
/// belongs to another pipeline of the change stream and cannot be used.
async fn old_worker_time(old_worker: &OldWorkerTokens) -> Result<Option<Timestamp>, Failure> {
    let tokens = with_deadline(old_worker.load()).await?;
    for collection in &tokens.garbled {
        warn!(collection, "a token of the old worker cannot be read; the first resync covers it");
    }
    Ok(tokens.oldest().map(resume_tokens::ResumeToken::cluster_time))
}

/// A checkpoint from which the stream cannot go on.
struct Lost {
    from: Timestamp,
    cause: &'static str,
    events: i64,
}

async fn after_lost(
    writer: &Writer,
    failure: Failure,
    lost: Lost,
    metrics: &Metrics,
    term: i64,
    history: History,
) -> Result<Start, Unfinished> {
    warn!(error = %failure, advice = failure.advice(), "the checkpoint cannot be used; a resync follows");
    go_on(writer, lost, metrics, term, history).await
}

async fn go_on(
    writer: &Writer,
    lost: Lost,
    metrics: &Metrics,
    term: i64,
    history: History,
) -> Result<Start, Unfinished> {
    let now = operation_time(writer.database()).await?;
    gaps::open(writer, lost.from, now, lost.cause, clock::now()).await?;
    let resync = Resync::request(writer, metrics, lost.cause, term).await?;
    Ok(Start { position: StreamPosition::At(now), history, is_first: false, events: lost.events, resync: Some(resync) })
}

/// Creates the index of links by which the recruiters of a job are found. This is cheap when the index exists.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn prepare(database: &Database) -> Result<(), Failure> {
    let index = IndexModel::builder().keys(doc! { "jobs": 1 }).build();
    collection(database, LINKS).create_index(index).await.map_err(Failure::Write)?;
    Ok(())
}
