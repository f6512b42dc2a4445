//! Signals: an operator without a shell looks, pauses, resumes and replays with documents in the database, and each signal
//! is carried out once, whoever dies meanwhile.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const ON: (&str, &str) = ("STREAM_PROCESSOR__SIGNALS__ENABLED", "true");
const SIGNALS: &str = "stream_processor_signals";

/// Inserts a signal and waits for its answer.
async fn answered(test: &TestDatabase, signal: Document) -> Document {
    let signals = test.collection(SIGNALS);
    let id = signals.insert_one(signal).await.unwrap().inserted_id;
    eventually(PATIENCE, "the answer to a signal", async || {
        let found = signals.find_one(doc! { "_id": &id }).await.unwrap().unwrap();
        found.contains_key("answered_at").then_some(found)
    })
    .await
}

fn answer(signal: &Document) -> &Document {
    signal.get_document("answer").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_a_shell_looks_pauses_resumes_and_replays() {
    let test = TestDatabase::create("signals").await;
    let (began, recruiter) = (DateTime::now(), recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let leader = started_with(&test, &[ON]).await;
    let standby = started_with(&test, &[ON]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    // The instance reads the state of the service now and then, so the first answers may be those of its start.
    eventually(PATIENCE, "the status of a service in step", async || {
        let status = answered(&test, doc! { "signal": "status" }).await;
        assert_eq!(text(&status, "state"), "done", "{status}");
        let of_leader = text(answer(&status).get_document("instance").unwrap(), "role") == "leader";
        assert!(of_leader, "the leader answers: {status}");
        (text(answer(&status).get_document("verdict").unwrap(), "state") == "in_step").then_some(())
    })
    .await;

    let paused = answered(&test, doc! { "signal": "pause", "reason": "a test", "limit": "30m", "by": PERSONAL }).await;
    assert_eq!(text(&paused, "state"), "done", "{paused}");
    let pause = state(&test.database, "pause").await.unwrap();
    assert!(text(&pause, "who").contains(PERSONAL) && text(&pause, "who").ends_with("(signal)"), "{pause}");
    let refused = answered(&test, doc! { "signal": "resync", "reason": "a test" }).await;
    assert_eq!(text(&refused, "state"), "refused", "{refused}");
    assert!(text(answer(&refused), "reason").contains("the service is paused"), "{refused}");
    let resumed = answered(&test, doc! { "signal": "resume", "reason": "it is over" }).await;
    assert!(answer(&resumed).get_i64("seconds").is_ok(), "{resumed}");
    assert_eq!(state(&test.database, "pause").await, None);

    let wrong = doc! { "$set": { "offer_title": "wrong" } };
    test.collection("jobs_partners").update_one(doc! { "_id": first_job(&recruiter) }, wrong).await.unwrap();
    let replayed = answered(&test, doc! { "signal": "replay", "from": began }).await;
    assert_eq!(answer(&replayed).get("changed").and_then(Bson::as_i64), Some(1), "{replayed}");
    assert_eq!(text(&offers::read(&test.database).await[&first_job(&recruiter)], "offer_title"), "Boulanger");
    let commands = test.collection("stream_processor_commands");
    assert_eq!(commands.count_documents(doc! {}).await.unwrap(), 3, "two instances store each command once");

    let unknown = answered(&test, doc! { "signal": "backfill", "recruiter": id(&recruiter), "force": true }).await;
    assert!(text(answer(&unknown), "reason").contains("force"), "{unknown}");
    for processor in [leader, standby] {
        assert!(!processor.stderr().contains(PERSONAL));
        stopped(processor).await;
    }
}

/// The instance that accepted a signal died before it stored the command.
#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_signal_is_carried_out_by_the_next_instance_once() {
    let test = TestDatabase::create("signals_crash").await;
    let command = ObjectId::new();
    let accepted = doc! {
        "signal": "resync", "reason": "a test", "state": "accepted", "command": command, "who": "an operator (signal)",
        "order": { "name": "resync", "reason": "a test" },
    };
    let forged = doc! {
        "signal": "status", "state": "accepted", "command": ObjectId::new(), "who": "an operator (signal)",
        "order": { "name": "obfuscate" },
    };
    let old = doc! { "signal": "status", "state": "done", "answered_at": DateTime::from_millis(0) };
    test.collection(SIGNALS).insert_many([accepted, forged, old]).await.unwrap();
    let processor = started_with(&test, &[ON]).await;
    let signals = test.collection(SIGNALS);
    let done = eventually(PATIENCE, "the answer", async || {
        signals.find_one(doc! { "command": command, "state": "done" }).await.unwrap()
    })
    .await;
    assert_eq!(answer(&done).get("changed").and_then(Bson::as_i64), Some(0), "{done}");
    let commands = test.collection("stream_processor_commands");
    let refused =
        eventually(PATIENCE, "the refusal", async || signals.find_one(doc! { "state": "refused" }).await.unwrap())
            .await;
    assert!(text(answer(&refused), "reason").contains("command and order were changed"), "{refused}");
    assert_eq!(commands.count_documents(doc! {}).await.unwrap(), 1, "no other command is reached by a forged signal");
    eventually(PATIENCE, "the deletion of answers of long ago", async || {
        (signals.count_documents(doc! {}).await.unwrap() == 2).then_some(())
    })
    .await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_left_alone_unless_they_are_turned_on() {
    let test = TestDatabase::create("signals_off").await;
    test.collection(SIGNALS).insert_one(doc! { "signal": "status" }).await.unwrap();
    let processor = started(&test).await;
    settled(&test.database).await;
    stopped(processor).await;
    let on = started_with(&test, &[ON]).await;
    let signals = test.collection(SIGNALS);
    let done =
        eventually(PATIENCE, "the answer", async || signals.find_one(doc! { "state": "done" }).await.unwrap()).await;
    let after = done.get_str("instance").unwrap().to_owned();
    assert!(on.http_get("/api/status").await.1.contains(&after), "only the instance with signals.enabled answered");
    stopped(on).await;
}
