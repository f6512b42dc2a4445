//! A checkpoint means nothing in another history than its own (a restored or copied database, another cluster): whatever
//! its token looks like there, what happened is unknown, so there is a gap, and everything is looked at again.

use std::fs;

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{Client, Database};
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{checkpoint, end_lease, gaps, settled, state, until_no_resync};
use crate::support::token_folder::Files;
use crate::support::waiting::cluster_time_now;

const RESYNCS: &str = "stream_processor_resyncs_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_of_no_use_when_its_database_was_restored_from_a_backup() {
    let test = TestDatabase::create("history_restored").await;
    let files = Files::of(&test);
    let gone = settle_with_files(&test, &files).await;
    let backup = Backup::of(&test.database).await;
    let processor = files.started(&test).await;
    test.collection("recruiters").insert_one(recruiter([job("Vendeur")])).await.unwrap();
    files.settled(&test).await;
    stopped(processor).await;
    let lost = files.time().unwrap();

    test.database.drop().await.unwrap();
    backup.without(&gone).restore(&test.database).await;
    let processor = files.started(&test).await;
    assert_repaired(&test, &processor, &gone).await;
    assert_eq!(gaps(&test.database).await[0].get_timestamp("from").unwrap(), lost);
    files.settled(&test).await;
    stopped(processor).await;
    let processor = files.started(&test).await;
    files.settled(&test).await;
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0), "the new checkpoint is good");
}

/// A copy of the server's own files brings the same collections back, as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_of_no_use_when_it_is_later_than_the_server_remembers() {
    for remembers in [true, false] {
        let test = TestDatabase::create("history_snapshot").await;
        let files = Files::of(&test);
        let gone = settle_with_files(&test, &files).await;
        let position = state(&test.database, "position").await.unwrap();
        assert!(position.get_timestamp("cluster_time").unwrap() >= files.time().unwrap());
        let processor = files.started(&test).await;
        test.collection("recruiters").delete_one(doc! { "_id": id(&gone) }).await.unwrap();
        test.collection("recruiters").insert_one(recruiter([job("Vendeur")])).await.unwrap();
        files.settled(&test).await;
        stopped(processor).await;

        let states = test.collection("stream_processor_state");
        states.delete_one(doc! { "_id": "position" }).await.unwrap();
        if remembers {
            states.insert_one(position).await.unwrap();
        }
        let back = doc! { "$set": { "offer_status": "Active" } };
        test.collection("jobs_partners").update_one(doc! { "_id": first_job(&gone) }, back).await.unwrap();
        let link = doc! { "_id": id(&gone), "jobs": [first_job(&gone)] };
        test.collection("stream_processor_links").insert_one(link).await.unwrap();
        let processor = files.started(&test).await;
        assert_repaired(&test, &processor, &gone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_of_no_use_in_another_cluster_with_the_same_names() {
    // Older than the checkpoint, so that it would take the token.
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create("history_cluster").await;
    let database = Client::with_uri_str(set.uri()).await.unwrap().database(test.name());
    let other = TestDatabase { uri: set.uri(), database };
    other.collection("ballast").insert_one(doc! {}).await.unwrap();
    let files = Files::of(&test);
    let gone = settle_with_files(&test, &files).await;
    Backup::of(&test.database).await.without(&gone).restore(&other.database).await;

    let processor = files.started(&other).await;
    assert_repaired(&other, &processor, &gone).await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_of_no_use_in_a_copy_of_its_database() {
    let test = TestDatabase::create("history_original").await;
    let gone = settle(&test).await;
    let copy = TestDatabase::create("history_copy").await;
    Backup::of(&test.database).await.without(&gone).restore(&copy.database).await;

    let processor = started(&copy).await;
    assert_repaired(&copy, &processor, &gone).await;
    stopped(processor).await;
    let history = checkpoint(&copy.database).await.get_document("history").unwrap().clone();
    assert_eq!(text(&history, "database"), copy.name());
}

/// Nothing but the collections are new, and their names and the server are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_of_no_use_in_a_database_that_was_restored_with_it() {
    let test = TestDatabase::create("history_restored_with").await;
    let gone = settle(&test).await;
    let backup = Backup::of(&test.database).await.without(&gone);
    test.database.drop().await.unwrap();
    backup.restore(&test.database).await;

    let processor = started(&test).await;
    assert_repaired(&test, &processor, &gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_version_1_0_0_is_good_and_is_bound_by_the_next_save() {
    let test = TestDatabase::create("history_old").await;
    settle(&test).await;
    let states = test.collection("stream_processor_state");
    states.update_one(doc! { "_id": "checkpoint" }, doc! { "$unset": { "history": "" } }).await.unwrap();
    let processor = started(&test).await;
    settled(&test.database).await;
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0));
    assert!(checkpoint(&test.database).await.get_document("history").is_ok());
    stopped(processor).await;

    let test = TestDatabase::create("history_old_file").await;
    let files = Files::of(&test);
    settle_with_files(&test, &files).await;
    let mut old = files.checkpoint().unwrap();
    old.as_object_mut().unwrap().remove("history");
    fs::write(files.path("json"), old.to_string()).unwrap();
    test.collection("stream_processor_state").delete_one(doc! { "_id": "position" }).await.unwrap();
    let processor = files.started(&test).await;
    files.settled(&test).await;
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0));
    assert_eq!(files.checkpoint().unwrap()["history"]["database"], test.name());
    stopped(processor).await;
}

