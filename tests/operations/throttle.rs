//! The throttle: a ceiling that an operator orders while the service runs, and slower work while the server is under pressure.

use bson::{DateTime, Document, doc};
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

/// With one write a second, the backfill would take ten minutes.
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
    assert_eq!(order(&test, "1").await, 1);
    stopped(processor).await;
    // The order outlasts the instance.
    let processor = started(&test).await;
    let mut backfill = Processor::spawn(&["backfill"], &test, &[]);
    let wrong = async || offers.count_documents(doc! { "offer_title": "wrong" }).await.unwrap();
    eventually(PATIENCE, "the backfill writes", async || (wrong().await < 600).then_some(())).await;
    let last = all.iter().max_by_key(|recruiter| id(recruiter)).unwrap();
    for number in 0..8 {
        let title = format!("Chocolatier {number}");
        let renamed = doc! { "$set": { "jobs.0.offer_title_custom": &title, "updatedAt": DateTime::now() } };
        test.collection("recruiters").update_one(doc! { "_id": id(last) }, renamed).await.unwrap();
        settled(&test.database).await;
        let found = offers.find_one(doc! { "offer_title": &title }).await.unwrap();
        assert!(found.is_some(), "the stream is not held up");
    }
    assert!(wrong().await > 450, "{} are left", wrong().await);
    assert_eq!(status(&test).await["ordered_max_writes_per_second"], 1);
    eventually(PATIENCE, "the metric has the ceiling", async || {
        (processor.metric("stream_processor_throttle_max_writes_per_second").await? == 1.0).then_some(())
    })
    .await;

    assert_eq!(order(&test, "off").await, Value::Null);
    assert_eq!(backfill.until_ended().await.code, 0);
    assert_eq!(wrong().await, 0);
    let events = Processor::command(&["events", "--ndjson", "--kind", "throttled"], &test, &[]).await.stdout;
    assert!(events.lines().count() == 2 && !events.contains(PERSONAL), "{events}");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_slowed_while_writes_are_slow_and_everybody_is_told() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "throttle_slowed").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let limit = ("STREAM_PROCESSOR__THROTTLE__MAX_WRITE_LATENCY", "2s");
    let processor = started_with(&test, &[limit]).await;
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
