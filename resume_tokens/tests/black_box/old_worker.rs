//! The old worker's documents: taken over from, and kept so that it can take over again.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use mongodb::{Collection, IndexModel};
use resume_tokens::{OLD_WORKER_COLLECTION, OldTokens, OldWorkerTokens};

use crate::support::{Stream, TestDatabase, checkpoint, token_of};

#[tokio::test]
async fn without_the_old_worker_there_is_nothing_to_take_over() {
    let test = TestDatabase::create().await;
    let old = OldWorkerTokens::new(test.database.clone()).load().await.unwrap();
    assert_eq!(old, OldTokens::default());
    assert_eq!(old.oldest(), None);
}

#[tokio::test]
async fn the_older_of_its_tokens_is_found_whatever_else_is_garbled() {
    let test = TestDatabase::create().await;
    let nameless = ObjectId::new();
    let documents: Collection<Document> = test.database.collection(OLD_WORKER_COLLECTION);
    let good = |second| checkpoint(second, 1).token.to_document();
    documents
        .insert_many([
            doc! { "collection": "recruiters", "resumeTokenData": good(2000), "updatedAt": DateTime::from_millis(5) },
            doc! { "collection": "anonymized_recruiters", "resumeTokenData": good(1000) },
            doc! { "collection": "broken", "resumeTokenData": { "_data": "nonsense" } },
            doc! { "collection": "empty" },
            doc! { "_id": nameless, "resumeTokenData": good(1) },
        ])
        .await
        .unwrap();
    let old = OldWorkerTokens::new(test.database.clone()).load().await.unwrap();
    let recruiters = ("recruiters".to_owned(), checkpoint(2000, 1).token);
    let anonymized = ("anonymized_recruiters".to_owned(), checkpoint(1000, 1).token);
    assert_eq!(old.tokens, [anonymized, recruiters]);
    assert_eq!(old.oldest(), Some(&checkpoint(1000, 1).token));
    assert_eq!(old.garbled, [format!("ObjectId(\"{nameless}\")"), "broken".to_owned(), "empty".to_owned()]);
}

#[tokio::test]
async fn a_saved_token_keeps_the_shape_and_the_id_of_the_old_worker_s_document() {
    let test = TestDatabase::create().await;
    let documents: Collection<Document> = test.database.collection(OLD_WORKER_COLLECTION);
    let unique = mongodb::options::IndexOptions::builder().unique(true).build();
    documents.create_index(IndexModel::builder().keys(doc! { "collection": 1 }).options(unique).build()).await.unwrap();
    let id = ObjectId::new();
    let theirs = checkpoint(1000, 1).token.to_document();
    documents
        .insert_one(doc! { "_id": id, "collection": "recruiters", "resumeTokenData": theirs, "__v": 0 })
        .await
        .unwrap();

    let old_worker = OldWorkerTokens::new(test.database.clone());
    let token = checkpoint(3000, 1).token;
    for collection in ["recruiters", "anonymized_recruiters"] {
        old_worker.save(collection, &token, DateTime::from_millis(7)).await.unwrap();
    }
    let stored = documents.find_one(doc! { "collection": "recruiters" }).await.unwrap().unwrap();
    let expected = doc! {
        "_id": id, "collection": "recruiters", "resumeTokenData": { "_data": token.data() }, "__v": 0,
        "updatedAt": DateTime::from_millis(7),
    };
    assert_eq!(stored, expected);
    let created = documents.find_one(doc! { "collection": "anonymized_recruiters" }).await.unwrap().unwrap();
    assert!(created.get_object_id("_id").is_ok(), "{created}");
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 2);
}

#[tokio::test]
async fn the_old_worker_can_resume_its_own_stream_after_a_token_of_ours() {
    let test = TestDatabase::create().await;
    let recruiters: Collection<Document> = test.database.collection("recruiters");
    // Ours is on the whole database, the old worker's on one collection.
    let mut ours = Stream::open(&test.database, doc! {}).await;
    recruiters.insert_many([doc! { "_id": ObjectId::new() }, doc! { "_id": ObjectId::new() }]).await.unwrap();
    let events = ours.take(2).await;
    let old_worker = OldWorkerTokens::new(test.database.clone());
    old_worker.save("recruiters", &token_of(&events[0]), DateTime::from_millis(7)).await.unwrap();

    let stored = old_worker.load().await.unwrap().oldest().unwrap().to_document();
    let mut theirs = Stream::open_on_collection(&test.database, "recruiters", doc! { "resumeAfter": stored }).await;
    let next = theirs.take(1).await;
    assert_eq!(next[0].get("documentKey"), events[1].get("documentKey"));
}
