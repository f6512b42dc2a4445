//! The store in MongoDB: what its documents look like to others, and what happens when they are not as
//! it wrote them, or when the server refuses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::{Document, Timestamp, doc};
use mongodb::error::ErrorKind;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::{Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, Collection};
use resume_tokens::{HISTORY_COLLECTION, MongoStore, OldWorkerTokens, STATE_COLLECTION, Store, StoreError};
use xtask::mongod::TestServer;

use crate::support::{TestDatabase, checkpoint};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn the_stored_documents_are_those_that_others_read() {
    let test = TestDatabase::create().await;
    test.store().save(&checkpoint(1000, 3)).await.unwrap();
    test.store().remember(&checkpoint(1000, 3), DAY).await.unwrap();
    let fields = doc! {
        "token": { "_data": "82000003E8000000012B0229296E04" },
        "cluster_time": Timestamp { time: 1000, increment: 1 },
        "wall_time": checkpoint(1000, 3).wall_time,
        "term": 3_i64,
        "fingerprint": "0123456789abcdef",
        "events": 2000_i64,
        "updated_at": checkpoint(1000, 3).updated_at,
        "history": { "set": "rs0", "database": "test", "collection": null },
    };
    for (collection, id) in [(STATE_COLLECTION, "checkpoint"), (HISTORY_COLLECTION, "1000-1")] {
        let stored: Collection<Document> = test.database.collection(collection);
        let mut expected = doc! { "_id": id };
        expected.extend(fields.clone());
        assert_eq!(stored.find_one(doc! {}).await.unwrap(), Some(expected));
        assert_eq!(stored.count_documents(doc! {}).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn the_other_documents_of_the_state_are_left_alone() {
    let test = TestDatabase::create().await;
    let state: Collection<Document> = test.database.collection(STATE_COLLECTION);
    state.insert_one(doc! { "_id": "lease", "term": 9_i64 }).await.unwrap();
    test.store().save(&checkpoint(1000, 3)).await.unwrap();
    test.store().clear().await.unwrap();
    let left = state.find_one(doc! {}).await.unwrap();
    assert_eq!(left, Some(doc! { "_id": "lease", "term": 9_i64 }));
}

#[tokio::test]
async fn a_garbled_checkpoint_is_an_error_that_says_where_and_what_and_can_be_replaced() {
    let test = TestDatabase::create().await;
    let state: Collection<Document> = test.database.collection(STATE_COLLECTION);
    for (field, garbled) in [("token", doc! { "_data": "xyz" }), ("term", doc! {}), ("cluster_time", doc! {})] {
        test.store().save(&checkpoint(1000, 3)).await.unwrap();
        state.update_one(doc! { "_id": "checkpoint" }, doc! { "$set": { field: garbled } }).await.unwrap();
        let error = test.store().load().await.unwrap_err();
        assert!(matches!(error, StoreError::Garbled { .. }), "{error:?}");
        let place = format!("the document `checkpoint` of `{}.{STATE_COLLECTION}`", test.database.name());
        assert!(error.to_string().contains(&place) && error.to_string().contains(field), "{error}");
        test.store().save(&checkpoint(1060, 3)).await.unwrap();
        assert_eq!(test.store().load().await.unwrap(), Some(checkpoint(1060, 3)));
    }
}

#[tokio::test]
async fn a_garbled_checkpoint_of_a_newer_term_still_refuses_an_older_one() {
    let test = TestDatabase::create().await;
    let state: Collection<Document> = test.database.collection(STATE_COLLECTION);
    // A double, as a shell writes it.
    state.insert_one(doc! { "_id": "checkpoint", "term": 8.0 }).await.unwrap();
    let refused = test.store().save(&checkpoint(1000, 7)).await;
    assert!(matches!(refused, Err(StoreError::NewerTerm { found: 8, ours: 7 })), "{refused:?}");
    test.store().save(&checkpoint(1000, 8)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_with_a_variable_that_the_server_cannot_compute() {
    let test = TestDatabase::create().await;
    test.store().save(&checkpoint(1000, 1)).await.unwrap();
    let mut store = test.store();
    store.set_variables(Some(doc! { "in_time": { "$toInt": "no" } }));
    assert!(store.save(&checkpoint(1060, 1)).await.is_err());
    assert!(store.remember(&checkpoint(1060, 1), DAY).await.is_err());
    assert!(store.clear().await.is_err());
    assert_eq!(store.load().await.unwrap(), Some(checkpoint(1000, 1)));
    assert!(store.history(10).await.unwrap().is_empty());
    store.set_variables(Some(doc! { "in_time": { "$toInt": "1" } }));
    store.save(&checkpoint(1060, 1)).await.unwrap();
    assert_eq!(store.load().await.unwrap(), Some(checkpoint(1060, 1)));
}

#[tokio::test]
async fn a_garbled_entry_does_not_hide_the_rest_of_the_history() {
    let test = TestDatabase::create().await;
    for second in [1000, 1060, 1120] {
        test.store().remember(&checkpoint(second, 1), DAY).await.unwrap();
    }
    let history: Collection<Document> = test.database.collection(HISTORY_COLLECTION);
    history.update_one(doc! { "_id": "1060-1" }, doc! { "$unset": { "token": 1 } }).await.unwrap();
    let ids: Vec<String> = test.store().history(2).await.unwrap().into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["1120-1", "1000-1"]);
    let error = test.store().find("1060-1").await.unwrap_err();
    assert!(matches!(error, StoreError::Garbled { .. }) && error.to_string().contains("`1060-1`"), "{error}");
}

#[tokio::test]
async fn the_order_of_the_history_has_an_index() {
    let test = TestDatabase::create().await;
    test.store().remember(&checkpoint(1000, 1), DAY).await.unwrap();
    let history: Collection<Document> = test.database.collection(HISTORY_COLLECTION);
    assert!(history.list_index_names().await.unwrap().contains(&"updated_at_-1_cluster_time_-1".to_owned()));
}

#[tokio::test]
async fn every_write_asks_for_a_majority_and_every_read_for_the_primary_whatever_the_client_says() {
    let commands: Arc<Mutex<Vec<Document>>> = Arc::default();
    let seen = Arc::clone(&commands);
    let mut options = ClientOptions::parse(TestServer::obtain().uri()).await.unwrap();
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Nodes(1)).build());
    let secondary = ReadPreference::Secondary { options: None };
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(secondary));
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event {
            seen.lock().unwrap().push(started.command);
        }
    }));
    let test = TestDatabase::with_client(&Client::with_options(options).unwrap());
    let store = test.store();
    store.save(&checkpoint(1000, 1)).await.unwrap();
    assert_eq!(commands.lock().unwrap().len(), 1, "a save is one command");
    store.remember(&checkpoint(1000, 1), DAY).await.unwrap();
    let old_worker = OldWorkerTokens::new(test.database.clone());
    old_worker.save("recruiters", &checkpoint(1000, 1).token, checkpoint(1000, 1).updated_at).await.unwrap();
    assert!(store.load().await.unwrap().is_some() && store.find("1000-1").await.unwrap().is_some());
    assert_eq!((store.history(1).await.unwrap().len(), old_worker.load().await.unwrap().tokens.len()), (1, 1));
    store.clear().await.unwrap();

    let commands = commands.lock().unwrap();
    let sent = |name| commands.iter().filter(move |command| command.contains_key(name));
    let writes: Vec<&Document> = sent("update").chain(sent("delete")).chain(sent("createIndexes")).collect();
    assert_eq!(writes.len(), 6, "{writes:?}");
    for write in writes {
        assert_eq!(write.get_document("writeConcern").ok(), Some(&doc! { "w": "majority" }), "{write}");
    }
    assert_eq!(sent("find").count(), 4);
}

