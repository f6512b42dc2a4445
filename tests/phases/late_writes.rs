//! What is still written to `recruiters` after the step to `retired` (spec 10, "After `retired`"): it is counted once,
//! told everywhere, also after a restart, and a dropped collection ends the watch without harm.

use bson::{Document, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{settled, state, until_no_resync, writes};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const SHADOW: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "shadow");
const LAST: &str = "stream_processor_late_source_write_timestamp_seconds";

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_is_counted_once_and_told_and_a_dropped_collection_ends_the_watch() {
    let test = TestDatabase::create("late_writes").await;
    let [known, other] = [(); 2].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_one(&known).await.unwrap();
    let processor = started_with(&test, &[SHADOW]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    touch(&test, &known).await;
    force(&test, "retired").await;
    eventually(PATIENCE, "the watch begins, and the writes of before are none", async || {
        (processor.metric(LAST).await? == 0.0).then_some(())
    })
    .await;
    assert_eq!(counted(&test).await["total"], 0);
    let began = cluster_time_now(&test.database).await;
    touch(&test, &known).await;
    eventually(PATIENCE, "the write is counted", async || (counted(&test).await["total"] == 1).then_some(())).await;
    let seen = |operation| format!("stream_processor_late_source_writes_total{{operation=\"{operation}\"}}");
    assert_eq!(processor.metric(&seen("update")).await, Some(1.0));
    assert!(processor.metric(LAST).await.unwrap() > 0.0);
    stopped(processor).await;

    // Nobody watches, and the next instance finds it.
    test.collection("recruiters").insert_one(&other).await.unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(&known) }).await.unwrap();
    let processor = started(&test).await;
    eventually(PATIENCE, "the others are counted", async || (counted(&test).await["total"] == 3).then_some(())).await;
    let late = counted(&test).await;
    assert_eq!(late["by_operation"], serde_json::json!({ "delete": 1, "insert": 1, "update": 1 }));
    assert_eq!([&late["last"][0]["id"], &late["last"][1]["id"]], [&hex(&known), &hex(&other)]);
    assert_eq!(processor.metric(&seen("update")).await, Some(0.0), "a write counts once");
    for command in [&["phase", "show"][..], &["status"]] {
        let shown = Processor::command(command, &test, &[]).await.stdout;
        let told = shown.contains("3 writes to recruiters") && shown.contains(&id(&other).to_hex());
        assert!(told && !shown.contains(PERSONAL), "{shown}");
    }
    eventually(PATIENCE, "page and API tell", async || {
        let (_, status) = processor.http_get("/api/status").await;
        let status: Value = serde_json::from_str(&status).unwrap();
        let (_, page) = processor.http_get("/").await;
        let told = status["service"]["late_writes"]["total"] == 3 && page.contains(&id(&other).to_hex());
        told.then_some(())
    })
    .await;

    test.collection("recruiters").drop().await.unwrap();
    eventually(PATIENCE, "the watch ends", async || {
        state(&test.database, "late_writes").await?.get_document("ended").is_ok().then_some(())
    })
    .await;
    settled(&test.database).await;
    assert_eq!(processor.http_get("/readyz").await.0, 200);
    assert!(Processor::command(&["phase", "show"], &test, &[]).await.stdout.contains("recruiters is gone since"));
    stopped(processor).await;
    assert!(writes(&test.database, "jobs_partners", began).await.is_empty());
}

/// Changes a recruiter, each time in another way.
async fn touch(test: &TestDatabase, recruiter: &Document) {
    let recruiters = test.collection("recruiters");
    let changed = recruiters.update_one(doc! { "_id": id(recruiter) }, doc! { "$inc": { "n": 1 } });
    assert_eq!(changed.await.unwrap().modified_count, 1);
}

async fn force(test: &TestDatabase, to: &str) {
    let arguments = ["phase", "set", to, "--force", "--reason", "a test"];
    let step = Processor::command(&arguments, test, &[]).await;
    assert_eq!(step.code, 0, "{}", step.stderr);
}

/// The late writes as `phase show` has them.
async fn counted(test: &TestDatabase) -> Value {
    let shown = Processor::command(&["phase", "show", "--json"], test, &[]).await;
    serde_json::from_str::<Value>(&shown.stdout).unwrap()["late_writes"].clone()
}

fn hex(recruiter: &Document) -> Value {
    id(recruiter).to_hex().into()
}
