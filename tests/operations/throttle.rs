//! The throttle: a ceiling that an operator orders while the service runs, and slower work while the server is under pressure.

use bson::{DateTime, Document, doc};
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{end_lease, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const LIMIT: (&str, &str) = ("STREAM_PROCESSOR__THROTTLE__MAX_WRITE_LATENCY", "2s");

/// With ten writes a second, the backfill takes a minute. Without a ceiling it would be done before the edits are.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_holds_a_backfill_up_and_not_the_stream_until_it_is_taken_back() {
    let test = TestDatabase::create("throttle_ceiling").await;
    let all: Vec<Document> = (0..600).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let offers = test.collection("jobs_partners");
    offers.update_many(doc! {}, doc! { "$set": { "offer_title": "wrong" } }).await.unwrap();
    assert_eq!(order(&test, "10").await, 10);
    stopped(processor).await;
    // The order outlasts the instance.
    let processor = started(&test).await;
    let mut backfill = Processor::spawn(&["backfill"], &test, &[]);
    let wrong = async || offers.count_documents(doc! { "offer_title": "wrong" }).await.unwrap();
    eventually(PATIENCE, "the backfill writes", async || (wrong().await < 600).then_some(())).await;
    let last = all.iter().max_by_key(|recruiter| id(recruiter)).unwrap();
    for number in 0..30 {
        let title = format!("Chocolatier {number}");
        let renamed = doc! { "$set": { "jobs.0.offer_title_custom": &title, "updatedAt": DateTime::now() } };
        test.collection("recruiters").update_one(doc! { "_id": id(last) }, renamed).await.unwrap();
        settled(&test.database).await;
        let found = offers.find_one(doc! { "offer_title": &title }).await.unwrap();
        assert!(found.is_some(), "the stream is not held up");
    }
    assert!(wrong().await > 300, "{} are left", wrong().await);
    assert_eq!(status(&test).await["ordered_max_writes_per_second"], 10);
    eventually(PATIENCE, "the metric has the ceiling", async || {
        (processor.metric("stream_processor_throttle_max_writes_per_second").await? == 10.0).then_some(())
    })
    .await;

    assert_eq!(order(&test, "off").await, Value::Null);
    assert_eq!(backfill.until_ended().await.code, 0);
    assert_eq!(wrong().await, 0);
    let events = Processor::command(&["events", "--ndjson", "--kind", "throttled"], &test, &[]).await.stdout;
    assert!(events.lines().count() == 2 && !events.contains(PERSONAL), "{events}");
    assert!(events.lines().last().unwrap().contains("\"off\":true"), "{events}");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_slowed_while_writes_are_slow_and_everybody_is_told() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "throttle_slowed").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    // The canary is too rare to be a measure.
    let canary = ("STREAM_PROCESSOR__STREAM__CANARY_INTERVAL", "10m");
    let processor = started_with(&test, &[LIMIT, canary]).await;
    until_no_resync(&test.database).await;
    failpoints::freeze(&test.database, &["update"], 3_000).await;
    let slowed = "stream_processor_slowed{pressure=\"write_latency\"}";
    eventually(PATIENCE, "it is slowed", async || (processor.metric(slowed).await? == 1.0).then_some(())).await;
    eventually(PATIENCE, "everybody is told", async || {
        let (_, told) = processor.http_get("/api/status").await;
        let told: Value = serde_json::from_str(&told).unwrap();
        let is_told = |text: &Value| text.as_str().is_some_and(|text| text.starts_with("slowed: write latency "));
        let service = &told["service"];
        (is_told(&service["slowed"]) && is_told(&status(&test).await["slowed"])).then_some(())
    })
    .await;
    failpoints::mend(&test.database).await;
    eventually(PATIENCE, "it is over", async || (processor.metric(slowed).await? == 0.0).then_some(())).await;
    eventually(PATIENCE, "the end is told", async || {
        let events = Processor::command(&["events", "--ndjson"], &test, &[]).await.stdout;
        (events.contains("\"slowed\"") && events.contains("\"slowed_ended\"")).then_some(())
    })
    .await;
    assert_eq!(status(&test).await["slowed"], Value::Null);
    stopped(processor).await;
}

/// With ten writes a second, the replay takes half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_holds_a_replay_up() {
    let test = TestDatabase::create("throttle_replay").await;
    let all: Vec<Document> = (0..300).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let from = DateTime::now().try_to_rfc3339_string().unwrap();
    let offers = test.collection("jobs_partners");
    offers.update_many(doc! {}, doc! { "$set": { "offer_title": "wrong" } }).await.unwrap();
    assert_eq!(order(&test, "10").await, 10);
    let mut replay = Processor::spawn(&["replay", "--from", &from], &test, &[]);
    let wrong = async || offers.count_documents(doc! { "offer_title": "wrong" }).await.unwrap();
    eventually(PATIENCE, "the replay writes", async || (wrong().await < 300).then_some(())).await;
    for _ in 0..30 {
        edited(&test, &all[299..]).await;
    }
    assert!(wrong().await > 100, "{} are left", wrong().await);
    assert_eq!(order(&test, "off").await, Value::Null);
    assert_eq!(replay.until_ended().await.code, 0);
    assert_eq!(wrong().await, 0);
    stopped(processor).await;
}

