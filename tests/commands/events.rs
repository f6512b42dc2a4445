//! The timeline (docs/events.md): it survives restarts and changes of leader, has no personal data, and its loss stops
//! nothing.

use bson::{DateTime, doc};
use serde_json::Value;
use xtask::golden::{TargetModel, put_target_validator};
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, passing, refuse};
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
        let found = stored.count_documents(doc! { "kind": kind }).await.unwrap();
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
    let run = ["jobs", "run", "cap-offer-expirations"];
    let refused = Processor::command(&["backfill", "--mirror"], &test, &[]).await;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let told = &events(&test, &[]).await[0];
    assert_eq!((&told["kind"], &told["done"]), (&"command_ended".into(), &false.into()), "{told}");
    assert!(refused.stderr.contains(told["reason"].as_str().unwrap()), "{told}: {}", refused.stderr);
    for command in [&["verify"][..], &["phase", "set", "dual-write"], &["tokens", "reset"], &run] {
        let forced = if ["verify", "jobs"].contains(&command[0]) { &[][..] } else { &reason };
        let ended = Processor::command(&[command, forced].concat(), &test, &[]).await;
        assert!(ended.code == 0 || command[0] == "verify", "{command:?}: {}", ended.stderr);
    }
    let all = events(&test, &[]).await.split_off(1);
    let expected = ["verified", "phase_step", "command_ended", "position_moved", "command_ended"];
    assert_eq!(kinds(&all), expected, "{all:#?}");
    assert_eq!((&all[4]["command"], &all[4]["done"]), (&"run-job".into(), &true.into()));
    assert_eq!((&all[1]["from"], &all[1]["to"]), (&"sync".into(), &"dual-write".into()));
    assert_eq!(all[3]["cleared"], true);
    assert!(!format!("{all:?}").contains(PERSONAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_timeline_is_followed_is_printed_once() {
    let test = TestDatabase::create("events_follow").await;
    let reset = ["tokens", "reset", "--force", "--reason", "a test"];
    assert_eq!(Processor::command(&reset, &test, &[]).await.code, 0);
    let mut following = Processor::spawn(&["events", "--follow", "--ndjson"], &test, &[]);
    let lines = |text: &str| text.lines().filter(|line| line.contains("position_moved")).count();
    for count in 1..=3 {
        eventually(PATIENCE, "the event is printed", async || (lines(&following.stdout()) == count).then_some(()))
            .await;
        assert_eq!(Processor::command(&reset, &test, &[]).await.code, 0);
    }
    eventually(PATIENCE, "the last event is printed", async || (lines(&following.stdout()) == 4).then_some(())).await;
    following.sigterm();
    let ended = following.until_ended().await;
    assert_eq!((ended.code, lines(&ended.stdout)), (0, 4), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_with_a_limit_prints_nothing_older_and_goes_on_after_an_outage() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "events_limit").await;
    let stored = test.collection("stream_processor_events");
    let now = DateTime::now().timestamp_millis();
    let event = |age: i64| doc! { "kind": "verified", "at": DateTime::from_millis(now - age), "age": age };
    stored.insert_many([event(3_000), event(2_000), event(1_000)]).await.unwrap();
    let mut following = Processor::spawn(&["events", "--limit", "1", "--follow", "--ndjson"], &test, &[]);
    eventually(PATIENCE, "the newest is printed", async || following.stdout().contains("\"age\":1000").then_some(()))
        .await;
    refuse(&test.database, "find", "stream_processor_events", passing()).await;
    let told = "the events could not be read";
    eventually(PATIENCE, "the outage is told", async || following.stderr().contains(told).then_some(())).await;
    stored.insert_one(event(0)).await.unwrap();
    mend(&test.database).await;
    eventually(PATIENCE, "the next is printed", async || following.stdout().contains("\"age\":0").then_some(())).await;
    following.sigterm();
    let ended = following.until_ended().await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (0, 2), "{}", ended.stdout);
    assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_during_a_pause_is_stored_then() {
    let test = TestDatabase::create("events_pause").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    for command in [["pause", "--reason", "a test"].as_slice(), &["throttle", "5", "--reason", "a test"]] {
        let ended = Processor::command(command, &test, &[]).await;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }
    until_stored(&test, "throttled", 1).await;
    stopped(processor).await;
}

/// Too old, and too many. The server's time decides.
#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_deleted_and_the_newest_stay() {
    let test = TestDatabase::create("events_old").await;
    let stored = test.collection("stream_processor_events");
    let days_ago = |days: i64| DateTime::from_millis(DateTime::now().timestamp_millis() - days * 86_400_000);
    let event = |days: i64| doc! { "kind": "verified", "at": days_ago(days), "days": days };
    stored.insert_many([event(91), event(89)]).await.unwrap();
    let processor = started(&test).await;
    eventually(PATIENCE, "the old one is gone", async || {
        stored.find_one(doc! { "days": 91 }).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(stored.find_one(doc! { "days": 89 }).await.unwrap().is_some());
    stopped(processor).await;

    stored.insert_many((0..20_000).map(|_| event(10))).await.unwrap();
    let processor = started(&test).await;
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    eventually(PATIENCE, "there are not too many", async || {
        stored.find_one(doc! { "days": 89 }).await.unwrap().is_none().then_some(())
    })
    .await;
    stopped(processor).await;
    assert!(stored.count_documents(doc! { "kind": "leadership" }).await.unwrap() >= 2, "the newest stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_validator_is_in_the_timeline() {
    let test = TestDatabase::with_live_schema("events_schema").await;
    put_target_validator(&test.database, TargetModel::Planned, "error").await.unwrap();
    let processor = started_with(&test, &[("STREAM_PROCESSOR__TARGET__SCHEMA_CHECK_INTERVAL", "1s")]).await;
    until_no_resync(&test.database).await;
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    until_stored(&test, "schema_changed", 1).await;
    let changes = events(&test, &["--kind", "schema_changed"]).await;
    assert!(format!("{changes:?}").contains("no longer allows"), "{changes:#?}");
    stopped(processor).await;
}

/// As with a user of MongoDB that has the role of 1.0.0: the server refuses each event.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_cannot_be_written_stop_nothing() {
    let test = TestDatabase::create("events_refused").await;
    let refusing = doc! { "create": "stream_processor_events", "validator": { "never": true } };
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
