//! The command `replay` (spec 06): repairs a span of the past beside a running instance or without one, shows before what
//! it would write, and says so when the span is out of reach.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, Timestamp, doc};
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::fields::first_job;
use crate::support::golden::{self, operations};
use crate::support::offers;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{settled, until_no_resync, writes};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

/// The main use: somebody's script runs wild over the offers for a while, and nobody knows which ones.
#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_repaired_by_replaying_its_span_beside_the_instance() {
    let test = TestDatabase::create("replay_incident").await;
    let processor = started(&test).await;
    let all: Vec<Document> = (0..60).map(|_| recruiter([job("Boulanger"), job("Pâtissier")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    let term = processor.metric("stream_processor_lease_term").await;

    let begins = next_second(&test).await;
    let corrupted = corrupt(&test, &all[..20]).await;
    // Life goes on meanwhile.
    let renamed = doc! { "$set": { "jobs.0.offer_title_custom": "Chocolatier", "updatedAt": DateTime::now() } };
    test.collection("recruiters").update_one(doc! { "_id": id(&all[40]) }, renamed).await.unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(&all[41]) }).await.unwrap();
    settled(&test.database).await;
    let ends = next_second(&test).await;

    let span = ["--from", &text(begins), "--until", &text(ends), "--json"];
    let shown = json(&replay(&test, &[&span[..], &["--dry-run"]].concat()).await);
    let ids: Vec<&str> =
        shown["offers"].as_array().unwrap().iter().map(|offer| offer["id"].as_str().unwrap()).collect();
    let mut expected: Vec<String> = corrupted.keys().map(|id| id.to_hex()).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected, "exactly what is corrupted: {shown:#}");
    assert_eq!((&shown["created"], &shown["changed"]), (&10.into(), &30.into()), "{shown:#}");
    assert_eq!(shown["fields"]["offer_title"], 10);
    let phone =
        shown["offers"].as_array().unwrap().iter().find_map(|offer| offer["fields"]["apply_phone"].get("stands"));
    assert_eq!(phone.unwrap(), "***", "contacts are masked: {shown:#}");
    let text_shown = replay(&test, &[&span[..4], &["--dry-run"]].concat()).await.stdout;
    assert!(text_shown.starts_with("dry run, ") && text_shown.contains("\"wrong\" -> \"Boulanger\""), "{text_shown}");
    for shown in [shown.to_string(), text_shown] {
        assert!(!shown.contains(PERSONAL) && !shown.contains("0600000000"), "{shown}");
    }
    assert_eq!(offers_missing(&test, &corrupted).await, 10, "a dry run writes nothing");

    let done = json(&replay(&test, &span).await);
    assert_eq!((&done["created"], &done["changed"]), (&10.into(), &30.into()), "{done:#}");
    let shown = json(&replay(&test, &[&span[..], &["--dry-run"]].concat()).await);
    assert_eq!((&shown["created"], &shown["changed"]), (&0.into(), &0.into()), "nothing is left: {shown:#}");
    assert_eq!(processor.metric("stream_processor_lease_term").await, term, "the instance did it");
    assert_nothing_lost(test, processor).await;
}

/// A reference that was deleted leads to a resync, and a recruiter that was deleted to a cancellation.
#[tokio::test(flavor = "multi_thread")]
async fn the_summary_of_a_replay_counts_what_its_resync_and_its_cancellations_changed() {
    let test = TestDatabase::create("replay_summary").await;
    let processor = started(&test).await;
    let all: Vec<Document> = (0..30).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let cfa = doc! { "_id": ObjectId::new(), "siret": "98765432100012" };
    test.collection("cfas").insert_one(&cfa).await.unwrap();
    until_no_resync(&test.database).await;
    let begins = next_second(&test).await;
    test.collection("cfas").delete_one(doc! { "_id": id(&cfa) }).await.unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(&all[0]) }).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    let ends = next_second(&test).await;
    let wrong = doc! { "$set": { "offer_title": "wrong", "offer_status": "Active" } };
    test.collection("jobs_partners").update_many(doc! {}, wrong).await.unwrap();

    let span = ["--from", &text(begins), "--until", &text(ends)];
    let done = json(&replay(&test, &[&span[..], &["--json"]].concat()).await);
    assert_eq!(
        (&done["resync"], &done["created"], &done["changed"]),
        (&true.into(), &0.into(), &30.into()),
        "{done:#}"
    );
    let again = replay(&test, &span).await.stdout;
    assert!(again.contains(": 0 offers created, 0 changed, "), "{again}");
    assert_nothing_lost(test, processor).await;
}

