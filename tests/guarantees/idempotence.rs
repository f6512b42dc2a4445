//! Guarantee 2, idempotent: whatever is looked at again, in whichever way, no offer is written that stands as it should.
//! The target's oplog is the witness, not the service's own counts alone.

use bson::{DateTime, Document, Timestamp, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::golden::{self, operations};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{checkpoint, put_back, settled, state, until_no_resync, writes};
use crate::support::waiting::cluster_time_now;

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_replay_of_all_events_nor_a_resync_nor_a_backfill_writes_an_offer() {
    let test = TestDatabase::with_planned_schema("idempotence_golden").await;
    golden::load_references(&test.database).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let before = checkpoint(&test.database).await;
    golden::load_recruiters(&test.database).await;
    let operations = operations();
    for operation in &operations {
        operation.apply(&test.database).await;
    }
    settled(&test.database).await;
    let events = recruiter_events(&processor).await;
    assert!(events >= 366.0, "events of all recruiters");
    stopped(processor).await;

    put_back(&test.database, before).await;
    let replay = cluster_time_now(&test.database).await;
    let processor = started(&test).await;
    settled(&test.database).await;
    assert!(recruiter_events(&processor).await >= events, "all events are read again");
    assert_wrote_nothing(&test, &processor, replay).await;
    stopped(processor).await;

    test.collection("stream_processor_state").delete_one(doc! { "_id": "checkpoint" }).await.unwrap();
    let resync = cluster_time_now(&test.database).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_wrote_nothing(&test, &processor, resync).await;
    stopped(processor).await;

    let backfill = cluster_time_now(&test.database).await;
    let ended = Processor::command(&["backfill", "--json"], &test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let result: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&result["created"], &result["changed"]), (&0.into(), &0.into()));
    assert!(result["unchanged"].as_u64().unwrap() > 366, "{result}");
    assert_eq!(offers_written(&test, backfill).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_that_no_offer_depends_on_write_nothing() {
    let test = TestDatabase::with_planned_schema("idempotence_edits").await;
    let recruiter = recruiter([job("Boulanger"), job("Pâtissier")]);
    let recruiters = test.collection("recruiters");
    recruiters.insert_one(&recruiter).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    let touches =
        async || processor.metric(r#"stream_processor_touches_total{origin="stream"}"#).await.unwrap_or_default();
    let (edits, touched) = (cluster_time_now(&test.database).await, touches().await);
    let edit = async |update: Document| {
        let changed = recruiters.update_one(doc! { "_id": id(&recruiter) }, update).await.unwrap();
        assert_eq!(changed.modified_count, 1);
        settled(&test.database).await;
    };
    for counter in ["stats_detail_view", "stats_search_view", "stats_postuler"] {
        edit(doc! { "$inc": { format!("jobs.1.{counter}"): 1 } }).await;
    }
    assert_eq!(touches().await, touched, "counters lead to nothing at all");

    // The jobs have dates of their own.
    edit(doc! { "$set": { "updatedAt": DateTime::from_millis(1_760_000_000_000) } }).await;
    edit(doc! { "$set": { "last_name": "autre", "unknown": 1 } }).await;
    edit(doc! { "$set": { "jobs.0.rome_detail": "autre", "jobs.1.job_employer_description": "autre" } }).await;
    edit(doc! { "$set": { "jobs.0.job_count": 1.0, "jobs.1.job_prolongation_count": 0_i64 } }).await;
    let mut jobs = recruiters.find_one(doc! {}).await.unwrap().unwrap().get_array("jobs").unwrap().clone();
    jobs.reverse();
    edit(doc! { "$set": { "jobs": jobs } }).await;
    assert!(touches().await > touched, "they were looked at");
    assert_wrote_nothing_but(&test, &processor, edits, 2).await;
}

/// No offer was created, changed or anonymised in this run of the service, by its own counts and by the oplog.
async fn assert_wrote_nothing(test: &TestDatabase, processor: &Processor, since: Timestamp) {
    assert_wrote_nothing_but(test, processor, since, 0).await;
}

/// The same, where this run created some offers before.
async fn assert_wrote_nothing_but(test: &TestDatabase, processor: &Processor, since: Timestamp, created: u32) {
    let written = async |result: &str| {
        let series = format!("stream_processor_offers_written_total{{result=\"{result}\"}}");
        processor.metric(&series).await.unwrap_or_default()
    };
    assert_eq!(written("created").await, f64::from(created));
    assert_eq!(written("changed").await, 0.0);
    assert!(written("unchanged").await > 0.0, "offers were compared");
    assert_eq!(processor.metric("stream_processor_offers_anonymized_total").await, Some(0.0));
    assert_eq!(offers_written(test, since).await, 0);
    let links = writes(&test.database, "stream_processor_links", since).await;
    assert!(links.is_empty(), "{} writes of links", links.len());
    assert_eq!(state(&test.database, "resync").await, None);
}

async fn offers_written(test: &TestDatabase, since: Timestamp) -> usize {
    writes(&test.database, "jobs_partners", since).await.len()
}

async fn recruiter_events(processor: &Processor) -> f64 {
    let (_, text) = processor.http_get("/metrics").await;
    let series = r#"stream_processor_events_total{collection="recruiters","#;
    let counts = text.lines().filter(|line| line.starts_with(series));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
