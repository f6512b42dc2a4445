//! Commands that write while an instance runs are carried out by it, between its batches (spec 06, "Command line"); what
//! is interrupted goes on.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{interrupted_command, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_beside_an_instance_is_carried_out_by_it_and_leaves_it_the_lease() {
    let test = TestDatabase::create("command_backfill").await;
    let all = [(); 3].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let right = offers::read(&test.database).await;
    spoil(&test).await;
    let term = processor.metric("stream_processor_lease_term").await;

    let one = id(&all[1]).to_hex();
    let printed = printed(&["backfill", "--json", "--recruiter", &one], &test).await;
    assert_eq!((&printed["recruiters"], &printed["changed"]), (&1.into(), &1.into()));
    let printed = self::printed(&["backfill", "--json"], &test).await;
    assert_eq!((&printed["recruiters"], &printed["changed"], &printed["unchanged"]), (&3.into(), &2.into(), &1.into()));
    offers::assert_same(&right, &offers::read(&test.database).await);
    assert_eq!(processor.metric("stream_processor_touches_total{origin=\"backfill\"}").await, Some(4.0));
    assert_eq!(processor.metric("stream_processor_lease_term").await, term, "the lease is where it was");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_beside_an_instance_is_carried_out_by_it() {
    let test = TestDatabase::create("command_repair").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    spoil(&test).await;
    let printed = printed(&["verify", "--repair", "--json"], &test).await;
    assert_eq!((&printed["differences"], printed["before_repair"].as_u64()), (&0.into(), Some(2)), "{printed}");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_by_hand_repairs_what_no_event_tells_beside_an_instance_and_without_one() {
    let test = TestDatabase::create("command_resync").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let right = offers::read(&test.database).await;
    let resync = async || {
        spoil(&test).await;
        let printed = printed(&["resync", "--reason", PERSONAL, "--json"], &test).await;
        assert_eq!(
            (&printed["created"], &printed["changed"], &printed["unchanged"]),
            (&0.into(), &1.into(), &0.into())
        );
        offers::assert_same(&right, &offers::read(&test.database).await);
    };
    resync().await;
    let ended = stopped(processor).await;
    assert!(!ended.stderr.contains(PERSONAL), "{}", ended.stderr);
    resync().await;
}

/// What is done stays, and the commands after it have their turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_cancelled_while_it_runs_and_before_it_begins() {
    let test = TestDatabase::create("command_cancelled").await;
    let processor = started_with(&test, &[SLOW]).await;
    until_no_resync(&test.database).await;
    many_spoiled(&test).await;
    let mut running = Processor::spawn(&["backfill"], &test, &[]);
    let stored = eventually(PATIENCE, "a part is done", async || progress(&test).await).await;
    let mut waiting = Processor::spawn(&["backfill", "--active-only"], &test, &[]);
    let commands = test.collection("stream_processor_commands");
    let second = doc! { "order.active_only": true, "state": "requested" };
    let second = eventually(PATIENCE, "it waits", async || commands.find_one(second.clone()).await.unwrap()).await;

    for command in [&second, &stored] {
        let cancelled = printed(&["commands", "cancel", &id(command).to_hex(), "--json"], &test).await;
        assert_eq!(cancelled["ended"], true, "{cancelled}");
    }
    for command in [&mut running, &mut waiting] {
        let ended = command.until_ended().await;
        assert!(ended.code == 1 && ended.stderr.contains("an operator cancelled the command"), "{}", ended.stderr);
    }
    let listed = printed(&["commands", "list", "--json", "--limit", "2"], &test).await;
    let listed = listed["commands"].as_array().unwrap();
    assert!(listed.iter().all(|command| command["state"] == "done" && command["done"] == false), "{listed:#?}");
    let done = commands.find_one(doc! { "_id": id(&stored) }).await.unwrap().unwrap();
    let done = done.get_document("progress").unwrap().get_i64("recruiters").unwrap();
    assert!(done < i64::try_from(MANY).unwrap(), "it went on to its end");
    let again = Processor::command(&["commands", "cancel", &id(&stored).to_hex()], &test, &[]).await;
    assert!(again.code == 1 && again.stderr.contains("has ended already"), "{}", again.stderr);
    let unknown = Processor::command(&["commands", "cancel", &ObjectId::new().to_hex()], &test, &[]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("no such command"), "{}", unknown.stderr);
    stopped(processor).await;
}

