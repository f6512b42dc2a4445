//! `pause`, `resume` and `stepdown`: a paused service reads and writes nothing, whatever restarts meanwhile, and loses
//! nothing; a leader gives the lease to a standby.

use bson::{DateTime, doc};
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, passing, refuse};
use crate::support::fields::first_job;
use crate::support::offers;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{end_lease, settled, state, until_no_resync, writes};
use crate::support::ticking::{ON, Time, date};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const LEASE: [(&str, &str); 1] = [("STREAM_PROCESSOR__LEASE__DURATION", "2s")];
/// What the service writes while it works, beside the lease.
const OURS: [&str; 5] = [
    "jobs_partners",
    "stream_processor_links",
    "stream_processor_canary",
    "stream_processor_checkpoints",
    "stream_processor_job_runs",
];

async fn pause(test: &TestDatabase) -> Ended {
    let ended = Processor::command(&["pause", "--reason", PERSONAL, "--as", PERSONAL], test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended
}

async fn resume(test: &TestDatabase) -> Value {
    let ended = Processor::command(&["resume", "--reason", "a test", "--json"], test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

async fn until_paused(processor: &Processor) {
    eventually(PATIENCE, "it is paused, and ready", async || {
        let (code, answer) = processor.try_get("/readyz").await?;
        (code == 200 && answer.contains(r#""state":"paused""#) && answer.contains(r#""role":"leader""#)).then_some(())
    })
    .await;
}

/// A canary every tenth of a second: what still writes during the pause is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_over_a_change_of_leader_and_loses_nothing() {
    let test = TestDatabase::create("control_pause").await;
    let settings = [LEASE.as_slice(), &[("STREAM_PROCESSOR__STREAM__CANARY_INTERVAL", "100ms")]].concat();
    let mut first = started_with(&test, &settings).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let term = async || state(&test.database, "lease").await.unwrap().get_i64("term").unwrap();
    let led = term().await;
    pause(&test).await;
    assert!(term().await > led, "a late write of the leadership before has a term that is over");
    let since = cluster_time_now(&test.database).await;
    until_paused(&first).await;
    let added = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&added).await.unwrap();

    first.sigkill();
    end_lease(&test.database).await;
    let second = Processor::start(&test, &settings);
    until_paused(&second).await;
    let limit = second.metric("stream_processor_pause_limit_timestamp_seconds").await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let now = (DateTime::now().timestamp_millis() / 1_000) as f64;
    assert!(limit > now + 3_000.0 && limit <= now + 3_600.0, "the limit is an hour: {limit}");
    let refused = Processor::command(&["backfill"], &test, &[]).await;
    assert!(refused.code == 1 && refused.stderr.contains("the service is paused"), "{}", refused.stderr);
    let commands = test.collection("stream_processor_commands");
    assert_eq!(commands.count_documents(doc! { "order.name": "backfill" }).await.unwrap(), 0);
    let until = cluster_time_now(&test.database).await;
    for collection in OURS {
        let mut written = writes(&test.database, collection, since).await;
        written.retain(|entry| entry.get_timestamp("ts").unwrap() <= until);
        assert!(written.is_empty(), "{collection} is written during the pause: {written:#?}");
    }

    let resumed = resume(&test).await;
    assert_eq!((&resumed["ended"], resumed["seconds"].is_i64()), (&"pause".into(), true));
    settled(&test.database).await;
    assert!(offers::read(&test.database).await.contains_key(&first_job(&added)));
    assert_eq!(state(&test.database, "pause").await, None);
    let told = Processor::command(&["events", "--json"], &test, &[]).await.stdout;
    assert!(told.contains("\"paused\"") && told.contains("\"resumed\"") && !told.contains(PERSONAL), "{told}");
    let api = second.http_get("/api/status").await.1;
    assert!(![second.stderr(), first.stderr(), api].iter().any(|told| told.contains(PERSONAL)));
    stopped(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_without_an_instance_is_stored_by_the_command_and_the_next_instance_begins_paused() {
    let test = TestDatabase::create("control_alone").await;
    let none = Processor::command(&["resume", "--reason", "a test"], &test, &[]).await;
    assert!(none.code == 1 && none.stderr.contains("the service is not paused"), "{}", none.stderr);
    pause(&test).await;
    let began = state(&test.database, "pause").await.unwrap().get("since").cloned();
    let again = Processor::command(&["pause", "--reason", "another", "--limit", "1s", "--json"], &test, &[]).await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(state(&test.database, "pause").await.unwrap().get("since"), began.as_ref(), "it is the same pause");

    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = Processor::start(&test, &[]);
    until_paused(&processor).await;
    eventually(PATIENCE, "the limit is over", async || {
        let status = Processor::command(&["status", "--json"], &test, &[]).await.stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!((&status["verdict"]["state"], &status["pause"]["reason"]), (&"paused".into(), &"another".into()));
        (status["verdict"]["severity"] == "bad").then_some(())
    })
    .await;
    stopped(processor).await;
    assert!(offers::read(&test.database).await.is_empty() && state(&test.database, "resync").await.is_none());
    let wrong = Processor::command(&["resume", "--from", "2h ago", "--reason", "a test"], &test, &[]).await;
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    resume(&test).await;
    assert_eq!(state(&test.database, "pause").await, None);
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(offers::read(&test.database).await.len(), 1);
    stopped(processor).await;
}

/// The pipeline repeats its attempt all the time, and looks for no command meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_answered_while_no_offer_can_be_written() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "control_trouble").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    refuse(&test.database, "update", "jobs_partners", passing()).await;
    let added = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&added).await.unwrap();
    eventually(PATIENCE, "an attempt is repeated", async || {
        processor.metric("stream_processor_retries_total").await.filter(|retries| *retries > 1.0)
    })
    .await;
    pause(&test).await;
    until_paused(&processor).await;
    mend(&test.database).await;
    assert!(offers::read(&test.database).await.is_empty());
    resume(&test).await;
    settled(&test.database).await;
    assert!(offers::read(&test.database).await.contains_key(&first_job(&added)));
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_due_during_a_pause_runs_after_it() {
    let test = TestDatabase::create("control_job").await;
    let clock = Time::at("2026-06-14T12:30:00Z");
    let job = ("STREAM_PROCESSOR__TICKER__JOBS__CANCEL_EXPIRED_OFFERS__CRON", "0 * * * *");
    let processor = started_with(&test, &[ON, clock.variable(), job]).await;
    until_no_resync(&test.database).await;
    pause(&test).await;
    until_paused(&processor).await;
    clock.set(date("2026-06-14T13:10:00Z"));
    let due = doc! { "job": "cancel-expired-offers", "scheduled_for": date("2026-06-14T13:00:00Z"), "outcome": "done" };
    let runs = test.collection("stream_processor_job_runs");
    assert_eq!(runs.count_documents(doc! { "job": "cancel-expired-offers" }).await.unwrap(), 0);
    resume(&test).await;
    eventually(PATIENCE, "it has run", async || runs.find_one(due.clone()).await.unwrap()).await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_steps_down_gives_the_lease_to_a_standby_also_during_a_pause() {
    let test = TestDatabase::create("control_stepdown").await;
    let alone = Processor::command(&["stepdown"], &test, &[]).await;
    assert!(alone.code == 1 && alone.stderr.contains("no instance leads"), "{}", alone.stderr);
    let first = started_with(&test, &LEASE).await;
    until_no_resync(&test.database).await;
    let refused = Processor::command(&["stepdown", "--json"], &test, &[]).await;
    assert!(refused.code == 1 && refused.stderr.contains("no standby gives a sign of life"), "{}", refused.stderr);
    let commands = test.collection("stream_processor_commands");
    assert_eq!(commands.count_documents(doc! {}).await.unwrap(), 0, "nothing was asked of the leader");
    let second = Processor::start_ready(&test, &LEASE).await;
    let one = step_down(&test).await;
    assert_eq!(leaders(&[&first, &second]).await, [false, true]);
    pause(&test).await;
    let other = step_down(&test).await;
    assert_eq!(one["leader"], other["stepped_down"]);
    assert_eq!(leaders(&[&first, &second]).await, [true, false]);
    until_paused(&first).await;
    resume(&test).await;
    stopped(first).await;
    stopped(second).await;
}

/// The first instance may ask for the lease again after a second, so that the second one can step down to it.
async fn step_down(test: &TestDatabase) -> Value {
    let standby = doc! { "role": "standby" };
    let signs = test.collection("stream_processor_instances");
    eventually(PATIENCE, "a standby gives a sign", async || signs.find_one(standby.clone()).await.unwrap()).await;
    let ended = Processor::command(&["stepdown", "--for", "1", "--json"], test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

async fn leaders(processors: &[&Processor; 2]) -> [bool; 2] {
    eventually(PATIENCE, "one leads", async || {
        let mut leads = [false; 2];
        for (processor, leads) in processors.iter().zip(&mut leads) {
            *leads = processor.http_get("/readyz").await.1.contains(r#""role":"leader""#);
        }
        (leads[0] != leads[1]).then_some(leads)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_standby_leads_again_and_the_command_says_so() {
    let test = TestDatabase::create("control_nobody").await;
    let processor = started_with(&test, &LEASE).await;
    until_no_resync(&test.database).await;
    let ended = Processor::command(&["stepdown", "--for", "4", "--force", "--json"], &test, &LEASE).await;
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    for told in ["no standby has taken the lease", "leads again; start another instance first"] {
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
    settled(&test.database).await;
    stopped(processor).await;
}