#[tokio::test]
async fn a_save_that_no_majority_acknowledges_is_an_error() {
    let test = TestDatabase::create_named("resume_tokens_write_concern").await;
    // Makes the collection, so that the failpoint meets nothing but the save.
    test.store().save(&checkpoint(1000, 1)).await.unwrap();
    let failpoint = doc! {
        "configureFailPoint": "failCommand",
        "mode": { "times": 1 },
        "data": {
            "failCommands": ["update"],
            "appName": "resume_tokens_write_concern",
            "writeConcernError": { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting timed out" },
        },
    };
    test.database.client().database("admin").run_command(failpoint).await.unwrap();
    let error = test.store().save(&checkpoint(1060, 1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Mongo(error) if matches!(*error.kind, ErrorKind::Write(_))), "{error:?}");
    assert!(error.to_string().contains("not acknowledged by a majority: waiting timed out (code 64)"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_the_caller_can_classify() {
    let mut options = ClientOptions::parse("mongodb://127.0.0.1:1/").await.unwrap();
    options.server_selection_timeout = Some(Duration::from_millis(1));
    let database = Client::with_options(options).unwrap().database("nowhere");
    let error = Store::MongoDb(MongoStore::new(database)).load().await.unwrap_err();
    let StoreError::Mongo(source) = &error else { panic!("{error:?}") };
    assert!(matches!(*source.kind, ErrorKind::ServerSelection { .. }), "{source:?}");
}