/// The leader keeps the lease during the pause, and carries nothing out.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_a_pause_interrupted_is_cancelled_during_the_pause() {
    let test = TestDatabase::create("command_paused_cancelled").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    printed(&["pause", "--reason", "a test", "--json"], &test).await;
    let cancelled = printed(&["commands", "cancel", &interrupted_command(&test.database).await, "--json"], &test).await;
    assert_eq!(cancelled["ended"], true, "{cancelled}");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_a_pause_interrupts_goes_on_after_it_where_it_was() {
    let test = TestDatabase::create("command_paused").await;
    let processor = started_with(&test, &[SLOW]).await;
    until_no_resync(&test.database).await;
    let right = many_spoiled(&test).await;
    let mut command = Processor::spawn(&["backfill", "--json"], &test, &[]);
    eventually(PATIENCE, "a part is done", async || progress(&test).await).await;
    printed(&["pause", "--reason", "a test", "--json"], &test).await;
    let told = "the service is paused: the command goes on after";
    eventually(PATIENCE, "it is told why it waits", async || command.stderr().contains(told).then_some(())).await;
    assert!(command.is_running());
    printed(&["resume", "--reason", "a test", "--json"], &test).await;
    let ended = command.until_ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let done: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(done["recruiters"], MANY);
    // Found as they should be: those of the step that was under way, and no earlier ones.
    assert!(done["unchanged"].as_u64().unwrap() <= 200, "it began again at the first recruiter: {done}");
    offers::assert_same(&right, &offers::read(&test.database).await);
    stopped(processor).await;
}

