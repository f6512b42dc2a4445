//! The steps between phases (spec 04, "Transitions"): what refuses them, what overrides, and what `retired` leaves.

use bson::oid::ObjectId;
use bson::{DateTime, Document, Timestamp, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{settled, state, until_no_resync, writes};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

/// Text in the refusal and in `phase show`, by what is wrong.
const CONDITIONS: [(&str, Fault); 5] = [
    ("a full verification", Fault::NotVerified),
    ("lag", Fault::NoLeader),
    ("dead letters", Fault::DeadLetter),
    ("command running", Fault::Command),
    ("open gap", Fault::Gap),
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    NotVerified,
    NoLeader,
    DeadLetter,
    Command,
    Gap,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_forward_is_refused_until_every_condition_is_met_and_each_one_is_named() {
    let test = TestDatabase::create("steps_refused").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    eventually(PATIENCE, "all is well", async || {
        json(&phase(&["show", "--json"], &test).await)["may_go_on"].as_bool().filter(|may| *may)
    })
    .await;
    let mut processor = Some(processor);
    for (named, fault) in CONDITIONS {
        cause(&test, fault, &mut processor).await;
        let shown = json(&phase(&["show", "--json"], &test).await);
        let unmet: Vec<&Value> =
            shown["conditions"].as_array().unwrap().iter().filter(|condition| condition["met"] == false).collect();
        assert!(matches!(unmet.as_slice(), [one] if one["condition"].as_str().unwrap().contains(named)), "{shown:#}");
        let printed = phase(&["show"], &test).await.stdout;
        assert!(printed.lines().any(|line| line.contains('✗') && line.contains(named)), "{printed}");
        let refused = phase(&["set", "shadow"], &test).await;
        assert_eq!(refused.code, 1, "{fault:?}");
        assert!(refused.stderr.contains(named) && refused.stderr.contains("--force"), "{}", refused.stderr);
        assert_eq!(json(&phase(&["show", "--json"], &test).await)["phase"], "dual-write");
        mend(&test, fault, &mut processor).await;
    }
    let step = phase(&["set", "shadow"], &test).await;
    assert_eq!(step.code, 0, "{}", step.stderr);
    stopped(processor.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_dead_letter_does_not_open_the_gate_while_its_job_has_no_offer() {
    let test = TestDatabase::create("steps_dropped").await;
    let broken = recruiter([with(job("Vendeur"), doc! { "job_status": "Statut inconnu" })]);
    test.collection("recruiters").insert_one(&broken).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0, "the dead letter explains it");
    let address = format!("recruiters/{}/{}", id(&broken), first_job(&broken));
    let drop = ["dead-letters", "drop", &address, "--reason", "it is in the way"];
    assert_eq!(Processor::command(&drop, &test, &[]).await.code, 0);
    let refused = phase(&["set", "shadow"], &test).await;
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("no job lacks its offer because of a fault: 1 job that cannot"),
        "{}",
        refused.stderr
    );
    let commands = test.collection("stream_processor_commands");
    let stored = commands.find_one(doc! { "order.name": "drop-dead-letters" });
    let stored = stored.await.unwrap().expect("the command is kept");
    assert_eq!(text(stored.get_document("order").unwrap(), "reason"), "it is in the way");

    let corrected = doc! { "$set": { "jobs.0.job_status": "Active" } };
    test.collection("recruiters").update_one(doc! { "_id": id(&broken) }, corrected).await.unwrap();
    settled(&test.database).await;
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    let step = phase(&["set", "shadow"], &test).await;
    assert_eq!(step.code, 0, "{}", step.stderr);
    let log = stopped(processor).await.stderr;
    assert!(!log.contains("in the way"), "what a person typed is stored, not logged: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_forced_only_with_a_reason_and_what_it_overrode_is_recorded() {
    let test = TestDatabase::create("steps_forced").await;
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    let without_reason = phase(&["set", "shadow", "--force"], &test).await;
    assert_eq!(without_reason.code, 2, "{}", without_reason.stderr);
    let forced = phase(&["set", "shadow", "--force", "--reason", "nobody verified"], &test).await;
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    let history = json(&phase(&["history", "--json"], &test).await);
    let last = history["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["to"], &last["reason"]), (&"shadow".into(), &"nobody verified".into()));
    let overridden = last["overridden"].as_array().unwrap();
    assert!(overridden.iter().any(|condition| condition.as_str().unwrap().contains("a full verification")), "{last}");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_neighbouring_phases_can_be_entered_and_a_word_that_is_none_is_a_usage_error() {
    let test = TestDatabase::create("steps_far").await;
    let processor = started(&test).await;
    let same = phase(&["set", "sync"], &test).await;
    assert_eq!((same.code, same.stdout.trim()), (0, "the phase is sync already; nothing was done"));
    for far in ["shadow", "retired"] {
        let refused = phase(&["set", far, "--force", "--reason", "a test"], &test).await;
        assert_eq!(refused.code, 1, "{far}");
        assert!(refused.stderr.contains("the phase is sync"), "{}", refused.stderr);
    }
    let none = phase(&["set", "paused"], &test).await;
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("sync, dual-write, shadow, retired"), "{}", none.stderr);
    stopped(processor).await;
}

/// The other direction may hold newer data: nothing is overwritten before somebody has seen what differs.
#[tokio::test(flavor = "multi_thread")]
async fn back_from_shadow_what_differs_is_said_first_and_then_everything_is_looked_at_again() {
    let test = TestDatabase::create("steps_back").await;
    let [older, newer] = [(); 2].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many([&older, &newer]).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE, NO_MIRROR]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    force(&test, "shadow").await;
    // Applications write offers now; one of them forgot the date, and a recruiter gets a job that nobody writes.
    let date = DateTime::from_millis(1_800_000_000_000);
    for (recruiter, fields) in
        [(&older, doc! { "offer_title": "old" }), (&newer, doc! { "offer_title": "new", "updated_at": date })]
    {
        let offer = doc! { "_id": first_job(recruiter) };
        test.collection("jobs_partners").update_one(offer, doc! { "$set": fields }).await.unwrap();
    }
    let more = job("Vendeur");
    test.collection("recruiters")
        .update_one(doc! { "_id": id(&older) }, doc! { "$push": { "jobs": &more } })
        .await
        .unwrap();
    settled(&test.database).await;
    let before = offers::read(&test.database).await;
    assert_eq!(before.len(), 2, "nothing is written in shadow");

    let refused = phase(&["set", "dual-write"], &test).await;
    assert_eq!(refused.code, 1);
    for told in ["offer_title", "missing_offer", "2 differences", &first_job(&older).to_hex()] {
        assert!(refused.stderr.contains(told), "{told} in {}", refused.stderr);
    }
    assert!(!refused.stderr.contains(&first_job(&newer).to_hex()), "a newer offer is not overwritten");
    offers::assert_same(&before, &offers::read(&test.database).await);
    force(&test, "dual-write").await;
    until_no_resync(&test.database).await;
    let after = offers::read(&test.database).await;
    let titles = [first_job(&older), first_job(&newer), id(&more)].map(|offer| text(&after[&offer], "offer_title"));
    assert_eq!(titles, ["Boulanger", "new", "Vendeur"]);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_closes_the_streams_of_recruiters_and_a_stale_instance_writes_nothing() {
    let test = TestDatabase::create("steps_retired").await;
    let recruiter = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    for to in ["shadow", "retired"] {
        force(&test, to).await;
    }
    let tombstone = state(&test.database, "tombstone").await.unwrap();
    assert!(tombstone.get_document("token").unwrap().contains_key("_data"), "{tombstone}");
    assert!(tombstone.get_timestamp("cluster_time").is_ok(), "{tombstone}");
    assert!(phase(&["show"], &test).await.stdout.contains("may be switched off"));
    let read = async |processor: &Processor| {
        processor.metric("stream_processor_events_total{collection=\"recruiters\",operation=\"update\"}").await
    };
    let known = read(&processor).await;
    let began = change(&test, &recruiter).await;
    settled(&test.database).await;
    // Nobody is alarmed when what is not needed any more is removed.
    test.collection("recruiters").drop().await.unwrap();
    settled(&test.database).await;
    assert_eq!(read(&processor).await, known, "no event of recruiters is read");
    assert_eq!(processor.http_get("/readyz").await.0, 200);
    stopped(processor).await;
    assert!(writes(&test.database, "jobs_partners", began).await.is_empty());

    // An instance with another configuration, and a database that lost the document of its phase.
    test.collection("stream_processor_state").delete_one(doc! { "_id": "phase" }).await.unwrap();
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let stale = [
        ("STREAM_PROCESSOR__PHASE__INITIAL", "sync"),
        ("STREAM_PROCESSOR__TOKENS__STORE", "files"),
        ("STREAM_PROCESSOR__TOKENS__DIRECTORY", files.path().to_str().unwrap()),
    ];
    let processor = started_with(&test, &stale).await;
    until_no_resync(&test.database).await;
    let began = change(&test, &recruiter).await;
    let user = ObjectId::new();
    test.collection("userswithaccounts").insert_one(doc! { "_id": user }).await.unwrap();
    eventually(PATIENCE, "later events are read", async || {
        let series = "stream_processor_events_total{collection=\"userswithaccounts\",operation=\"insert\"}";
        processor.metric(series).await.filter(|count| *count >= 1.0)
    })
    .await;
    stopped(processor).await;
    let refused = Processor::command(&["backfill"], &test, &stale).await;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(writes(&test.database, "jobs_partners", began).await.is_empty());
    assert!(phase(&["show"], &test).await.stdout.contains("tombstone"));

    force(&test, "shadow").await;
    assert_eq!(state(&test.database, "tombstone").await, None);
}

/// Without it the offers come back to `recruiters`, and nothing differs.
const NO_MIRROR: (&str, &str) = ("STREAM_PROCESSOR__PHASE__KEEP_RECRUITERS_BACKUP", "false");
const DUAL_WRITE: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");

async fn cause(test: &TestDatabase, fault: Fault, processor: &mut Option<Processor>) {
    let states = test.collection("stream_processor_state");
    match fault {
        Fault::NotVerified => {
            let differences = doc! { "$set": { "differences": 3_i64 } };
            states.update_one(doc! { "_id": "verification" }, differences).await.unwrap();
        }
        Fault::NoLeader => {
            if let Some(processor) = processor.take() {
                stopped(processor).await;
            }
        }
        Fault::DeadLetter => insert(test, "stream_processor_dead_letters", doc! { "reason": "missing_cfa" }).await,
        // One that nobody takes up, as one that waits for its turn.
        Fault::Command => {
            let waiting = doc! { "state": "requested", "term": i64::MAX };
            insert(test, "stream_processor_commands", waiting).await;
        }
        Fault::Gap => {
            insert(test, "stream_processor_gaps", doc! { "state": "open", "from": Timestamp { time: 1, increment: 0 } })
                .await
        }
    }
}

async fn mend(test: &TestDatabase, fault: Fault, processor: &mut Option<Processor>) {
    match fault {
        Fault::NotVerified => {
            assert_eq!(Processor::command(&["verify"], test, &[]).await.code, 0);
        }
        Fault::NoLeader => {
            *processor = Some(started(test).await);
            eventually(PATIENCE, "its lag is known", async || {
                state(&test.database, "lease").await?.get_f64("lag_seconds").ok()
            })
            .await;
        }
        Fault::DeadLetter => clear(test, "stream_processor_dead_letters").await,
        Fault::Command => clear(test, "stream_processor_commands").await,
        Fault::Gap => clear(test, "stream_processor_gaps").await,
    }
}

async fn insert(test: &TestDatabase, collection: &str, document: Document) {
    test.collection(collection).insert_one(document).await.unwrap();
}

async fn clear(test: &TestDatabase, collection: &str) {
    test.collection(collection).delete_many(doc! {}).await.unwrap();
}

/// A change that every projection would follow; gives back the time before it.
async fn change(test: &TestDatabase, recruiter: &Document) -> Timestamp {
    let began = cluster_time_now(&test.database).await;
    let title = doc! { "$set": { "jobs.0.offer_title_custom": "Boulangère", "updatedAt": DateTime::now() } };
    test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, title).await.unwrap();
    began
}

async fn force(test: &TestDatabase, to: &str) {
    let forced = phase(&["set", to, "--force", "--reason", "a test"], test).await;
    assert_eq!(forced.code, 0, "{}", forced.stderr);
}

async fn phase(arguments: &[&str], test: &TestDatabase) -> Ended {
    Processor::command(&[&["phase"], arguments].concat(), test, &[]).await
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
