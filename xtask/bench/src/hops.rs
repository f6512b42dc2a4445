//! The latency of a steady load, as a watcher of both collections sees it, and its raw limit: two hops through the server. The
//! first hop is the event of the recruiter, the second one is that of the offer. Between the two, the watcher writes and does not
//! read.

use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::raw_batch_cursor::RawBatchCursor;
use tokio::time::MissedTickBehavior;

use super::population::Edit;
use super::raw;
use super::scenarios::STEADY;
use xtask::Failure;

const SOURCE: &str = "recruiters";
const TARGET: &str = "jobs_partners";
/// The longest wait for one event.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who writes the offer after its recruiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The service, which reads the recruiter and its offers first.
    Service,
    /// The watcher, as soon as it sees the event of the recruiter.
    Watcher,
}

/// The sorted times from just before the write of a recruiter until the watcher sees the event of the offer. `mark` is that of
/// the first edit.
pub(super) async fn latencies(
    database: &Database,
    edits: &[Edit],
    mark: u64,
    writer: Writer,
) -> Result<Vec<Duration>, Failure> {
    let stages = vec![
        doc! { "$changeStream": {} },
        doc! { "$match": { "ns.coll": { "$in": [SOURCE, TARGET] } } },
        doc! { "$project": { "ns": 1, "documentKey": 1 } },
    ];
    let mut events = database.aggregate(stages).batch().await?;
    let mut latencies = Vec::with_capacity(edits.len());
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / STEADY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (mark, edit) in (mark..).zip(edits) {
        ticks.tick().await;
        let began = Instant::now();
        let written = raw::send(database, SOURCE, vec![edit.of_recruiter(mark)], 1);
        let seen = async {
            if writer == Writer::Watcher {
                until(&mut events, SOURCE, edit.recruiter).await?;
                let offer = raw::send(database, TARGET, vec![edit.of_offer(mark)], 1);
                // The stream is asked for the next event at once, as beside the service.
                futures::try_join!(offer, until(&mut events, TARGET, edit.job))?;
            } else {
                until(&mut events, TARGET, edit.job).await?;
            }
            Ok(began.elapsed())
        };
        let both = async { futures::try_join!(written, seen) };
        let both = tokio::time::timeout(PATIENCE, both).await;
        let (_, latency) = both.map_err(|_| "the watcher saw no event of an offer in 60 s")??;
        latencies.push(latency);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// Copies the recruiters and offers of these edits, so that a watcher may write them without the service.
pub(super) async fn copy(from: &Database, to: &Database, edits: &[Edit]) -> Result<(), Failure> {
    let recruiters: Vec<ObjectId> = edits.iter().map(|edit| edit.recruiter).collect();
    let jobs: Vec<ObjectId> = edits.iter().map(|edit| edit.job).collect();
    for (collection, ids) in [(SOURCE, recruiters), (TARGET, jobs)] {
        let found = from.collection::<Document>(collection).find(doc! { "_id": { "$in": ids } }).await?;
        let documents: Vec<Document> = found.try_collect().await?;
        to.collection(collection).insert_many(documents).await?;
    }
    Ok(())
}

/// Waits for the next event of this document.
async fn until(events: &mut RawBatchCursor, collection: &str, id: ObjectId) -> Result<(), Failure> {
    loop {
        let batch = events.try_next().await?.ok_or("the stream ended")?;
        for event in batch.doc_slices()? {
            let event = event?;
            let event = event.as_document().ok_or("an event is no document")?;
            let is_of_collection = event.get_document("ns")?.get_str("coll")? == collection;
            if is_of_collection && event.get_document("documentKey")?.get_object_id("_id")? == id {
                return Ok(());
            }
        }
    }
}
