//! Checkpoints in files (spec 03, "Checkpoints"; `tokens.store = "files"`): everything that holds of those in MongoDB.

use std::fs;

use bson::doc;
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, passing, refuse};
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::stopped;
use crate::support::state::{end_lease, gaps, state, until_no_resync};
use crate::support::token_folder::Files;
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const RESYNCS: &str = "stream_processor_resyncs_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_in_a_file_can_be_read_and_a_killed_service_goes_on_from_it() {
    let test = TestDatabase::create("files_resume").await;
    let files = Files::of(&test);
    let [changed, left] = [recruiter([job("Boulanger")]), recruiter([job("Pâtissier")])];
    test.collection("recruiters").insert_many([&changed, &left]).await.unwrap();
    let mut processor = files.started(&test).await;
    until_no_resync(&test.database).await;
    files.settled(&test).await;
    assert_eq!(state(&test.database, "checkpoint").await, None, "it is outside the database");
    assert_readable(&files.checkpoint().unwrap());
    processor.sigkill();
    end_lease(&test.database).await;

    let email = doc! { "$set": { "email": "nouveau@example.com" } };
    test.collection("recruiters").update_one(doc! { "_id": id(&changed) }, email).await.unwrap();
    // A resync would repair it.
    let other = doc! { "$set": { "offer_title": "Écrit par un autre" } };
    test.collection("jobs_partners").update_one(doc! { "_id": first_job(&left) }, other).await.unwrap();
    let processor = files.started(&test).await;
    files.settled(&test).await;
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&changed)], "apply_email"), "nouveau@example.com");
    assert_eq!(text(&offers[&first_job(&left)], "offer_title"), "Écrit par un autre");
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0));
    let lines = fs::read_to_string(files.path("history.jsonl")).unwrap();
    let history: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(history.len() >= 2, "one copy for each run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_file_leads_to_a_resync_and_a_recorded_gap() {
    let test = TestDatabase::create("files_garbled").await;
    let files = Files::of(&test);
    let removed = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&removed).await.unwrap();
    let processor = files.started(&test).await;
    until_no_resync(&test.database).await;
    files.settled(&test).await;
    stopped(processor).await;
    test.collection("recruiters").delete_one(doc! { "_id": id(&removed) }).await.unwrap();
    let half = fs::read_to_string(files.path("json")).unwrap();
    fs::write(files.path("json"), &half[..half.len() / 2]).unwrap();

    let processor = files.started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(processor.metric(RESYNCS).await, Some(1.0));
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&removed)], "offer_status"), "Cancelled");
    let gaps = gaps(&test.database).await;
    let gaps: Vec<_> = gaps.iter().map(|gap| (text(gap, "cause"), text(gap, "state"))).collect();
    assert_eq!(gaps, [("garbled checkpoint", "repaired")]);
    files.settled(&test).await;
    assert_readable(&files.checkpoint().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_newer_term_is_never_overwritten_and_stops_the_writer() {
    let test = TestDatabase::create("files_term").await;
    let files = Files::of(&test);
    let processor = files.started(&test).await;
    files.settled(&test).await;
    let newer = {
        // Under the lock and renamed into its place, as another writer would.
        let lock = fs::File::open(files.path("lock")).unwrap();
        lock.lock().unwrap();
        let mut newer = files.checkpoint().unwrap();
        newer["term"] = 1_000.into();
        let aside = files.folder.path().join("aside");
        fs::write(&aside, newer.to_string()).unwrap();
        fs::rename(&aside, files.path("json")).unwrap();
        newer
    };
    eventually(PATIENCE, "it stops leading", async || {
        processor.metric("stream_processor_leader").await.filter(|leads| *leads == 0.0)
    })
    .await;
    assert_eq!(files.checkpoint().unwrap(), newer);
}

/// A file does not wait for a majority, as a checkpoint in the database does: what it says must hold by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_in_a_file_does_not_pass_a_write_that_no_majority_has() {
    let mut set = ReplicaSet::start(&Options { members: 3, ..Options::default() }).unwrap();
    set.wait_until_healthy().unwrap();
    let test = TestDatabase::create_on(&set.uri(), "files_majority").await;
    let files = Files::of(&test);
    let processor = files.started(&test).await;
    until_no_resync(&test.database).await;
    files.settled(&test).await;

    // The event is known to a majority, its writes will not be.
    refuse(&test.database, "update", "stream_processor_links", passing()).await;
    let newcomer = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&newcomer).await.unwrap();
    let event = cluster_time_now(&test.database).await;
    eventually(PATIENCE, "the event is being applied", async || {
        processor.metric("stream_processor_retries_total").await.filter(|retries| *retries > 0.0)
    })
    .await;
    let secondaries = secondaries(&set, &test).await;
    replication(&secondaries, "alwaysOn").await;
    mend(&test.database).await;
    // Each write waits for a majority in vain, and is then cut off: first the link's, then the offer's, then again.
    let mut passed = false;
    for _ in 0..4 {
        passed |= cut_off_a_write(&test, || files.time().unwrap() >= event).await;
    }
    // Before anything fails: what follows, even the end of the test, waits for a majority.
    replication(&secondaries, "off").await;
    assert!(!passed, "the checkpoint passed an event whose writes no majority has");

    files.settled(&test).await;
    assert!(offers::read(&test.database).await.contains_key(&first_job(&newcomer)));
    stopped(processor).await;
}

