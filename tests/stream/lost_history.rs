//! A position that the stream cannot go on from (spec 03, "When the token is gone"): never a jump, but a recorded gap
//! and a resync that finds what happened in it; or, where the configuration says so, a halt that writes nothing.

use bson::{DateTime, Document, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{BRISK, started, stopped};
use crate::support::state::{
    change_checkpoint, checkpoint, gaps, interrupted_command, jobs, links, settled, state, until_no_resync, writes,
};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const RESYNCS: &str = "stream_processor_resyncs_total";
const HALT: (&str, &str) = ("STREAM_PROCESSOR__STREAM__ON_HISTORY_LOST", "halt");

#[tokio::test(flavor = "multi_thread")]
async fn after_a_checkpoint_that_cannot_be_read_everything_is_looked_at_again() {
    let test = TestDatabase::create("lost_garbled").await;
    let changes = Changes::settle(&test).await;
    changes.happen_unseen(&test).await;
    change_checkpoint(&test.database, doc! { "token": { "_data": "826B05 is no token" } }).await;

    let processor = started(&test).await;
    changes.assert_found(&test, &processor).await;
    assert_gap_repaired(&test, "garbled checkpoint").await;
    assert_goes_on(&test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_only_the_server_finds_garbled_is_a_lost_position_too() {
    // A time and nothing else; a time and bytes that are none.
    for (rest, code) in [("", "50796"), ("FFFFFF", "50811")] {
        let test = TestDatabase::create("lost_refused").await;
        let changes = Changes::settle(&test).await;
        changes.happen_unseen(&test).await;
        let time = checkpoint(&test.database).await.get_timestamp("cluster_time").unwrap();
        let token = format!("82{:08X}{:08X}{rest}", time.time, time.increment);
        change_checkpoint(&test.database, doc! { "token": { "_data": token } }).await;

        let processor = started(&test).await;
        changes.assert_found(&test, &processor).await;
        assert_eq!(assert_gap_repaired(&test, code).await, time, "the gap begins at the lost position");
        assert_goes_on(&test, processor).await;
    }
}

/// A checkpoint of another replica set whose clock is ahead: the server would take it and wait for that time.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_the_server_has_not_reached_is_a_lost_position() {
    // By its token; and by its time, because the pipeline is another one.
    for changes_pipeline in [false, true] {
        let test = TestDatabase::create("lost_ahead").await;
        let changes = Changes::settle(&test).await;
        changes.happen_unseen(&test).await;
        let time = Timestamp { time: cluster_time_now(&test.database).await.time + 86_400, increment: 1 };
        let token = format!("82{:08X}{:08X}2B0229296E04", time.time, time.increment);
        change_checkpoint(&test.database, doc! { "token": { "_data": token }, "cluster_time": time }).await;
        if changes_pipeline {
            change_checkpoint(&test.database, doc! { "fingerprint": "of an earlier version" }).await;
        }

        let processor = started(&test).await;
        changes.assert_found(&test, &processor).await;
        assert_eq!(assert_gap_repaired(&test, "ahead").await, time);
        assert_goes_on(&test, processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_fell_off_the_oplog_halts_where_the_configuration_says_so_and_else_leads_to_a_resync() {
    let set = ReplicaSet::start(&Options { oplog_megabytes: Some(16), ..Options::default() }).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "lost_oplog").await;
    let changes = Changes::settle(&test).await;
    changes.happen_unseen(&test).await;
    let lost = checkpoint(&test.database).await;
    let lost_time = lost.get_timestamp("cluster_time").unwrap();
    push_off_the_oplog(&test.database, lost_time).await;

    assert_commands_tell_that_it_is_lost(&test, lost_time).await;
    let before = cluster_time_now(&test.database).await;
    let halted = assert_halts(&test).await;
    assert_eq!(checkpoint(&test.database).await, lost);
    for collection in ["jobs_partners", "stream_processor_links", "stream_processor_gaps", "resumetokens"] {
        assert!(writes(&test.database, collection, before).await.is_empty(), "{collection} is written");
    }
    assert_eq!(state(&test.database, "resync").await, None);
    stopped(halted).await;

    let processor = started(&test).await;
    changes.assert_found(&test, &processor).await;
    assert_eq!(assert_gap_repaired(&test, "the oplog no longer has the position (code 286)").await, lost_time);
    let log = processor.stderr();
    let line = log.lines().find(|line| line.contains("events between these times were not read")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["error"], "the oplog no longer has the position (code 286)");
    for end in ["from", "to"] {
        assert!(DateTime::parse_rfc3339_str(line[end].as_str().unwrap()).is_ok(), "{line}");
    }
    assert_goes_on(&test, processor).await;
}

/// One leader keeps the lease, says it once, and goes on with what a person decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_halted_leader_keeps_the_lease_until_a_person_decides() {
    let test = TestDatabase::create("lost_resumed").await;
    let none = Processor::command(&["resume", "--reason", "a test"], &test, &[]).await;
    assert!(none.code == 1 && none.stderr.contains("and no leader is halted"), "{}", none.stderr);
    let changes = Changes::settle(&test).await;
    changes.happen_unseen(&test).await;
    let lost_time = checkpoint(&test.database).await.get_timestamp("cluster_time").unwrap();
    change_checkpoint(&test.database, doc! { "token": { "_data": "826B05 is no token" } }).await;

    let processor = assert_halts(&test).await;
    let halt = eventually(PATIENCE, "the halt is stored", async || state(&test.database, "halt").await).await;
    let term = halt.get_i64("term").unwrap();
    let began = cluster_time_now(&test.database).await.time;
    eventually(PATIENCE, "more than a lease goes by", async || {
        test.collection("ticks").insert_one(doc! {}).await.unwrap();
        let lease = state(&test.database, "lease").await.unwrap();
        assert_eq!(lease.get_i64("term").unwrap(), term, "the same leader");
        (cluster_time_now(&test.database).await.time > began + 12).then_some(())
    })
    .await;
    let (_, ready) = processor.http_get("/readyz").await;
    assert!(ready.contains(r#""state":"halted""#) && ready.contains(r#""role":"leader""#), "{ready}");
    assert_eq!(processor.stderr().matches("halted: the position is lost").count(), 1, "it is told once");
    let status = Processor::command(&["status"], &test, &[]).await.stdout;
    assert!(status.contains("Halted") && status.contains("stream-processor resume"), "{status}");
    assert_a_waiting_command_tells_of_the_halt(&test).await;
    let id = interrupted_command(&test.database).await;
    let cancelled = Processor::command(&["commands", "cancel", &id], &test, &[]).await;
    assert_eq!((cancelled.code, cancelled.stdout), (0, format!("cancelled: {id}\n")), "{}", cancelled.stderr);
    let live = processor.http_get("/livez").await;
    assert!(live.0 == 200 && live.1.contains(r#""dead":[]"#), "a restart would change nothing: {live:?}");
    // It waits for no leader that reads nothing: each of its waits would take a minute.
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 1, "{}", verified.stderr);
    let said = format!("{ready}{status}{}", processor.stderr());
    assert!(!said.contains("a resync follows"), "none follows while the leader is halted: {said}");

    let resumed = Processor::command(&["resume", "--reason", "a test"], &test, &[]).await;
    assert!(resumed.code == 0 && resumed.stdout.contains("done: the stream is open"), "{}", resumed.stderr);
    assert_eq!(state(&test.database, "halt").await, None);
    changes.assert_found(&test, &processor).await;
    let told =
        Processor::command(&["events", "--json", "--kind", "halted", "--kind", "resumed"], &test, &[]).await.stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let kinds: Vec<&serde_json::Value> =
        told["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["halted", "resumed"], "{told}");
    assert!(told["events"][1]["seconds"].as_i64().unwrap() >= 10, "{told}");
    let gap = assert_gap_repaired(&test, "resumed by hand").await;
    assert!(gap <= lost_time, "the gap begins at the lost position, or before");
    assert_goes_on(&test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_read_halts_too_where_the_configuration_says_so() {
    let test = TestDatabase::create("lost_garbled_halt").await;
    let changes = Changes::settle(&test).await;
    changes.happen_unseen(&test).await;
    change_checkpoint(&test.database, doc! { "token": { "_data": "826B05 is no token" } }).await;
    let lost = checkpoint(&test.database).await;

    let before = cluster_time_now(&test.database).await;
    let halted = assert_halts(&test).await;
    assert_eq!(checkpoint(&test.database).await, lost);
    assert!(writes(&test.database, "jobs_partners", before).await.is_empty());
    assert!(gaps(&test.database).await.is_empty());
    stopped(halted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_old_worker_that_fell_off_the_oplog_leaves_a_gap_that_is_repaired() {
    let set = ReplicaSet::start(&Options { oplog_megabytes: Some(16), ..Options::default() }).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "lost_old_worker").await;
    let changes = Changes::settle(&test).await;
    let old_worker = checkpoint(&test.database).await;
    changes.happen_unseen(&test).await;
    test.collection("stream_processor_state").drop().await.unwrap();
    test.collection("resumetokens").drop().await.unwrap();
    let token = old_worker.get_document("token").unwrap();
    let left = doc! { "collection": "recruiters", "resumeTokenData": token };
    test.collection("resumetokens").insert_one(left).await.unwrap();
    let lost_time = old_worker.get_timestamp("cluster_time").unwrap();
    push_off_the_oplog(&test.database, lost_time).await;

    let processor = started(&test).await;
    changes.assert_found(&test, &processor).await;
    assert_eq!(assert_gap_repaired(&test, "286").await, lost_time);
    assert_goes_on(&test, processor).await;
}

/// Recruiters to whom things happen while nobody reads the stream.
struct Changes {
    edited: Document,
    removed: Document,
    deleted: Document,
    anonymised: Document,
    added: Document,
}

impl Changes {
    /// A run of the service in which all but the last are projected.
    async fn settle(test: &TestDatabase) -> Self {
        let recruiter = || recruiter([job("Boulanger")]);
        let [edited, removed, deleted, anonymised] = std::array::from_fn(|_| recruiter());
        let all = [&edited, &removed, &deleted, &anonymised];
        test.collection("recruiters").insert_many(all).await.unwrap();
        let processor = started(test).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        stopped(processor).await;
        assert_eq!(offers::read(&test.database).await.len(), all.len());
        Self { edited, removed, deleted, anonymised, added: recruiter() }
    }

    async fn happen_unseen(&self, test: &TestDatabase) {
        let recruiters = test.collection("recruiters");
        let of = |recruiter: &Document| doc! { "_id": id(recruiter) };
        let email = doc! { "$set": { "email": "nouveau@example.com" } };
        recruiters.update_one(of(&self.edited), email).await.unwrap();
        recruiters.update_one(of(&self.removed), doc! { "$set": { "jobs": [] } }).await.unwrap();
        recruiters.delete_one(of(&self.deleted)).await.unwrap();
        let copy = doc! { "_id": id(&self.anonymised), "jobs": self.anonymised.get_array("jobs").unwrap() };
        test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
        recruiters.delete_one(of(&self.anonymised)).await.unwrap();
        recruiters.insert_one(&self.added).await.unwrap();
    }

    async fn assert_found(&self, test: &TestDatabase, processor: &Processor) {
        eventually(PATIENCE, "a resync begins", async || processor.metric(RESYNCS).await.filter(|count| *count > 0.0))
            .await;
        until_no_resync(&test.database).await;
        let offers = offers::read(&test.database).await;
        let offer = |recruiter: &Document| &offers[&first_job(recruiter)];
        assert_eq!(text(offer(&self.edited), "apply_email"), "nouveau@example.com");
        assert_eq!(text(offer(&self.removed), "offer_status"), "Cancelled");
        assert_eq!(text(offer(&self.deleted), "offer_status"), "Cancelled");
        assert_eq!(text(offer(&self.anonymised), "apply_email"), "anonymized@example.com");
        assert_eq!(text(offer(&self.added), "offer_status"), "Active");
        assert_eq!(links(&test.database).await, jobs(&test.database).await);
    }
}

/// There is exactly one gap, which was repaired; gives back its beginning.
async fn assert_gap_repaired(test: &TestDatabase, cause: &str) -> Timestamp {
    let gaps = gaps(&test.database).await;
    assert_eq!(gaps.len(), 1);
    let gap = &gaps[0];
    assert!(text(gap, "cause").contains(cause), "{gap}");
    assert_eq!(text(gap, "state"), "repaired");
    let events = test.collection("stream_processor_events");
    let event = eventually(PATIENCE, "the event of the gap", async || {
        events.find_one(doc! { "kind": "gap_opened" }).await.unwrap()
    })
    .await;
    assert_eq!(text(&event, "cause"), text(gap, "cause"));
    let to = gap.get_timestamp("to").unwrap();
    assert!(to <= cluster_time_now(&test.database).await, "the gap ends where the stream went on");
    gap.get_timestamp("from").unwrap()
}

/// The stream goes on as if nothing had been.
async fn assert_goes_on(test: &TestDatabase, processor: Processor) {
    let later = recruiter([job("Fleuriste")]);
    test.collection("recruiters").insert_one(&later).await.unwrap();
    settled(&test.database).await;
    assert!(offers::read(&test.database).await.contains_key(&first_job(&later)));
    stopped(processor).await;
    let processor = started(test).await;
    settled(&test.database).await;
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0), "the new checkpoint is good");
}

/// Starts the service with `halt` and waits until it says on `/readyz` that it halted, and what to do.
async fn assert_halts(test: &TestDatabase) -> Processor {
    let processor = Processor::start(test, &[BRISK.as_slice(), &[HALT]].concat());
    eventually(PATIENCE, "it says that it halted", async || {
        let (status, answer) = processor.try_get("/readyz").await?;
        assert_ne!(status, 200);
        answer.contains(r#"start with \"resync\""#).then_some(())
    })
    .await;
    processor
}

/// Each says so and proposes what is left to do.
async fn assert_commands_tell_that_it_is_lost(test: &TestDatabase, lost: Timestamp) {
    let at = DateTime::from_millis(i64::from(lost.time) * 1_000).try_to_rfc3339_string().unwrap();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["tokens", "show", "--fail-if-lost"], &["no longer in the oplog", "headroom      0s"]),
        (
            &["replay", "--from", &at],
            &["Z) is no longer in the oplog, which begins at", "Z) and is", " long", "`stream-processor backfill`"],
        ),
        (&["replay", "--from", &at, "--dry-run"], &["no longer in the oplog", "`stream-processor backfill`"]),
        (&["doctor"], &["✗ position", "no longer in the oplog", "runs a resync"]),
    ];
    for (arguments, words) in cases {
        let ended = Processor::command(arguments, test, &[]).await;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 1, "{arguments:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
    let status = Processor::command(&["status", "--json"], test, &[]).await;
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["position"]["headroom_seconds"], 0, "{status}");
    assert_eq!(
        (&status["position"]["in_oplog"], &status["verdict"]["next"]),
        (&false.into(), &"stream-processor run".into())
    );
    let status = Processor::command(&["status"], test, &[]).await.stdout;
    assert!(status.contains("none: the oplog no longer has the position"), "{status}");
}

/// Nobody carries the command out before a person decides.
async fn assert_a_waiting_command_tells_of_the_halt(test: &TestDatabase) {
    let mut waiting = Processor::spawn(&["backfill"], test, &[]);
    eventually(PATIENCE, "it tells of the halt", async || {
        waiting.stderr().contains("is halted, because the position of the stream is lost").then_some(())
    })
    .await;
    waiting.sigterm();
    let ended = waiting.until_ended().await;
    assert!(ended.stderr.contains("stream-processor resume --reason TEXT"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("carries out the command"), "{}", ended.stderr);
}

/// Writes elsewhere until the oplog begins in a later second than `time`: what people give as a time has no fractions.
async fn push_off_the_oplog(database: &Database, time: Timestamp) {
    let oplog = database.client().database("local").collection::<Document>("oplog.rs");
    let ballast = database.collection("ballast");
    eventually(PATIENCE, "the oplog is shortened", async || {
        ballast.insert_one(doc! { "text": "x".repeat(1 << 20) }).await.unwrap();
        let mut first = oplog.find(doc! {}).sort(doc! { "$natural": 1 }).limit(1).await.unwrap();
        let first = first.try_next().await.unwrap().unwrap();
        (first.get_timestamp("ts").unwrap().time > time.time).then_some(())
    })
    .await;
}
