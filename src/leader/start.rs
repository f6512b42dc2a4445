//! Where a leadership begins (spec 03, "Starting"): after our checkpoint, else where the old worker
//! stopped, else now; in the latter two cases with a resync.

use bson::{Timestamp, doc};
use mongodb::{Database, IndexModel};
use resume_tokens::{History, OldWorkerTokens, Store, StoreError};
use tracing::{info, warn};

use super::history;
use crate::clock;
use crate::config::OnHistoryLost;
use crate::error::Failure;
use crate::failpoint;
use crate::maintenance::gaps;
use crate::maintenance::resync::Resync;
use crate::model::names::LINKS;
use crate::model::names::STATE;
use crate::model::names::state_id::BEGINNING;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::observe::metrics::Metrics;
use crate::phase::Phase;
use crate::source::cursor::{StreamPosition, operation_time};
use crate::source::pipeline::fingerprint;
use crate::write::{Writer, command};

/// The beginning of a leadership.
#[derive(Debug)]
pub struct Start {
    /// Where the stream is opened.
    pub position: StreamPosition,
    /// The history that positions are of from here on.
    pub history: History,
    /// There was no checkpoint.
    pub is_first: bool,
    /// How many events earlier leaderships applied.
    pub events: i64,
    /// What is to be looked at again.
    pub resync: Option<Resync>,
}

/// Finds the beginning.
///
/// # Errors
/// A [`Failure`] of the stores or the server; a checkpoint that is garbled, or of another history, is one only when the
/// configuration says to halt on a lost history.
pub async fn start(
    writer: &Writer,
    (store, old_worker): (&Store, &OldWorkerTokens),
    on_history_lost: OnHistoryLost,
    metrics: &Metrics,
    (term, phase): (i64, Phase),
) -> Result<Start, Failure> {
    let database = writer.database();
    let history = history::current(database).await?;
    let goes_on = on_history_lost == OnHistoryLost::Resync;
    let checkpoint = match with_deadline(store.load()).await {
        Err(failure @ StoreError::Garbled { .. }) if goes_on => {
            let lost = Lost { from: Timestamp { time: 0, increment: 0 }, cause: "garbled checkpoint", events: 0 };
            return after_lost(writer, (Failure::from(failure), lost), metrics, (term, history)).await;
        }
        loaded => loaded?,
    };
    if let Some(checkpoint) = checkpoint {
        if let Some(cause) = history::contradiction(database, store, &checkpoint).await? {
            let failure = Failure::OtherHistory(cause);
            if !goes_on {
                return Err(failure);
            }
            let lost = Lost { from: checkpoint.cluster_time, cause: "another history", events: checkpoint.events };
            return after_lost(writer, (failure, lost), metrics, (term, history)).await;
        }
        let position = if checkpoint.fingerprint == fingerprint(phase.watched()) {
            StreamPosition::After(checkpoint.token)
        } else {
            info!("the pipeline of the change stream has changed: it is opened by the checkpoint's time");
            StreamPosition::At(checkpoint.cluster_time)
        };
        let resync = Resync::unfinished(database, term).await?;
        return Ok(Start { position, history, is_first: false, events: checkpoint.events, resync });
    }
    let (time, cause) = match old_worker_time(old_worker).await? {
        Some(time) => (time, "taking over from the old worker"),
        None => (beginning(writer, term).await?, "first start"),
    };
    // From its beginning, even if an earlier start left one unfinished: of the old worker's tokens, an older one may
    // have come since.
    let resync = Resync::request(writer, metrics, cause, term).await?;
    Ok(Start { position: StreamPosition::At(time), history, is_first: true, events: 0, resync: Some(resync) })
}

/// The time of the first start, recorded before anything is done: an instance that ends before it has saved a position
/// has written offers by then, and what happened to them since must be read.
async fn beginning(writer: &Writer, term: i64) -> Result<Timestamp, Failure> {
    let database = writer.database();
    let now = operation_time(database).await?;
    failpoint::passed("beginning");
    let filter = doc! { "_id": BEGINNING, "term": { "$not": { "$gt": term } } };
    let update = doc! { "$set": { "term": term }, "$setOnInsert": { "cluster_time": now } };
    // Under the lease: once the successor has a checkpoint, there is no term in the way.
    command::record(writer, STATE, filter, update).await?;
    let recorded =
        with_deadline(collection(database, STATE).find_one(doc! { "_id": BEGINNING })).await.map_err(Failure::Read)?;
    // Deleted since: by a successor that has a checkpoint.
    let recorded = recorded.ok_or(Failure::LeaseLost)?;
    recorded
        .get_timestamp("cluster_time")
        .map_err(|_| Failure::OwnDocument { collection: STATE, field: "cluster_time" })
}

/// The older of the old worker's tokens, so that nothing is missed at the switch. Its token belongs to
/// another pipeline, so its time is used.
async fn old_worker_time(old_worker: &OldWorkerTokens) -> Result<Option<Timestamp>, Failure> {
    let tokens = with_deadline(old_worker.load()).await?;
    for collection in &tokens.garbled {
        warn!(collection, "a token of the old worker cannot be read; the first resync covers it");
    }
    Ok(tokens.oldest().map(resume_tokens::ResumeToken::cluster_time))
}

/// A position from which the stream cannot go on.
struct Lost {
    from: Timestamp,
    cause: &'static str,
    events: i64,
}

async fn after_lost(
    writer: &Writer,
    (failure, lost): (Failure, Lost),
    metrics: &Metrics,
    (term, history): (i64, History),
) -> Result<Start, Failure> {
    warn!(error = %failure, advice = failure.advice(), "the checkpoint is of no use");
    let now = operation_time(writer.database()).await?;
    gaps::open(writer, (lost.from, now), lost.cause, clock::now()).await?;
    let resync = Resync::request(writer, metrics, lost.cause, term).await?;
    Ok(Start { position: StreamPosition::At(now), history, is_first: false, events: lost.events, resync: Some(resync) })
}

/// Creates the index that finds the holders of a job. Cheap when it is there.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn prepare(database: &Database) -> Result<(), Failure> {
    let index = IndexModel::builder().keys(doc! { "jobs": 1 }).build();
    collection(database, LINKS).create_index(index).await.map_err(Failure::Write)?;
    Ok(())
}
