//! What the service keeps in MongoDB about itself: checkpoint, resync, gaps, links; and what the oplog says that
//! it wrote. The checkpoint can be changed here, as an accident or an operator would, while nobody runs.

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::{Collection, Database};

use super::waiting::{PATIENCE, caught_up_to, cluster_time_now, eventually};

/// Waits until everything that was written before has been handled. Unlike [`super::waiting::caught_up`] it writes
/// an event of its own, so that the checkpoint moves at once.
pub(crate) async fn settled(database: &Database) {
    let written = cluster_time_now(database).await;
    database.collection("stream_processor_canary").insert_one(doc! {}).await.unwrap();
    caught_up_to(database, written).await;
}

/// The whole document of the checkpoint.
pub(crate) async fn checkpoint(database: &Database) -> Document {
    state(database, "checkpoint").await.expect("there is a checkpoint")
}

/// A document of `stream_processor_state`.
pub(crate) async fn state(database: &Database, id: &str) -> Option<Document> {
    states(database).find_one(doc! { "_id": id }).await.unwrap()
}

/// Changes fields of the stored checkpoint.
pub(crate) async fn change_checkpoint(database: &Database, fields: Document) {
    let changed = states(database).update_one(doc! { "_id": "checkpoint" }, doc! { "$set": fields }).await.unwrap();
    assert_eq!(changed.matched_count, 1, "there is a checkpoint");
}

/// Puts an earlier copy of the checkpoint back. Its term stays: it belongs to the lease, not to the position.
pub(crate) async fn put_back(database: &Database, mut checkpoint: Document) {
    for field in ["_id", "term"] {
        checkpoint.remove(field);
    }
    change_checkpoint(database, checkpoint).await;
}

/// Ends the lease of a service that was killed: what time would do, without the wait for it.
pub(crate) async fn end_lease(database: &Database) {
    let ended = doc! { "$set": { "expires_at": DateTime::from_millis(0) } };
    states(database).update_one(doc! { "_id": "lease" }, ended).await.unwrap();
}

/// The fields of a checkpoint after this token.
pub(crate) fn position(token: &Document) -> Document {
    let time = resume_tokens::ResumeToken::from_document(token).unwrap().cluster_time();
    doc! { "token": token, "cluster_time": time }
}

/// Waits until no resync is under way. Ask when the service is ready: its start has then asked for the one that it needs.
pub(crate) async fn until_no_resync(database: &Database) {
    eventually(PATIENCE, "the resync is finished", async || state(database, "resync").await.is_none().then_some(()))
        .await;
}

/// Every recorded gap, in the order of their beginnings.
pub(crate) async fn gaps(database: &Database) -> Vec<Document> {
    let gaps = database.collection::<Document>("stream_processor_gaps");
    gaps.find(doc! {}).sort(doc! { "from": 1 }).await.unwrap().try_collect().await.unwrap()
}

/// The jobs by recruiter, as the links remember them; a link without jobs is like none.
pub(crate) async fn links(database: &Database) -> BTreeMap<ObjectId, BTreeSet<ObjectId>> {
    let links = database.collection::<Document>("stream_processor_links").find(doc! {}).await.unwrap();
    let mut links = jobs_by_id(links.try_collect().await.unwrap(), |job| job.as_object_id());
    links.retain(|_, jobs| !jobs.is_empty());
    links
}

/// The jobs by recruiter, as `recruiters` holds them; a recruiter without jobs is left out.
pub(crate) async fn jobs(database: &Database) -> BTreeMap<ObjectId, BTreeSet<ObjectId>> {
    let recruiters = database.collection::<Document>("recruiters").find(doc! {}).await.unwrap();
    let id = |job: &Bson| job.as_document()?.get_object_id("_id").ok();
    let mut jobs = jobs_by_id(recruiters.try_collect().await.unwrap(), id);
    jobs.retain(|_, jobs| !jobs.is_empty());
    jobs
}

/// The entries of the oplog about writes to a collection after this time, in order.
pub(crate) async fn writes(database: &Database, collection: &str, after: Timestamp) -> Vec<Document> {
    let namespace = format!("{}.{collection}", database.name());
    // Inside a transaction's entry, or a group of writes, the namespace is one level deeper.
    let about = doc! { "$or": [{ "ns": &namespace }, { "o.applyOps.ns": &namespace }] };
    let filter = doc! { "ts": { "$gt": after }, "op": { "$in": ["i", "u", "d", "c"] }, "$and": [about] };
    let oplog = database.client().database("local").collection::<Document>("oplog.rs");
    oplog.find(filter).sort(doc! { "$natural": 1 }).await.unwrap().try_collect().await.unwrap()
}

fn jobs_by_id(
    documents: Vec<Document>,
    id: impl Fn(&Bson) -> Option<ObjectId>,
) -> BTreeMap<ObjectId, BTreeSet<ObjectId>> {
    let jobs = |document: &Document| document.get_array("jobs").unwrap().iter().filter_map(&id).collect();
    documents.iter().map(|document| (document.get_object_id("_id").unwrap(), jobs(document))).collect()
}

fn states(database: &Database) -> Collection<Document> {
    database.collection("stream_processor_state")
}

/// Stores a backfill that a leader has begun, and returns its id.
pub(crate) async fn interrupted_command(database: &Database) -> String {
    let id = ObjectId::new();
    let order = doc! { "name": "backfill", "recruiter": null, "active_only": false };
    let command = doc! {
        "_id": id, "order": order, "state": "running", "term": 1_i64, "who": "a test", "requested_at": DateTime::now(),
        "progress": {},
    };
    database.collection("stream_processor_commands").insert_one(command).await.unwrap();
    id.to_hex()
}