/// By the next instance or, where that is not there yet, by the command itself, which then takes the lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_whose_instance_is_killed_is_finished_from_where_it_was() {
    let test = TestDatabase::create("command_killed").await;
    let short = [("STREAM_PROCESSOR__LEASE__DURATION", "3s"), SLOW];
    let mut first = started_with(&test, &short).await;
    until_no_resync(&test.database).await;
    let right = many_spoiled(&test).await;

    let mut command = Processor::spawn(&["backfill", "--json"], &test, &short);
    eventually(PATIENCE, "a part is done", async || progress(&test).await).await;
    first.sigkill();
    let second = started_with(&test, &short).await;
    let ended = command.until_ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed["recruiters"], MANY);
    // Found as they should be: those of the step that was under way, and no earlier ones.
    assert!(printed["unchanged"].as_u64().unwrap() <= 200, "it began again at the first recruiter: {printed}");
    offers::assert_same(&right, &offers::read(&test.database).await);
    stopped(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_interrupted_leaves_its_work_to_the_instance() {
    let test = TestDatabase::create("command_interrupted").await;
    let processor = started_with(&test, &[SLOW]).await;
    until_no_resync(&test.database).await;
    let right = many_spoiled(&test).await;
    let mut command = Processor::spawn(&["backfill"], &test, &[]);
    eventually(PATIENCE, "a part is done", async || progress(&test).await).await;
    command.sigterm();
    assert_eq!(command.until_ended().await.code, 4);
    let commands = test.collection("stream_processor_commands");
    eventually(PATIENCE, "the instance finishes it", async || {
        commands.find_one(doc! { "state": "done" }).await.unwrap()
    })
    .await;
    offers::assert_same(&right, &offers::read(&test.database).await);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_holds_up_neither_the_stream_nor_other_commands() {
    let test = TestDatabase::create("command_unreadable").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let odd = doc! { "order": { "name": "dance" }, "state": "requested", "requested_at": DateTime::now() };
    let commands = test.collection("stream_processor_commands");
    commands.insert_one(odd).await.unwrap();
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    assert_eq!(offers::read(&test.database).await.len(), 1);
    assert_eq!(printed(&["backfill", "--json"], &test).await["unchanged"], 1);
    assert_eq!(processor.http_get("/readyz").await.0, 200);
    // A newer command that asks for it is told so, and does not wait for ever.
    let told = eventually(PATIENCE, "it is put aside", async || {
        commands.find_one(doc! { "state": "unreadable" }).await.unwrap()
    })
    .await;
    assert!(told.to_string().contains("because it has another version"), "{told}");
    stopped(processor).await;
}

/// A lease that somebody holds who does not answer: the command waits, and is told to end before anybody has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_interrupted_before_anybody_began_leaves_nothing_to_do() {
    let test = TestDatabase::create("command_withdrawn").await;
    let later = DateTime::from_millis(DateTime::now().timestamp_millis() + 3_600_000);
    let held = doc! { "_id": "lease", "holder": "nobody/1/0", "term": 1_i64, "expires_at": later };
    test.collection("stream_processor_state").insert_one(held).await.unwrap();
    let mut command = Processor::spawn(&["phase", "set", "dual-write"], &test, &[]);
    let commands = test.collection("stream_processor_commands");
    eventually(PATIENCE, "it is asked for", async || commands.find_one(doc! {}).await.unwrap()).await;
    command.sigterm();
    let ended = command.until_ended().await;
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert_eq!(commands.count_documents(doc! {}).await.unwrap(), 0);
}

/// A refused offer: the validator was corrected since, of which no event tells.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_tried_again_beside_an_instance() {
    let test = TestDatabase::create("command_letters").await;
    test.database.create_collection("jobs_partners").await.unwrap();
    let refuse = async |title: &str| {
        let validator = doc! { "offer_title": { "$ne": title } };
        test.database.run_command(doc! { "collMod": "jobs_partners", "validator": validator }).await.unwrap();
    };
    refuse("Boulanger").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let recruiter = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    let listed = printed(&["dead-letters", "list", "--json"], &test).await;
    let other = ["dead-letters", "list", "--fail-if-any", "--reason", "missing_cfa"];
    let none = Processor::command(&other, &test, &[]).await;
    assert_eq!((none.code, none.stdout.trim()), (0, "0 dead letters"));
    let failing = ["dead-letters", "list", "--fail-if-any"];
    assert_eq!(Processor::command(&failing, &test, &[]).await.code, 1);
    let dead_letter = &listed["dead_letters"][0];
    assert_eq!((&dead_letter["reason"], &dead_letter["attempts"]), (&"refused_by_validation".into(), &1.into()));
    assert_eq!(dead_letter["detail"], "the server refused the offer with code 121: offer_title");
    assert_eq!(dead_letter["meaning"], "the validator of jobs_partners refuses the offer");
    assert!(dead_letter["id"].as_str().unwrap().contains(&id(&recruiter).to_hex()));
    let address = dead_letter["id"].as_str().unwrap();
    let other = recruiter_with_unknown_status();
    test.collection("recruiters").insert_one(&other).await.unwrap();
    settled(&test.database).await;
    let unknown = format!("jobs_partners/{}", ObjectId::new());
    let retried = Processor::command(&["dead-letters", "retry", address, &unknown, "--json"], &test, &[]).await;
    let told: Value = serde_json::from_str(&retried.stdout).unwrap();
    assert_eq!((retried.code, &told["before"], &told["after"], &told["unknown"]), (1, &1.into(), &1.into(), &1.into()));

    let listed = printed(&["dead-letters", "list", "--json"], &test).await;
    let attempts = |letter: &Value| (letter["id"] == address, letter["attempts"].clone());
    let attempts: BTreeMap<bool, Value> = listed["dead_letters"].as_array().unwrap().iter().map(attempts).collect();
    let letters = listed["dead_letters"].as_array().unwrap();
    let without_detail = letters.iter().find(|letter| letter["detail"] == "").unwrap();
    assert_eq!(without_detail["meaning"], "the job's job_status is missing or unknown");
    assert_eq!(attempts, BTreeMap::from([(true, 2.into()), (false, 1.into())]), "only the named one is retried");
    test.collection("recruiters").delete_one(doc! { "_id": id(&other) }).await.unwrap();
    settled(&test.database).await;

    refuse("Vendeur").await;
    let retried = Processor::command(&["dead-letters", "retry", address], &test, &[]).await;
    assert_eq!((retried.code, retried.stdout.trim()), (0, "1 dead letter before, 0 now"));
    assert_eq!(offers::read(&test.database).await.len(), 1);
    assert_eq!(Processor::command(&failing, &test, &[]).await.code, 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_letter_is_forgotten_by_the_instance_until_its_document_fails_again() {
    let test = TestDatabase::create("command_drop").await;
    let processor = started(&test).await;
    let broken = recruiter([with(job("Boulanger"), doc! { "job_status": "?" })]);
    test.collection("recruiters").insert_one(&broken).await.unwrap();
    settled(&test.database).await;
    let address = format!("recruiters/{}/{}", id(&broken), first_job(&broken));
    let shown = printed(&["dead-letters", "show", &address, "--json"], &test).await;
    assert_eq!(shown["reason"], "unknown_job_status");
    assert!(shown["advice"].as_str().unwrap().contains("correct it in recruiters"));

    let dropped = Processor::command(&["dead-letters", "drop", &address, "--reason", "stays"], &test, &[]).await;
    assert_eq!((dropped.code, dropped.stdout.trim()), (0, "1 dead letter dropped"), "{}", dropped.stderr);
    eventually(PATIENCE, "the instance has forgotten it", async || {
        let counted = processor.metric(r#"stream_processor_dead_letters{reason="unknown_job_status"}"#).await;
        (counted == Some(0.0)).then_some(())
    })
    .await;
    for command in [&["show", &address][..], &["drop", &address, "--reason", "again"]] {
        let arguments = [&["dead-letters"], command].concat();
        assert_eq!(Processor::command(&arguments, &test, &[]).await.code, 1, "{command:?}");
    }
    let touch = doc! { "$set": { "updatedAt": DateTime::now() } };
    test.collection("recruiters").update_one(doc! { "_id": id(&broken) }, touch).await.unwrap();
    settled(&test.database).await;
    let again = printed(&["dead-letters", "show", &address, "--json"], &test).await;
    assert_eq!(again["attempts"], 1, "it is a new one");
    stopped(processor).await;
}

fn recruiter_with_unknown_status() -> Document {
    recruiter([with(job("Vendeur"), doc! { "job_status": "?" })])
}

/// So many that a command works on them for seconds under [`SLOW`], in steps of 200.
const MANY: usize = 1_000;
const SLOW: (&str, &str) = ("STREAM_PROCESSOR__THROTTLE__MAX_WRITES_PER_SECOND", "200");

/// Many recruiters, whose offers are spoiled; gives back the offers as they were.
async fn many_spoiled(test: &TestDatabase) -> BTreeMap<ObjectId, Document> {
    let all: Vec<Document> = (0..MANY).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    settled(&test.database).await;
    let right = offers::read(&test.database).await;
    spoil(test).await;
    right
}

/// What no event tells of.
async fn spoil(test: &TestDatabase) {
    let wrong = doc! { "$set": { "workplace_brand": "spoiled", "offer_title": "spoiled" } };
    test.collection("jobs_partners").update_many(doc! {}, wrong).await.unwrap();
}

/// The command under way, once two steps are done.
async fn progress(test: &TestDatabase) -> Option<Document> {
    let running = doc! { "state": "running", "progress.recruiters": { "$gte": 400 } };
    test.collection("stream_processor_commands").find_one(running).await.unwrap()
}

async fn printed(arguments: &[&str], test: &TestDatabase) -> Value {
    let ended = Processor::command(arguments, test, &[]).await;
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
