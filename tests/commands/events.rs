//! The timeline (docs/events.md): it survives restarts and changes of leader, has no personal data, and its loss stops
//! nothing.

use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::until_no_resync;
use crate::support::waiting::{PATIENCE, eventually};

const LEASE: [(&str, &str); 1] = [("STREAM_PROCESSOR__LEASE__DURATION", "2s")];

async fn events(test: &TestDatabase, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = ["events", "--ndjson"].into_iter().chain(arguments.iter().copied()).collect();
    let ended = Processor::command(&arguments, test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

async fn until_stored(test: &TestDatabase, kind: &str, count: u64) {
    let stored = test.collection("stream_processor_events");
    eventually(PATIENCE, kind, async || {
        let found = stored.count_documents(bson::doc! { "kind": kind }).await.unwrap();
        (found >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_shows_what_happened_before_it_led() {
    let test = TestDatabase::create("events_leader").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let mut first = started_with(&test, &LEASE).await;
    until_no_resync(&test.database).await;
    until_stored(&test, "resync_ended", 1).await;
    let backfill = Processor::command(&["backfill", "--as", PERSONAL], &test, &[]).await;
    assert_eq!(backfill.code, 0, "{}", backfill.stderr);
    until_stored(&test, "command_ended", 1).await;
    first.sigkill();

    let second = started_with(&test, &LEASE).await;
    until_stored(&test, "leadership", 2).await;
    let all = events(&test, &[]).await;
    let known = kinds(&all);
    for kind in ["resync_began", "resync_ended", "command_ended"] {
        assert!(known.contains(&kind), "{kind}: {all:#?}");
    }
    let leaders: Vec<&Value> = all.iter().filter(|event| event["kind"] == "leadership").collect();
    assert_eq!(leaders[1]["from"], leaders[0]["instance"]);
    assert!(leaders[1]["after_seconds"].is_i64() && leaders[0].get("from").is_none(), "{leaders:#?}");
    let ended = all.iter().find(|event| event["kind"] == "command_ended").unwrap();
    assert_eq!(
        (&ended["command"], &ended["done"], &ended["recruiters"]),
        (&"backfill".into(), &true.into(), &1.into())
    );
    assert!(!format!("{all:?}").contains(PERSONAL));
    assert_eq!(events(&test, &["--limit", "1"]).await, all[all.len() - 1..]);
    assert!(events(&test, &["--kind", "leadership"]).await.iter().eq(leaders));
    assert_eq!(events(&test, &["--since", "yesterday", "--time-zone", "UTC"]).await, all);
    assert!(events(&test, &["--since", "2100-01-01"]).await.is_empty());
    stopped(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_an_instance_are_in_the_timeline_too() {
    let test = TestDatabase::create("events_commands").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let reason = ["--force", "--reason", PERSONAL];
    for command in [&["verify"][..], &["phase", "set", "dual-write"], &["tokens", "reset"]] {
        let forced = if command[0] == "verify" { &[][..] } else { &reason };
        let ended = Processor::command(&[command, forced].concat(), &test, &[]).await;
        assert!(ended.code == 0 || command[0] == "verify", "{command:?}: {}", ended.stderr);
    }
    let all = events(&test, &[]).await;
    assert_eq!(kinds(&all), ["verified", "phase_step", "command_ended", "position_moved"], "{all:#?}");
    assert_eq!((&all[1]["from"], &all[1]["to"]), (&"sync".into(), &"dual-write".into()));
    assert_eq!(all[3]["cleared"], true);
    assert!(!format!("{all:?}").contains(PERSONAL));
}

/// As with a user of MongoDB that has the role of 1.0.0: the server refuses each event.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_cannot_be_written_stop_nothing() {
    let test = TestDatabase::create("events_refused").await;
    let refusing = bson::doc! { "create": "stream_processor_events", "validator": { "never": true } };
    test.database.run_command(refusing).await.unwrap();
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    assert!(events(&test, &[]).await.is_empty());
    let ended = stopped(processor).await;
    assert_eq!(ended.code, 0);
}