/// Killed between the two: the server knows of a save that the file has not seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_one_save_behind_the_server_is_good() {
    let test = TestDatabase::create("history_behind").await;
    let files = Files::of(&test);
    settle_with_files(&test, &files).await;
    let behind = fs::read(files.path("json")).unwrap();
    let mut processor = files.started(&test).await;
    files.settled(&test).await;
    processor.sigkill();
    end_lease(&test.database).await;
    fs::write(files.path("json"), behind).unwrap();

    let processor = files.started(&test).await;
    files.settled(&test).await;
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0));
    assert!(gaps(&test.database).await.is_empty());
}

/// A run in which two recruiters are projected; the second is given back.
async fn settle(test: &TestDatabase) -> Document {
    let gone = insert_two(test).await;
    let processor = started(test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    gone
}

async fn settle_with_files(test: &TestDatabase, files: &Files) -> Document {
    let gone = insert_two(test).await;
    let processor = files.started(test).await;
    until_no_resync(&test.database).await;
    files.settled(test).await;
    stopped(processor).await;
    gone
}

async fn insert_two(test: &TestDatabase) -> Document {
    let gone = recruiter([job("Pâtissier")]);
    test.collection("recruiters").insert_many([&recruiter([job("Boulanger")]), &gone]).await.unwrap();
    gone
}

async fn assert_repaired(test: &TestDatabase, processor: &Processor, gone: &Document) {
    until_no_resync(&test.database).await;
    assert_eq!(processor.metric(RESYNCS).await, Some(1.0));
    let told: Vec<(String, String)> = gaps(&test.database)
        .await
        .iter()
        .map(|gap| (text(gap, "cause").to_owned(), text(gap, "state").to_owned()))
        .collect();
    assert_eq!(told, [("another history".to_owned(), "repaired".to_owned())]);
    let gap = &gaps(&test.database).await[0];
    assert!(gap.get_timestamp("to").unwrap() <= cluster_time_now(&test.database).await);
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(gone)], "offer_status"), "Cancelled");
}

/// Everything that a database holds.
struct Backup(Vec<(String, Vec<Document>)>);

impl Backup {
    async fn of(database: &Database) -> Self {
        let mut collections = Vec::new();
        for name in database.list_collection_names().await.unwrap() {
            let found = database.collection::<Document>(&name).find(doc! {}).await.unwrap();
            collections.push((name, found.try_collect().await.unwrap()));
        }
        Self(collections)
    }

    /// As if this recruiter had been deleted before, unseen.
    fn without(mut self, recruiter: &Document) -> Self {
        for (name, documents) in &mut self.0 {
            if name == "recruiters" {
                documents.retain(|document| document.get("_id") != Some(&Bson::ObjectId(id(recruiter))));
            }
        }
        self
    }

    async fn restore(&self, database: &Database) {
        for (name, documents) in self.0.iter().filter(|(_, documents)| !documents.is_empty()) {
            database.collection::<Document>(name).insert_many(documents).await.unwrap();
        }
    }
}
