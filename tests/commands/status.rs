//! The command `status` (spec 06): what the service keeps about itself, on one screen.

use bson::{DateTime, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_what_is_there_and_what_is_not() {
    let test = TestDatabase::create("status").await;
    let before = status(&test).await;
    assert_eq!((&before["leader"], &before["position"]), (&Value::Null, &Value::Null));
    assert_eq!(before["phase"], "sync");

    let processor = started(&test).await;
    let broken = recruiter([with(job("Boulanger"), doc! { "job_status": "?" })]);
    test.collection("recruiters").insert_one(broken).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    let runs = test.collection("stream_processor_job_runs");
    for (started, outcome) in [(1_000, "failed"), (2_000, "done")] {
        let run = doc! { "job": "retry-dead-letters", "scheduled_for": DateTime::from_millis(started), "outcome": outcome, "changed": 3 };
        runs.insert_one(run).await.unwrap();
    }
    let gap = doc! { "state": "open" };
    test.collection("stream_processor_gaps").insert_one(gap).await.unwrap();
    let found = eventually(PATIENCE, "the leader tells its lag", async || {
        let found = status(&test).await;
        found["leader"]["lag_seconds"].is_f64().then_some(found)
    })
    .await;
    assert_eq!(
        (&found["dead_letters"]["unknown_job_status"], &found["open_gaps"]),
        (&1.into(), &1.into()),
        "{found:#}"
    );
    assert_eq!((&found["jobs"][0]["outcome"], &found["jobs"][0]["changed"]), (&"done".into(), &3.into()), "{found:#}");
    assert!(found["leader"]["last_heard_seconds"].is_u64(), "{found:#}");
    assert_eq!(found["verdict"]["state"], "resyncing", "an open gap is not green: {found:#}");
    let position = &found["position"];
    assert_eq!(position["in_oplog"], true, "{position:#}");
    assert_eq!(position["oplog_is_young"], true, "{position:#}");
    assert!(
        position["headroom_seconds"].is_null() && position["events"].is_u64(),
        "a guess is no number: {position:#}"
    );
    assert!(found["events_per_second"].is_number(), "{found:#}");
    stopped(processor).await;
    assert_eq!(status(&test).await["leader"], Value::Null);
}

/// Until it is told to end, which is how one leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_watched_status_is_told_again_and_again_without_the_signs_of_a_terminal() {
    let test = TestDatabase::create("status_watch").await;
    let mut watching = Processor::spawn(&["status", "--watch", "--ndjson"], &test, &[]);
    eventually(PATIENCE, "two of them", async || (watching.stdout().lines().count() >= 2).then_some(())).await;
    watching.sigterm();
    let ended = watching.until_ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for line in ended.stdout.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    assert!(!ended.stdout.contains('\u{1b}'));
}

async fn status(test: &TestDatabase) -> Value {
    let ended = Processor::command(&["status", "--json"], test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
