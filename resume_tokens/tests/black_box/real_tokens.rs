//! Token decoding on tokens that a real server has just made.

use bson::{Document, doc};
use mongodb::Collection;
use resume_tokens::{Checkpoint, ResumeToken, TokenKind};

use crate::support::{Stream, TestDatabase, TestFolder, checkpoint, operation_time, token_of};

#[tokio::test]
async fn the_time_in_a_token_is_the_event_s_cluster_time() {
    let test = TestDatabase::create().await;
    let recruiters: Collection<Document> = test.database.collection("recruiters");
    let mut stream = Stream::open(&test.database, doc! {}).await;
    recruiters.insert_one(doc! { "_id": 1 }).await.unwrap();
    recruiters.update_one(doc! { "_id": 1 }, doc! { "$set": { "a": 1 } }).await.unwrap();
    recruiters.replace_one(doc! { "_id": 1 }, doc! { "b": 1 }).await.unwrap();
    recruiters.delete_one(doc! { "_id": 1 }).await.unwrap();
    let mut session = test.database.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    recruiters.insert_one(doc! { "_id": "a" }).session(&mut session).await.unwrap();
    recruiters.insert_one(doc! { "_id": "b" }).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    test.database.drop().await.unwrap();

    let events = stream.take(9).await;
    let operations: Vec<&str> = events.iter().map(|event| event.get_str("operationType").unwrap()).collect();
    let expected = ["insert", "update", "replace", "delete", "insert", "insert", "drop", "dropDatabase", "invalidate"];
    assert_eq!(operations, expected);
    for event in &events {
        let token = token_of(event);
        assert_eq!(token.cluster_time(), event.get_timestamp("clusterTime").unwrap(), "{event}");
        assert_eq!(token.kind(), TokenKind::Event, "{event}");
        assert_eq!(&token.to_document(), event.get_document("_id").unwrap());
    }
}

#[tokio::test]
async fn a_position_without_an_event_is_a_high_water_mark_at_its_time() {
    let test = TestDatabase::create().await;
    let now = operation_time(&test.database).await;
    let stream = Stream::open(&test.database, doc! { "startAtOperationTime": now }).await;
    assert_eq!(stream.first_position.kind(), TokenKind::HighWaterMark);
    assert_eq!(stream.first_position.cluster_time(), now);
}

#[tokio::test]
async fn a_stream_resumes_after_a_checkpoint_from_each_store() {
    let (test, files) = (TestDatabase::create().await, TestFolder::create());
    let recruiters: Collection<Document> = test.database.collection("recruiters");
    let mut stream = Stream::open(&test.database, doc! {}).await;
    let mark = stream.first_position.clone();
    // The server refuses to resume after the second of them without the type bits of its token.
    recruiters.insert_many([doc! { "_id": 1 }, doc! { "_id": 1.5 }, doc! { "_id": "last" }]).await.unwrap();
    let events = stream.take(3).await;
    let tokens = [mark, token_of(&events[0]), token_of(&events[1])];

    for store in [test.store(), files.store] {
        for (position, next) in tokens.iter().zip(&events) {
            let saved =
                Checkpoint { token: position.clone(), cluster_time: position.cluster_time(), ..checkpoint(1, 1) };
            store.save(&saved).await.unwrap();
            let loaded: ResumeToken = store.load().await.unwrap().unwrap().token;
            let mut resumed = Stream::open(&test.database, doc! { "resumeAfter": loaded.to_document() }).await;
            let event = loop {
                let events = resumed.events().await;
                let of_recruiters =
                    |event: &&Document| event.get_document("ns").unwrap().get_str("coll").unwrap() == "recruiters";
                if let Some(event) = events.iter().find(of_recruiters) {
                    break event.clone();
                }
            };
            assert_eq!(token_of(&event), token_of(next));
        }
    }
}