/// An idle server's last operation is older than its clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_after_the_last_operation_and_before_now_is_no_time_in_the_future() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "replay_idle").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let clock = async || {
        let hello = test.database.run_command(doc! { "hello": 1 }).await.unwrap();
        Timestamp {
            time: (hello.get_datetime("localTime").unwrap().timestamp_millis() / 1_000).try_into().unwrap(),
            increment: 0,
        }
    };
    let from = eventually(PATIENCE, "the server is idle for a second", async || {
        let (clock, operation) = (clock().await, cluster_time_now(&test.database).await);
        (clock.time > operation.time).then_some(clock)
    })
    .await;
    let ended = replay(&test, &["--from", &text(from), "--dry-run", "--json"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(json(&ended)["events"], 0);

    let later = Timestamp { time: clock().await.time + 3_600, increment: 0 };
    let refused = replay(&test, &["--from", &text(later), "--dry-run"]).await;
    assert_eq!(refused.code, 2);
    let words = refused.stderr.split("the server's time is ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let told = DateTime::parse_rfc3339_str(words).unwrap().timestamp_millis() / 1_000;
    assert!((i64::from(from.time)..i64::from(later.time)).contains(&told), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_looks_at_its_span_and_collection_only() {
    let test = TestDatabase::create("replay_span").await;
    let processor = started(&test).await;
    let [before, within, after] = [(); 3].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many([&before, &within, &after]).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    stopped(processor).await;
    let wrong = doc! { "$set": { "offer_title": "wrong" } };
    let corrupt = async |recruiter: &Document| {
        let offers = test.collection("jobs_partners");
        offers.update_one(doc! { "_id": first_job(recruiter) }, wrong.clone()).await.unwrap();
        next_second(&test).await
    };
    let begins = { corrupt(&before).await };
    let ends = Timestamp { time: corrupt(&within).await.time - 1, increment: 0 };
    corrupt(&after).await;

    let span = ["--from", &text(begins), "--until", &text(ends), "--json"];
    let others = json(&replay(&test, &[&span[..], &["--collection", "recruiters"]].concat()).await);
    assert_eq!(others["events"], 0, "no recruiter changed: {others}");
    let done = json(&replay(&test, &span).await);
    assert_eq!((&done["events"], &done["changed"]), (&1.into(), &1.into()), "{done}");
    let offers = offers::read(&test.database).await;
    let title = |recruiter: &Document| offers[&first_job(recruiter)].get_str("offer_title").unwrap();
    assert_eq!([title(&before), title(&within), title(&after)], ["wrong", "Boulanger", "wrong"]);
}

/// With everything that an event can ask for: deletions, anonymisations, users, references.
#[tokio::test(flavor = "multi_thread")]
async fn replaying_what_was_just_applied_shows_nothing_and_writes_nothing() {
    let test = TestDatabase::with_planned_schema("replay_golden").await;
    golden::load_references(&test.database).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let begins = next_second(&test).await;
    golden::load_recruiters(&test.database).await;
    for operation in &operations() {
        operation.apply(&test.database).await;
    }
    settled(&test.database).await;
    until_no_resync(&test.database).await;

    let from = ["--from", &text(begins), "--json"];
    let shown = json(&replay(&test, &[&from[..], &["--dry-run"]].concat()).await);
    assert_eq!(shown["offers"].as_array().unwrap().len(), 0, "{}", shown["offers"][0]);
    assert!(shown["events"].as_u64().unwrap() > 366 && shown["unchanged"].as_u64().unwrap() > 300);
    let quiet = cluster_time_now(&test.database).await;
    let done = json(&replay(&test, &from).await);
    until_no_resync(&test.database).await;
    assert_eq!((&done["created"], &done["changed"]), (&0.into(), &0.into()), "{done:#}");
    assert!(writes(&test.database, "jobs_partners", quiet).await.is_empty());
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_at_an_entry_of_the_history_at_an_exported_token_or_at_a_time() {
    let test = TestDatabase::create("replay_from").await;
    let processor = started_with(&test, &[("STREAM_PROCESSOR__TOKENS__HISTORY_INTERVAL", "1s")]).await;
    let begins = next_second(&test).await;
    let mine = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&mine).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    let listed = json(&Processor::command(&["tokens", "list", "--json"], &test, &[]).await);
    let token = listed["history"][0]["id"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token.json");
    let file = file.to_str().unwrap();
    assert_eq!(Processor::command(&["tokens", "export", file], &test, &[]).await.code, 0);
    let bare = folder.path().join("bare.json");
    let data = listed["history"][0]["cluster_time"]["t"].as_u64().unwrap();
    std::fs::write(&bare, format!("{{\"_data\": \"82{data:08X}000000012B0229296E04\"}}")).unwrap();

    // The command counts from its own beginning, so the time must reach back further than to the insertion, but not behind
    // the beginning of the oplog.
    let oplog = test.database.client().database("local").collection::<Document>("oplog.rs");
    let first = oplog.find_one(doc! {}).await.unwrap().unwrap().get_timestamp("ts").unwrap();
    let spare = (begins.time - first.time).saturating_sub(1).min(60);
    let ago = format!("{}s ago", cluster_time_now(&test.database).await.time - begins.time + spare);
    for from in [&ago, &token, file, bare.to_str().unwrap(), &text(begins)] {
        let wrong = doc! { "$set": { "offer_title": "wrong" } };
        test.collection("jobs_partners").update_one(doc! { "_id": first_job(&mine) }, wrong).await.unwrap();
        let done = json(&replay(&test, &["--from", from, "--json"]).await);
        assert_eq!(done["changed"], 1, "from {from}: {done}");
    }
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_cannot_be_is_refused_with_what_to_do() {
    let test = TestDatabase::create("replay_refused").await;
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--from", "tomorrow"], 2, "not an id of the history such as"),
        (&["--from", "1-1"], 1, "tokens list"),
        (&["--from", "2999-01-01T00:00:00Z"], 2, "a position cannot have this time"),
        (&["--from", "2099-01-01T00:00:00Z"], 2, "in the future"),
        (&["--from", "1m ago", "--until", "2m ago"], 2, "exchange them"),
        (&["--from", "1m ago", "--collection", "cache_siret"], 2, "one of recruiters"),
        (&["--from", "2001-01-01T00:00:00Z"], 1, "`stream-processor backfill` projects every recruiter"),
    ];
    for (arguments, code, words) in cases {
        let ended = replay(&test, arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{arguments:?}: {}", ended.stderr);
    }
    let shadow = doc! { "_id": "phase", "phase": "shadow", "revision": 1_i64 };
    test.collection("stream_processor_state").insert_one(shadow).await.unwrap();
    for arguments in [&["--from", "1s ago"][..], &["--from", "1s ago", "--dry-run"]] {
        let ended = replay(&test, arguments).await;
        assert!(ended.code == 1 && ended.stderr.contains("jobs_partners is the authority"), "{}", ended.stderr);
    }
}

/// Killed while it works itself, without an instance: the next one finishes it from where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_is_finished_by_the_next_instance_and_an_interrupted_one_says_so() {
    let test = TestDatabase::create("replay_killed").await;
    let short = [("STREAM_PROCESSOR__LEASE__DURATION", "3s")];
    let processor = started_with(&test, &short).await;
    let begins = next_second(&test).await;
    let all: Vec<Document> = (0..6_000).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    let right = offers::read(&test.database).await;
    let wrong = doc! { "$set": { "offer_title": "wrong" } };
    test.collection("jobs_partners").update_many(doc! {}, wrong).await.unwrap();

    let from = text(begins);
    let mut command = Processor::spawn(&["replay", "--from", &from, "--collection", "recruiters"], &test, &short);
    let commands = test.collection("stream_processor_commands");
    let under_way = doc! { "state": "running", "progress.recruiters": { "$gte": 2_000 } };
    eventually(PATIENCE, "a part is done", async || commands.find_one(under_way.clone()).await.unwrap()).await;
    command.sigkill();
    let reached = commands.find_one(under_way).await.unwrap().unwrap();
    assert!(recruiters(&reached) < 4_000, "much is left: {reached}");
    let processor = started_with(&test, &short).await;
    let further = doc! { "progress.recruiters": { "$gt": recruiters(&reached) } };
    eventually(PATIENCE, "the instance goes on", async || commands.find_one(further.clone()).await.unwrap()).await;
    let live = recruiter([job("Pâtissier")]);
    test.collection("recruiters").insert_one(&live).await.unwrap();
    eventually(PATIENCE, "the live stream goes on meanwhile", async || {
        test.collection("jobs_partners").find_one(doc! { "_id": first_job(&live) }).await.unwrap()
    })
    .await;
    let unfinished = commands.find_one(doc! { "state": "running" }).await.unwrap();
    assert!(unfinished.is_some(), "the live stream did not wait for the end of the replay");
    let done = eventually(PATIENCE, "the instance finishes it", async || {
        commands.find_one(doc! { "state": "done" }).await.unwrap()
    })
    .await;
    let progress = done.get_document("result").unwrap().get_document("details").unwrap();
    let events = progress.get("events").and_then(Bson::as_i64).unwrap();
    assert!((6_000..7_000).contains(&events), "it goes on from where it was: {progress}");
    let mut now = offers::read(&test.database).await;
    now.remove(&first_job(&live));
    offers::assert_same(&right, &now);
    stopped(processor).await;

    let mut interrupted = Processor::spawn(&["replay", "--from", &from, "--dry-run"], &test, &[]);
    interrupted.sigterm();
    let ended = interrupted.until_ended().await;
    assert_eq!(ended.stdout, "", "nothing half said");
}

fn recruiters(command: &Document) -> i64 {
    command.get_document("progress").unwrap().get("recruiters").and_then(Bson::as_i64).unwrap()
}

/// Of each recruiter: one offer with a wrong title or contact or status, the other wrong too, or gone.
async fn corrupt(test: &TestDatabase, recruiters: &[Document]) -> BTreeMap<ObjectId, Document> {
    let offers = test.collection("jobs_partners");
    let before = offers::read(&test.database).await;
    let mut corrupted = BTreeMap::new();
    for (number, recruiter) in recruiters.iter().enumerate() {
        let jobs: Vec<ObjectId> = crate::support::fields::job_ids(recruiter);
        let wrong = match number % 2 {
            0 => doc! { "offer_title": "wrong", "workplace_brand": 5 },
            _ => doc! { "apply_phone": "0600000000", "offer_status": "Cancelled" },
        };
        offers.update_one(doc! { "_id": jobs[0] }, doc! { "$set": wrong }).await.unwrap();
        match number % 2 {
            0 => drop(offers.delete_one(doc! { "_id": jobs[1] }).await.unwrap()),
            _ => {
                let wrong = doc! { "$unset": { "delegations": 1 }, "$set": { "workplace_siret": null } };
                offers.update_one(doc! { "_id": jobs[1] }, wrong).await.unwrap();
            }
        }
        corrupted.extend(jobs.into_iter().map(|job| (job, before[&job].clone())));
    }
    corrupted
}

async fn offers_missing(test: &TestDatabase, corrupted: &BTreeMap<ObjectId, Document>) -> usize {
    let offers = offers::read(&test.database).await;
    corrupted.keys().filter(|id| !offers.contains_key(id)).count()
}

/// The first second of the server's clock that nothing has happened in yet.
pub(super) async fn next_second(test: &TestDatabase) -> Timestamp {
    let now = cluster_time_now(&test.database).await;
    eventually(PATIENCE, "the next second", async || {
        test.collection("ticks").insert_one(doc! {}).await.unwrap();
        Some(cluster_time_now(&test.database).await).filter(|time| time.time > now.time)
    })
    .await
}

pub(super) fn text(time: Timestamp) -> String {
    DateTime::from_millis(i64::from(time.time) * 1_000).try_to_rfc3339_string().unwrap()
}

pub(super) async fn replay(test: &TestDatabase, arguments: &[&str]) -> Ended {
    Processor::command(&[&["replay"], arguments].concat(), test, &[]).await
}

pub(super) fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
