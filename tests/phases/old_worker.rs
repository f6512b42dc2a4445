//! The documents of the worker that we replace (spec 03, "Checkpoints"; spec 01, "`resumetokens`"): kept current, so that
//! it can be put back in our place and go on exactly where we stopped. Taking over from it is in `starting.rs`.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use resume_tokens::ResumeToken;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::change_streams::{events_after, events_since};
use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, passing, refuse};
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{checkpoint, settled, until_no_resync, writes};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const COLLECTIONS: [&str; 2] = ["recruiters", "anonymized_recruiters"];

#[tokio::test(flavor = "multi_thread")]
async fn after_sigterm_the_old_worker_s_own_streams_go_on_with_exactly_the_later_events() {
    for there_before in [false, true] {
        let test = TestDatabase::create("old_worker_resumes").await;
        let began = cluster_time_now(&test.database).await;
        let mut ids = BTreeMap::new();
        if there_before {
            for collection in COLLECTIONS {
                let first = insert(&test, collection).await;
                let token = events_since(&test.collection(collection), began, first).await[0].token.clone();
                ids.insert(collection, leave(&test, collection, &token).await);
            }
        }
        let processor = started(&test).await;
        for collection in COLLECTIONS {
            insert(&test, collection).await;
            insert(&test, collection).await;
        }
        settled(&test.database).await;
        // Right before the end, within the second in which they are not written again.
        for collection in COLLECTIONS {
            insert(&test, collection).await;
        }
        settled(&test.database).await;
        stopped(processor).await;

        let left = left(&test).await;
        assert_eq!(left.len(), COLLECTIONS.len());
        for collection in COLLECTIONS {
            let (document, token) = &left[collection];
            assert!(ids.get(collection).is_none_or(|id| *id == *document), "the document stays the same one");
            // Others write elsewhere in the meantime: not among its events.
            let mut later = vec![insert(&test, collection).await];
            test.collection(collection)
                .update_one(doc! { "_id": later[0] }, doc! { "$set": { "x": 1 } })
                .await
                .unwrap();
            later.push(later[0]);
            later.push(insert(&test, collection).await);
            // The first event of the last one ends the reading.
            let seen = events_after(&test.collection(collection), token, later[2]).await;
            let seen: Vec<ObjectId> = seen.into_iter().map(|event| event.id).collect();
            assert_eq!(seen, later, "{collection}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_written_at_most_once_a_second_and_yet_keep_up() {
    let test = TestDatabase::create("old_worker_paced").await;
    let began = cluster_time_now(&test.database).await;
    let _processor = started(&test).await;
    let mut last = insert(&test, "recruiters").await;
    eventually(PATIENCE, "four writes of the token", async || {
        last = insert(&test, "recruiters").await;
        (writes(&test.database, "resumetokens", began).await.len() >= 4).then_some(())
    })
    .await;
    let events = events_since(&test.collection("recruiters"), began, last).await;
    let newest = &events.last().unwrap().token;
    eventually(PATIENCE, "the token of the last event", async || {
        (left(&test).await["recruiters"].1 == *newest).then_some(())
    })
    .await;
    let written = writes(&test.database, "resumetokens", began).await;
    let times: Vec<i64> = written.iter().map(|entry| entry.get_datetime("wall").unwrap().timestamp_millis()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "by the server's clock: {times:?}");
    assert!(events.len() > times.len(), "more events than writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn they_never_pass_an_event_that_is_not_applied() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "old_worker_held").await;
    let mut processor = started(&test).await;
    until_no_resync(&test.database).await;
    let applied = insert(&test, "recruiters").await;
    settled(&test.database).await;
    let known = eventually(PATIENCE, "the first token", async || left(&test).await.remove("recruiters")).await;

    refuse(&test.database, "update", "jobs_partners", passing()).await;
    let held = insert(&test, "recruiters").await;
    eventually(PATIENCE, "the event is tried again", async || {
        processor.metric("stream_processor_retries_total").await.filter(|retries| *retries >= 3.0)
    })
    .await;
    // The end of the service changes nothing about it.
    processor.sigterm();
    processor.until_ended().await;
    mend(&test.database).await;
    let (_, token) = left(&test).await.remove("recruiters").unwrap();
    assert_eq!(token, known.1);
    let seen = events_after(&test.collection("recruiters"), &token, held).await;
    assert!(seen.iter().all(|event| event.id != applied), "what was applied is not seen again");
    let saved = checkpoint(&test.database).await.get_timestamp("cluster_time").unwrap();
    assert!(ResumeToken::from_document(&token).unwrap().cluster_time() <= saved, "nor is the checkpoint passed");
}

/// Inserts a new recruiter, or what remains of one, and gives back its id.
async fn insert(test: &TestDatabase, collection: &str) -> ObjectId {
    let recruiter = recruiter([job("Boulanger")]);
    test.collection(collection).insert_one(&recruiter).await.unwrap();
    id(&recruiter)
}

/// What the old worker itself has stored.
async fn leave(test: &TestDatabase, collection: &str, token: &Document) -> ObjectId {
    let id = ObjectId::new();
    let document =
        doc! { "_id": id, "collection": collection, "resumeTokenData": token, "updatedAt": DateTime::from_millis(0) };
    test.collection("resumetokens").insert_one(document).await.unwrap();
    id
}

/// The documents by collection: `_id` and token, after a look at their shape.
async fn left(test: &TestDatabase) -> BTreeMap<String, (ObjectId, Document)> {
    let documents = test.collection("resumetokens").find(doc! {}).await.unwrap();
    let documents: Vec<Document> = documents.try_collect().await.unwrap();
    let read = |document: Document| {
        let mut fields: Vec<&str> = document.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["_id", "collection", "resumeTokenData", "updatedAt"]);
        assert!(document.get_datetime("updatedAt").is_ok());
        let token = document.get_document("resumeTokenData").unwrap().clone();
        (document.get_str("collection").unwrap().to_owned(), (document.get_object_id("_id").unwrap(), token))
    };
    documents.into_iter().map(read).collect()
}