/// What a person or a script finds in the file.
fn assert_readable(checkpoint: &Value) {
    let fields: Vec<&str> = checkpoint.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = ["token", "cluster_time", "wall_time", "term", "fingerprint", "events", "updated_at", "history"];
    expected.sort_unstable();
    let mut fields = fields;
    fields.sort_unstable();
    assert_eq!(fields, expected);
    let data = checkpoint["token"]["_data"].as_str().unwrap();
    let token = resume_tokens::ResumeToken::parse(data).unwrap();
    assert_eq!(checkpoint["cluster_time"]["t"], token.cluster_time().time);
    assert!(bson::DateTime::parse_rfc3339_str(checkpoint["updated_at"].as_str().unwrap()).is_ok());
}

async fn secondaries(set: &ReplicaSet, test: &TestDatabase) -> Vec<mongodb::Database> {
    let admin = test.database.client().database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
    let primary = hello.get_str("primary").unwrap();
    let uri = set.uri();
    let hosts = uri.trim_start_matches("mongodb://").split('/').next().unwrap().split(',');
    let mut secondaries = Vec::new();
    for host in hosts.filter(|host| *host != primary) {
        let uri = format!("mongodb://{host}/?directConnection=true");
        secondaries.push(mongodb::Client::with_uri_str(uri).await.unwrap().database("admin"));
    }
    secondaries
}

/// Stops replication while the members still see each other (MongoDB's failpoint `stopReplProducer`).
async fn replication(secondaries: &[mongodb::Database], mode: &str) {
    for secondary in secondaries {
        secondary.run_command(doc! { "configureFailPoint": "stopReplProducer", "mode": mode }).await.unwrap();
    }
}

/// Waits until the service waits for a majority, and cuts it off. True if `passed` is so first.
async fn cut_off_a_write(test: &TestDatabase, passed: impl Fn() -> bool) -> bool {
    let admin = test.database.client().database("admin");
    // Neither a read nor a `getMore`: those are `op`s of their own.
    let namespace = format!("{}.$cmd", test.name());
    let of_the_service = doc! { "currentOp": true, "appName": "stream-processor", "ns": namespace, "op": "command" };
    let waiting = async || {
        let operations = admin.run_command(of_the_service.clone()).await.unwrap();
        let first = operations.get_array("inprog").unwrap().first()?.as_document().unwrap();
        first.get("opid").cloned()
    };
    let operation = eventually(PATIENCE, "a write waits for a majority", async || {
        if passed() { Some(None) } else { waiting().await.map(Some) }
    })
    .await;
    let Some(operation) = operation else { return true };
    admin.run_command(doc! { "killOp": 1, "op": operation.clone() }).await.unwrap();
    eventually(PATIENCE, "it is cut off", async || (waiting().await.as_ref() != Some(&operation)).then_some(())).await;
    false
}
