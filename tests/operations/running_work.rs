//! The work that runs now: `status`, `/api/status` and the page tell the same, with percent and time left.

use bson::{DateTime, doc, oid::ObjectId};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::until_no_resync;
use crate::support::ticking::ON;
use crate::support::waiting::{PATIENCE, eventually};

const WORKS: [(&str, u64); 3] = [("first fill, stage recruiters", 75), ("backfill-selected", 25), ("job verify", 50)];

/// On an instance that does not lead, so that what the test stores stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_by_everyone_with_percent_and_time_left() {
    let test = TestDatabase::create("running_work").await;
    store_running_work(&test).await;
    let standby = Processor::start_ready(&test, &[]).await;
    eventually(PATIENCE, "everyone tells it", async || {
        let api: Value = serde_json::from_str(&standby.http_get("/api/status").await.1).unwrap();
        let ended = Processor::command(&["status", "--json"], &test, &[]).await;
        let status: Value = serde_json::from_str(&ended.stdout).unwrap();
        let page = standby.http_get("/").await.1;
        let told = |running: &Value| {
            WORKS.iter().enumerate().all(|(at, (what, percent))| {
                let work = &running[at];
                work["what"] == *what && work["percent"] == *percent && work["seconds_left"].is_u64()
            })
        };
        let is_on_page = WORKS
            .iter()
            .all(|(what, percent)| page.contains(&format!("max=\"100\" value=\"{percent}\" aria-label=\"{what}\"")));
        (told(&api["service"]["running"]) && told(&status["running"]) && is_on_page).then_some(())
    })
    .await;

    let now = DateTime::now();
    let pause =
        doc! { "_id": "pause", "since": now, "limit_at": now, "who": "x", "reason": "y", "command": ObjectId::new() };
    test.collection("stream_processor_state").insert_one(pause).await.unwrap();
    eventually(PATIENCE, "everyone tells that it is held up", async || {
        let api: Value = serde_json::from_str(&standby.http_get("/api/status").await.1).unwrap();
        let ended = Processor::command(&["status", "--json"], &test, &[]).await;
        let status: Value = serde_json::from_str(&ended.stdout).unwrap();
        let page = standby.http_get("/").await.1;
        let is_held_up = |running: &Value| {
            let works = running.as_array().unwrap();
            works.len() == WORKS.len()
                && works.iter().all(|work| work["held_up"] == true && work["seconds_left"].is_null())
        };
        let all = is_held_up(&api["service"]["running"]) && is_held_up(&status["running"]);
        (all && page.matches(", held up").count() == WORKS.len()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_verify_tells_the_ledger_how_far_it_is() {
    let test = TestDatabase::create("running_verify").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let ended = Processor::command(&["jobs", "run", "verify"], &test, &[ON]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let runs = test.collection("stream_processor_job_runs");
    let told = runs.find_one(doc! { "job": "verify", "part_of": { "$gt": 0 } }).await.unwrap();
    assert!(told.is_some(), "the length is known");
    stopped(processor).await;
}

/// Stores a first fill, a command and a run of a time-based job that began a minute ago, under the lease of an instance that
/// is not there.
async fn store_running_work(test: &TestDatabase) {
    let recruiters: Vec<_> = (0..4).map(|_| recruiter([])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let now = DateTime::now().timestamp_millis();
    let minute_ago = DateTime::from_millis(now - 60_000);
    let later = DateTime::from_millis(now + 600_000);
    let mut ids: Vec<ObjectId> = recruiters.iter().map(|recruiter| recruiter.get_object_id("_id").unwrap()).collect();
    ids.sort();
    let states = test.collection("stream_processor_state");
    let held = doc! { "_id": "lease", "holder": "nobody/1/0", "term": 1_i64, "expires_at": later };
    let fill = doc! {
        "_id": "resync", "cause": "first start", "stage": "recruiters", "after": ids[2], "began": minute_ago,
        "id": ObjectId::new(), "term": 1_i64,
    };
    states.insert_many([held, fill]).await.unwrap();
    let command = doc! {
        "order": { "name": "backfill-selected", "filter": "{}", "active_only": false }, "state": "running", "who": "x",
        "requested_at": minute_ago, "progress": { "recruiters": 1_i64 }, "term": 1_i64,
    };
    test.collection("stream_processor_commands").insert_one(command).await.unwrap();
    let run = doc! {
        "job": "verify", "started": minute_ago, "scheduled_for": minute_ago, "outcome": null, "part_done": 1_i64,
        "part_of": 2_i64,
    };
    test.collection("stream_processor_job_runs").insert_one(run).await.unwrap();
}
