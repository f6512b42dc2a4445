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
    until_answered(test, &id).await
}

async fn until_answered(test: &TestDatabase, id: &Bson) -> Document {
    let signals = test.collection(SIGNALS);
    eventually(PATIENCE, "the answer to a signal", async || {
        let found = signals.find_one(doc! { "_id": id }).await.unwrap().unwrap();
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

/// The instance that accepted a signal died after it stored the command.
#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_signal_is_carried_out_by_the_next_instance_once() {
    let test = TestDatabase::create("signals_crash").await;
    let (signals, commands) = (test.collection(SIGNALS), test.collection("stream_processor_commands"));
    let signal = signals.insert_one(doc! { "signal": "resync", "reason": "a test" }).await.unwrap().inserted_id;
    let stored = doc! {
        "_id": &signal, "signal": true, "order": { "name": "resync", "reason": "a test" }, "state": "requested",
        "who": "an operator (signal)", "requested_at": DateTime::now(), "progress": {},
    };
    commands.insert_one(stored).await.unwrap();
    let old = doc! { "signal": "status", "state": "done", "answered_at": DateTime::from_millis(0) };
    signals.insert_one(old).await.unwrap();
    let processor = started_with(&test, &[ON]).await;
    let done = until_answered(&test, &signal).await;
    assert_eq!(answer(&done).get("changed").and_then(Bson::as_i64), Some(0), "{done}");
    assert_eq!(commands.count_documents(doc! {}).await.unwrap(), 1);
    eventually(PATIENCE, "the deletion of answers of long ago", async || {
        (signals.count_documents(doc! {}).await.unwrap() == 1).then_some(())
    })
    .await;
    stopped(processor).await;
}

/// Whoever may insert signals writes all their fields and chooses their ids. Neither reaches another command, a command of
/// somebody else, or a command of another day, and none of this holds up a pause.
#[tokio::test(flavor = "multi_thread")]
async fn no_signal_reaches_more_than_its_words_say_and_none_holds_up_another() {
    let test = TestDatabase::create("signals_forged").await;
    let (signals, commands) = (test.collection(SIGNALS), test.collection("stream_processor_commands"));
    let other = ObjectId::new();
    let of_somebody_else = doc! {
        "_id": other, "order": { "name": "resync", "reason": "another" }, "state": "done", "who": "somebody",
        "requested_at": DateTime::now(), "finished_at": DateTime::now(), "progress": {},
        "result": { "done": true, "details": { "secret": 1 } },
    };
    commands.insert_one(&of_somebody_else).await.unwrap();
    let order = doc! { "name": "run-job", "job": "anonymize-inactive-users", "now": DateTime::MAX };
    let accepted = |order: Document| {
        doc! { "signal": "status", "state": "accepted", "command": ObjectId::new(), "who": "ticker", "order": order }
    };
    let long_ago = ObjectId::parse_str(format!("65020000{}", &ObjectId::new().to_hex()[8..])).unwrap();
    let mut forged = vec![
        accepted(order.clone()),
        accepted(doc! { "name": "stepdown", "seconds": "x" }),
        doc! { "state": "accepted", "command": other },
        doc! { "_id": other, "signal": "resync", "reason": "a test" },
        doc! { "signal": "status", "state": Bson::Null },
        doc! { "signal": "resync", "reason": "a test", "order": order },
        doc! { "_id": "no id", "signal": "resync", "reason": "a test" },
        doc! { "_id": long_ago, "signal": "resync", "reason": "a test" },
        doc! { "signal": "resync", "reason": "x".repeat(9 << 20) },
        doc! { "signal": "resync", "reason": "a test", "by": "x".repeat(9 << 20) },
        doc! { "signal": "resync", "state": "accepted", "reason": "x".repeat(15 << 20) },
    ];
    forged.extend((0..60).map(|number| doc! { "signal": "nothing", "number": number }));
    for signal in &mut forged {
        if !signal.contains_key("_id") {
            signal.insert("_id", ObjectId::new());
        }
        signals.insert_one(&*signal).await.unwrap();
    }
    let processor = started_with(&test, &[ON]).await;
    let paused = answered(&test, doc! { "signal": "pause", "reason": "a test" }).await;
    assert_eq!(text(&paused, "state"), "done", "{paused}");
    for signal in &forged {
        let refused = until_answered(&test, signal.get("_id").unwrap()).await;
        assert_eq!(text(&refused, "state"), "refused", "{:?}", answer(&refused));
        assert!(!text(answer(&refused), "reason").contains("BSON"), "{:?}", answer(&refused));
    }
    assert_eq!(commands.count_documents(doc! {}).await.unwrap(), 2, "only the pause is a new command");
    assert_eq!(commands.find_one(doc! { "_id": other }).await.unwrap(), Some(of_somebody_else));
    stopped(processor).await;
}

/// The leader may have signals turned off while they are being turned on, instance by instance.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_answers_for_a_leader_without_signals() {
    let test = TestDatabase::create("signals_standby").await;
    let leader = started(&test).await;
    let standby = started_with(&test, &[ON]).await;
    let signals = test.collection(SIGNALS);
    signals.insert_many((0..60).map(|_| doc! { "signal": "status" })).await.unwrap();
    let paused = answered(&test, doc! { "signal": "pause", "reason": "a test" }).await;
    assert_eq!(text(&paused, "state"), "done", "{paused}");
    let status = answered(&test, doc! { "signal": "status" }).await;
    assert_eq!(text(answer(&status).get_document("instance").unwrap(), "role"), "standby", "{status}");
    for processor in [leader, standby] {
        stopped(processor).await;
    }
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
