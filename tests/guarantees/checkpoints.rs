//! The checkpoint (spec 03, "Checkpoints"): what it says, that it moves on when nothing happens, that it never passes
//! an event that is not applied, and that it gives way to a newer term. Checkpoints in files are in `token_files.rs`.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use resume_tokens::ResumeToken;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::change_streams::events_since;
use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, passing, refuse};
use crate::support::fields::first_job;
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{change_checkpoint, checkpoint, settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

/// Its events come between those of the test.
const RARE_CANARY: (&str, &str) = ("STREAM_PROCESSOR__STREAM__CANARY_INTERVAL", "1h");
const RETRIES: &str = "stream_processor_retries_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_has_the_fields_that_others_read_and_no_more() {
    let test = TestDatabase::create("checkpoint_fields").await;
    let began = cluster_time_now(&test.database).await;
    let mut processor = started_with(&test, &[RARE_CANARY]).await;
    // The stream may open before the first canary is written, or after.
    settled(&test.database).await;
    let before = checkpoint(&test.database).await.get_i64("events").unwrap();
    let recruiters = [recruiter([job("Boulanger")]), recruiter([job("Pâtissier")])];
    for recruiter in &recruiters {
        test.collection("recruiters").insert_one(recruiter).await.unwrap();
    }
    settled(&test.database).await;
    processor.sigterm();
    processor.until_ended().await;

    let checkpoint = checkpoint(&test.database).await;
    let fields: BTreeSet<&str> = checkpoint.keys().map(String::as_str).collect();
    let expected =
        ["_id", "cluster_time", "events", "fingerprint", "history", "term", "token", "updated_at", "wall_time"];
    assert_eq!(fields, BTreeSet::from(expected));
    let token = ResumeToken::from_document(checkpoint.get_document("token").unwrap()).unwrap();
    assert_eq!(checkpoint.get_timestamp("cluster_time").unwrap(), token.cluster_time());
    let lease = state(&test.database, "lease").await.unwrap();
    assert_eq!(checkpoint.get("term"), lease.get("term"));
    assert_eq!(checkpoint.get("term"), Some(&Bson::Int64(1)));
    // Two recruiters. The events by which `settled` knows may come before or after: a reply may pass their time earlier.
    let events = checkpoint.get_i64("events").unwrap() - before;
    assert!((2..=4).contains(&events), "{events} events");
    assert!(!checkpoint.get_str("fingerprint").unwrap().is_empty());
    assert!(checkpoint.get_datetime("updated_at").is_ok());
    let history = checkpoint.get_document("history").unwrap();
    assert_eq!(history.get_str("database").unwrap(), test.name());
    assert!(!history.get_str("set").unwrap().is_empty() && history.get_str("collection").unwrap().len() == 32);
    assert!(matches!(checkpoint.get("wall_time"), Some(Bson::DateTime(_) | Bson::Null)));
    // The last event of the recruiters is not after the position.
    let seen = events_since(&test.collection("recruiters"), began, id(&recruiters[1])).await;
    let last = ResumeToken::from_document(&seen.last().unwrap().token).unwrap();
    assert!(last.cluster_time() <= token.cluster_time());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_moves_on_when_nothing_happens() {
    let test = TestDatabase::create("checkpoint_idle").await;
    let _processor = started_with(&test, &[RARE_CANARY]).await;
    settled(&test.database).await;
    let first = checkpoint(&test.database).await;
    // The renewals of the lease are writes, of which no event comes.
    let mut times = BTreeSet::new();
    eventually(PATIENCE, "three more positions are saved", async || {
        times.insert(checkpoint(&test.database).await.get_timestamp("cluster_time").unwrap());
        (times.len() > 3).then_some(())
    })
    .await;
    let last = checkpoint(&test.database).await;
    assert_eq!(last.get("events"), first.get("events"));
    assert_eq!(last.get("wall_time"), Some(&Bson::Null), "no event");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_never_passes_an_event_that_is_not_applied() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "checkpoint_held").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    // Refused; the connection cut; and what is written but not by a majority, which is sent again.
    let not_by_a_majority = doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
    let cases = [
        ("jobs_partners", passing()),
        ("jobs_partners", doc! { "closeConnection": true }),
        ("stream_processor_links", passing()),
        ("stream_processor_dead_letters", passing()),
        ("stream_processor_dead_letters", not_by_a_majority),
    ];
    for (collection, how) in cases {
        settled(&test.database).await;
        let before = processor.metric(RETRIES).await.unwrap();
        refuse(&test.database, "update", collection, how).await;
        let mut newcomer = recruiter([job("Boulanger"), job("Pâtissier")]);
        newcomer.get_array_mut("jobs").unwrap()[1].as_document_mut().unwrap().insert("job_status", "?");
        let began = cluster_time_now(&test.database).await;
        test.collection("recruiters").insert_one(&newcomer).await.unwrap();
        let event = &events_since(&test.collection("recruiters"), began, id(&newcomer)).await[0].token;
        let event = ResumeToken::from_document(event).unwrap().cluster_time();
        for attempts in 1..=3 {
            eventually(PATIENCE, &format!("{collection}: it is tried again"), async || {
                processor.metric(RETRIES).await.filter(|count| *count >= before + f64::from(attempts))
            })
            .await;
            let held = checkpoint(&test.database).await.get_timestamp("cluster_time").unwrap();
            assert!(held < event, "{collection}: the checkpoint passed the event");
        }
        mend(&test.database).await;
        settled(&test.database).await;
        assert!(checkpoint(&test.database).await.get_timestamp("cluster_time").unwrap() >= event);
        assert!(offers::read(&test.database).await.contains_key(&first_job(&newcomer)));
    }
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_newer_term_is_never_overwritten_and_stops_the_writer() {
    let test = TestDatabase::create("checkpoint_term").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let leads =
        async |expected: f64| processor.metric("stream_processor_leader").await.filter(|leads| *leads == expected);
    assert_eq!(leads(1.0).await, Some(1.0));

    change_checkpoint(&test.database, doc! { "term": 1_000_i64, "events": 7_i64 }).await;
    eventually(PATIENCE, "it stops leading", async || leads(0.0).await).await;
    let newer = checkpoint(&test.database).await;
    assert_eq!((newer.get("term"), newer.get("events")), (Some(&Bson::Int64(1_000)), Some(&Bson::Int64(7))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_grows_by_a_copy_of_the_checkpoint_every_interval() {
    let test = TestDatabase::create("checkpoint_history").await;
    let _processor = started_with(&test, &[("STREAM_PROCESSOR__TOKENS__HISTORY_INTERVAL", "1s")]).await;
    eventually(PATIENCE, "three copies", async || (history(&test).await.len() >= 3).then_some(())).await;
    let copies = history(&test).await;
    let current = checkpoint(&test.database).await;
    for copy in &copies {
        let names = |document: &Document| document.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(copy), names(&current));
        let time = copy.get_timestamp("cluster_time").unwrap();
        assert_eq!(copy.get_str("_id").unwrap(), format!("{}-{}", time.time, time.increment));
        let token = ResumeToken::from_document(copy.get_document("token").unwrap()).unwrap();
        assert_eq!(token.cluster_time(), time);
    }
    let times: Vec<_> = copies.iter().map(|copy| copy.get_timestamp("cluster_time").unwrap()).collect();
    assert!(times.is_sorted() && times.windows(2).all(|pair| pair[0] != pair[1]));
}

async fn history(test: &TestDatabase) -> Vec<Document> {
    let history = test.collection("stream_processor_checkpoints");
    history.find(doc! {}).sort(doc! { "updated_at": 1 }).await.unwrap().try_collect().await.unwrap()
}
