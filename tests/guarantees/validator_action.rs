//! What a validator of `jobs_partners` does is told: its action, a change of the action, and the fields for which it
//! refused an offer.

use std::time::Duration;

use bson::doc;
use serde_json::Value;
use xtask::golden::{TargetModel, put_target_validator};

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::until_no_resync;
use crate::support::waiting::{PATIENCE, eventually};

async fn said(test: &TestDatabase, arguments: &[&str]) -> String {
    let ended = Processor::command(arguments, test, &[]).await;
    ended.stdout + &ended.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_is_put_back_with_the_action_error_is_told() {
    let test = TestDatabase::with_live_schema("validator_action").await;
    put_target_validator(&test.database, TargetModel::Planned, "warn").await.unwrap();
    let accepts = "the server accepts an offer that does not match it";
    let refuses = "action error: the server refuses an offer that does not match it";
    for command in [&["doctor"][..], &["setup"]] {
        let told = said(&test, command).await;
        assert!(told.contains(accepts) && !told.contains(refuses), "{told}");
    }
    let processor = started_with(&test, &[("STREAM_PROCESSOR__TARGET__SCHEMA_CHECK_INTERVAL", "1s")]).await;
    until_no_resync(&test.database).await;
    put_target_validator(&test.database, TargetModel::Planned, "error").await.unwrap();
    let change = "has the action error in place of warn";
    eventually(Duration::from_secs(60), change, async || processor.stderr().contains(change).then_some(())).await;
    let events = test.collection("stream_processor_events");
    eventually(PATIENCE, "the event", async || {
        let of_action = doc! { "kind": "schema_changed", "change": { "$regex": change } };
        events.find_one(of_action).await.unwrap()
    })
    .await;
    for command in [&["doctor"][..], &["setup", "--dry-run"]] {
        let told = said(&test, command).await;
        assert!(told.contains(refuses) && !told.contains(accepts), "{told}");
    }
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_a_refused_offer_names_the_fields_and_no_value() {
    let test = TestDatabase::create("validator_fields").await;
    let schema = doc! { "required": ["never_written"], "properties": {
        "offer_title": { "enum": ["another"] },
    } };
    let create = doc! { "create": "jobs_partners", "validator": { "$jsonSchema": schema } };
    test.database.run_command(create).await.unwrap();
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    said(&test, &["backfill"]).await;
    let listed = Processor::command(&["dead-letters", "list", "--json"], &test, &[]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = listed["dead_letters"][0]["id"].as_str().unwrap();
    let shown = said(&test, &["dead-letters", "show", id]).await;
    assert!(shown.contains("with code 121: never_written, offer_title\n"), "{shown}");
    assert!(!shown.contains("Boulanger"), "{shown}");
}
