//! The raw limits of the machine: the same work with only the driver and the server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use futures::{StreamExt as _, TryStreamExt as _};
use mongodb::Database;

use super::population::Edit;
use xtask::Failure;

/// The numbers of statements per command and of commands in flight (spec 03, "Writing").
const STATEMENTS: usize = 500;
const IN_FLIGHT: usize = 2;

/// Sends statements in commands of 500, with `in_flight` commands at a time. A majority acknowledges the writes.
pub(super) async fn send(
    database: &Database,
    collection: &str,
    statements: Vec<Document>,
    in_flight: usize,
) -> Result<Duration, Failure> {
    let command = |chunk: &[Document]| {
        RawDocumentBuf::try_from(&doc! {
            "update": collection, "updates": chunk, "ordered": false, "writeConcern": { "w": "majority" },
        })
    };
    // The commands are encoded before the clock starts, because only the server and the network are measured.
    let commands: Vec<RawDocumentBuf> = statements.chunks(STATEMENTS).map(command).collect::<Result<_, _>>()?;
    let began = Instant::now();
    futures::stream::iter(commands)
        .map(|command| async {
            if database.run_raw_command(command).await?.contains_key("writeErrors") {
                Err(Failure::from("the server refused statements of the measurement"))
            } else {
                Ok(())
            }
        })
        .buffer_unordered(in_flight)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(began.elapsed())
}

/// Writes the changes of `edits` directly to the offers, each offer once, as the service does at best. Returns the
/// number of offers and the time.
pub(super) async fn update(database: &Database, edits: &[Edit], mark: u64) -> Result<(usize, Duration), Failure> {
    let distinct: BTreeMap<ObjectId, &Edit> = edits.iter().map(|edit| (edit.job, edit)).collect();
    let statements: Vec<Document> = distinct.values().map(|edit| edit.of_offer(mark)).collect();
    let count = statements.len();
    Ok((count, send(database, "jobs_partners", statements, IN_FLIGHT).await?))
}

/// Reads `events` events from the time `from` on, without decoding them.
pub(super) async fn drain(database: &Database, from: Timestamp, events: usize) -> Result<Duration, Failure> {
    let stages = vec![
        doc! { "$changeStream": { "startAtOperationTime": from } },
        doc! { "$match": { "ns.coll": "recruiters" } },
        doc! { "$project": { "operationType": 1, "ns": 1, "documentKey": 1, "clusterTime": 1, "wallTime": 1 } },
    ];
    let began = Instant::now();
    let mut batches = database.aggregate(stages).batch_size(1_000).batch().await?;
    let mut read = 0;
    while read < events {
        let Some(batch) = batches.try_next().await? else { return Err("the stream ended".into()) };
        read += batch.doc_slices()?.into_iter().count();
    }
    Ok(began.elapsed())
}

/// Reads whole collections without decoding the documents.
pub(super) async fn scan(database: &Database, collections: &[&str]) -> Result<Duration, Failure> {
    let began = Instant::now();
    for collection in collections {
        let mut batches = database.collection::<Document>(collection).find(doc! {}).batch().await?;
        while batches.try_next().await?.is_some() {}
    }
    Ok(began.elapsed())
}

/// Inserts the existing offers into an empty collection with the same validator and indexes. Returns their number and
/// the time.
pub(super) async fn fill(database: &Database, empty: &Database) -> Result<(usize, Duration), Failure> {
    let offers: Vec<Document> =
        database.collection::<Document>("jobs_partners").find(doc! {}).await?.try_collect().await?;
    let upsert = |mut offer: Document| {
        let id = offer.remove("_id").unwrap_or(Bson::Null);
        doc! { "q": { "_id": id }, "u": { "$set": offer }, "upsert": true }
    };
    let statements: Vec<Document> = offers.into_iter().map(upsert).collect();
    let count = statements.len();
    Ok((count, send(empty, "jobs_partners", statements, IN_FLIGHT).await?))
}

/// The cluster time of the server's last operation.
pub(super) async fn cluster_time(database: &Database) -> Result<Timestamp, Failure> {
    Ok(database.run_command(doc! { "ping": 1 }).await?.get_timestamp("operationTime")?)
}