/// With ten writes a second, the job takes half a minute. Without a ceiling it would be done before the edits are.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_holds_a_time_based_job_up() {
    let test = TestDatabase::create("throttle_job").await;
    let past = DateTime::from_millis(1_700_000_000_000);
    let expired = || with(job("Boulanger"), doc! { "job_expiration_date": past });
    let all: Vec<Document> = (0..300).map(|_| recruiter([expired()])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let offers = test.collection("jobs_partners");
    let active = async || offers.count_documents(doc! { "offer_status": "Active" }).await.unwrap();
    assert_eq!(active().await, 300);
    assert_eq!(order(&test, "10").await, 10);
    let mut run = Processor::spawn(&["jobs", "run", "cancel-expired-offers"], &test, &[]);
    eventually(PATIENCE, "the job writes", async || (active().await < 300).then_some(())).await;
    for _ in 0..30 {
        edited(&test, &all[299..]).await;
    }
    assert!(active().await > 100, "{} are left", active().await);
    assert_eq!(order(&test, "off").await, Value::Null);
    assert_eq!(run.until_ended().await.code, 0);
    assert_eq!(active().await, 0);
    stopped(processor).await;
}

/// The stream alone writes more than the ceiling.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_ends_under_a_ceiling_although_the_stream_uses_it_up() {
    let test = TestDatabase::create("throttle_share").await;
    let all: Vec<Document> = (0..20).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let offers = test.collection("jobs_partners");
    let some: Vec<_> = all[..4]
        .iter()
        .map(|recruiter| recruiter.get_array("jobs").unwrap()[0].as_document().unwrap().get("_id").unwrap())
        .collect();
    offers.update_many(doc! { "_id": { "$in": some } }, doc! { "$set": { "offer_title": "wrong" } }).await.unwrap();
    assert_eq!(order(&test, "2").await, 2);
    for _ in 0..3 {
        edited(&test, &all[10..]).await;
    }
    let mut backfill = Processor::spawn(&["backfill"], &test, &[]);
    eventually(PATIENCE, "the backfill ends", async || {
        edited(&test, &all[10..]).await;
        (!backfill.is_running()).then_some(())
    })
    .await;
    assert_eq!(backfill.until_ended().await.code, 0);
    assert_eq!(offers.count_documents(doc! { "offer_title": "wrong" }).await.unwrap(), 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_leader_is_slowed_too() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "throttle_alone").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let offers = test.collection("jobs_partners");
    offers.update_many(doc! {}, doc! { "$set": { "offer_title": "wrong" } }).await.unwrap();
    failpoints::freeze(&test.database, &["update"], 3_000).await;
    let mut backfill = Processor::spawn(&["backfill"], &test, &[LIMIT]);
    until_slowed(&test).await;
    failpoints::mend(&test.database).await;
    let ended = backfill.until_ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!((told(&test, "slowed").await, told(&test, "slowed_ended").await), (1, 1));
    assert_eq!(status(&test).await["slowed"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slowed_time_ends_with_its_leadership() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "throttle_ended").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let mut killed = started_with(&test, &[LIMIT]).await;
    until_no_resync(&test.database).await;
    failpoints::freeze(&test.database, &["update"], 3_000).await;
    until_slowed(&test).await;
    killed.sigkill();
    failpoints::mend(&test.database).await;
    end_lease(&test.database).await;
    assert_eq!(status(&test).await["slowed"], Value::Null, "nobody slows anything");
    let processor = started_with(&test, &[LIMIT]).await;
    eventually(PATIENCE, "the next leader tells it", async || (told(&test, "slowed_ended").await == 1).then_some(()))
        .await;

    failpoints::freeze(&test.database, &["update"], 3_000).await;
    until_slowed(&test).await;
    failpoints::mend(&test.database).await;
    stopped(processor).await;
    assert_eq!(told(&test, "slowed_ended").await, 2);
}

/// Edits the recruiters, and waits until the stream has written their offers.
async fn edited(test: &TestDatabase, recruiters: &[Document]) {
    let title = format!("Chocolatier {}", bson::oid::ObjectId::new());
    let renamed = doc! { "$set": { "jobs.0.offer_title_custom": title, "updatedAt": DateTime::now() } };
    let ids: Vec<_> = recruiters.iter().map(id).collect();
    test.collection("recruiters").update_many(doc! { "_id": { "$in": ids } }, renamed).await.unwrap();
    settled(&test.database).await;
}

async fn until_slowed(test: &TestDatabase) {
    eventually(PATIENCE, "it is slowed", async || status(test).await["slowed"].is_string().then_some(())).await;
}

/// The number of stored events of this kind.
async fn told(test: &TestDatabase, kind: &str) -> u64 {
    test.collection("stream_processor_events").count_documents(doc! { "kind": kind }).await.unwrap()
}

/// Gives the command, and returns the ceiling that is then in force.
async fn order(test: &TestDatabase, ceiling: &str) -> Value {
    let ended = Processor::command(&["throttle", ceiling, "--reason", PERSONAL, "--json"], test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str::<Value>(&ended.stdout).unwrap()["max_writes_per_second"].clone()
}

async fn status(test: &TestDatabase) -> Value {
    let shown = Processor::command(&["status", "--json"], test, &[]).await;
    serde_json::from_str(&shown.stdout).unwrap()
}
