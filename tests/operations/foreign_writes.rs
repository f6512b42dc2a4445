//! Who else changes our offers: foreign writes are counted and told once, and neither the service's own writes nor those
//! to offers of other partners count.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use serde_json::{Value, json};

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const BURST: (&str, &str) = ("STREAM_PROCESSOR__FOREIGN_WRITES__BURST", "3");

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_others_to_our_offers_are_counted_by_field_and_a_burst_is_one_event() {
    let test = TestDatabase::create("foreign_writes").await;
    let recruiters: Vec<Document> = (0..4).map(|_| recruiter([job("Boulanger"), job("Serveur")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started_with(&test, &[BURST]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let offers = test.collection("jobs_partners");
    let ours = offers.find_one(doc! {}).await.unwrap().unwrap();
    let foreign: Vec<Document> = (0..50).map(|number| another_partner(&ours, number)).collect();
    offers.insert_many(&foreign).await.unwrap();
    let of_others = doc! { "partner_label": "another partner" };
    offers.update_many(of_others.clone(), doc! { "$set": { "rank": 3, "offer_title": PERSONAL } }).await.unwrap();
    offers.delete_one(of_others).await.unwrap();

    let mine = doc! { "_id": ours.get_object_id("_id").unwrap() };
    let closing = doc! { "status": "Cancelled", "reason": PERSONAL, "date": DateTime::now(), "granted_by": "SERVEUR" };
    let close = doc! { "$set": { "offer_status": "Cancelled" }, "$push": { "offer_status_history": closing } };
    offers.update_one(mine.clone(), close).await.unwrap();
    let label = ours.get_str("partner_label").unwrap();
    let all_of_ours = doc! { "partner_label": label };
    let ranked = offers.update_many(all_of_ours, doc! { "$inc": { "rank": 1 } }).await.unwrap();
    assert_eq!(ranked.modified_count, 8);
    let another = doc! { "_id": { "$ne": ours.get_object_id("_id").unwrap() }, "partner_label": label };
    offers.update_one(another, doc! { "$set": { "partner_label": "stolen", PERSONAL: 1 } }).await.unwrap();
    offers.delete_one(mine).await.unwrap();

    eventually(PATIENCE, "the foreign writes are stored", async || (shown(&test).await["writes"] == 11).then_some(()))
        .await;
    let counted = shown(&test).await;
    assert_eq!(counted["by_operation"], json!({ "update": 10, "delete": 1 }));
    let fields = json!({
        "offer_status": 1, "offer_status_history": 1, "other": 1, "partner_label": 1, "rank": 8,
    });
    assert_eq!(counted["by_field"], fields);
    let seen = |metric: &str| format!("stream_processor_foreign_write{metric}");
    assert_eq!(processor.metric(&seen("s_total{operation=\"update\"}")).await, Some(10.0));
    assert_eq!(processor.metric(&seen("_fields_total{field=\"rank\"}")).await, Some(8.0));
    eventually(PATIENCE, "page and API tell", async || {
        let (_, status) = processor.http_get("/api/status").await;
        let status: Value = serde_json::from_str(&status).unwrap();
        let (_, page) = processor.http_get("/").await;
        let told = status["service"]["foreign_writes"] == counted && page.contains("Others wrote to our offers");
        told.then_some(())
    })
    .await;
    let text = Processor::command(&["status"], &test, &[]).await.stdout;
    assert!(text.contains("11 writes of others to our offers") && !text.contains(PERSONAL), "{text}");

    stopped(processor).await;
    let bursts = events(&test).await;
    let writes: i64 = bursts.iter().map(|burst| burst["writes"].as_i64().unwrap()).sum();
    assert!(
        !bursts.is_empty() && bursts.len() <= 2 && writes >= 3,
        "a burst may go over the end of a minute: {bursts:?}"
    );
    assert!(!format!("{bursts:?}").contains(PERSONAL));
}

/// Own writes of each kind: creations, changes, cancellations, anonymisations, and transactions of time-based jobs.
#[tokio::test(flavor = "multi_thread")]
async fn the_services_own_writes_do_not_count_in_any_phase() {
    let test = TestDatabase::create("foreign_own").await;
    let recruiters: Vec<Document> = (0..120).map(|_| recruiter([job("Boulanger"), job("Serveur")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started_with(&test, &[BURST]).await;
    until_no_resync(&test.database).await;
    let source = test.collection("recruiters");
    for phase in ["sync", "dual-write"] {
        if phase == "dual-write" {
            let step = ["phase", "set", phase, "--force", "--reason", "a test"];
            assert_eq!(Processor::command(&step, &test, &[]).await.code, 0);
        }
        for round in 0..5 {
            let title = format!("{phase} {round}");
            let change = doc! { "$set": { "jobs.0.offer_title_custom": &title, "updatedAt": DateTime::now(), "jobs.0.job_update_date": DateTime::now() } };
            source.update_many(doc! {}, change).await.unwrap();
        }
        let expired = doc! { "$set": { "jobs.1.job_expiration_date": DateTime::from_millis(1_000) } };
        source.update_many(doc! {}, expired).await.unwrap();
        source.update_one(doc! { "_id": id(&recruiters[0]) }, doc! { "$pop": { "jobs": 1 } }).await.unwrap();
        settled(&test.database).await;
        for command in [&["jobs", "run", "cancel-expired-offers"][..], &["backfill"], &["verify", "--repair"]] {
            let ended = Processor::command(command, &test, &[]).await;
            assert!(ended.code <= 1, "{command:?}: {}", ended.stderr);
        }
    }
    let mut gone = recruiters[1].clone();
    gone.insert("jobs", bson::Array::new());
    test.collection("anonymized_recruiters").insert_one(&gone).await.unwrap();
    source.delete_one(doc! { "_id": id(&gone) }).await.unwrap();
    settled(&test.database).await;
    let offers = test.collection("jobs_partners");
    assert!(offers.count_documents(doc! { "offer_status": "Cancelled" }).await.unwrap() > 100);

    // The watch is behind this write when it has counted it, and then it has seen all others.
    offers.update_one(doc! { "offer_status": "Active" }, doc! { "$set": { "rank": 9 } }).await.unwrap();
    eventually(PATIENCE, "the foreign write is stored", async || {
        (shown(&test).await["writes"].as_i64() > Some(0)).then_some(())
    })
    .await;
    let counted = shown(&test).await;
    assert_eq!((&counted["writes"], &counted["by_field"]), (&json!(1), &json!({ "rank": 1 })), "{counted}");
    stopped(processor).await;
    assert!(events(&test).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_watched_where_the_watch_is_off_and_old_counts_are_deleted_where_it_is_on() {
    let test = TestDatabase::create("foreign_off").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let days_ago = |days: i64| DateTime::from_millis(DateTime::now().timestamp_millis() - days * 86_400_000);
    let counts = test.collection("stream_processor_foreign_writes");
    let minute =
        |days: i64| doc! { "_id": { "minute": days_ago(days), "term": 1_i64 }, "at": days_ago(days), "days": days };
    counts.insert_many([minute(91), minute(89)]).await.unwrap();
    for enabled in ["false", "true"] {
        let processor = started_with(&test, &[BURST, ("STREAM_PROCESSOR__FOREIGN_WRITES__ENABLED", enabled)]).await;
        until_no_resync(&test.database).await;
        test.collection("jobs_partners").update_one(doc! {}, doc! { "$inc": { "rank": 1 } }).await.unwrap();
        settled(&test.database).await;
        if enabled == "true" {
            eventually(PATIENCE, "the old counts are gone", async || {
                counts.find_one(doc! { "days": 91 }).await.unwrap().is_none().then_some(())
            })
            .await;
        }
        stopped(processor).await;
    }
    assert_eq!(shown(&test).await["writes"], 1);
    assert!(counts.find_one(doc! { "days": 89 }).await.unwrap().is_some());
}

fn another_partner(ours: &Document, number: i32) -> Document {
    let mut offer = ours.clone();
    offer.extend(doc! {
        "_id": ObjectId::new(), "partner_label": "another partner", "partner_job_id": number.to_string(),
    });
    offer
}

/// The foreign writes of the last hour, as `status` has them.
async fn shown(test: &TestDatabase) -> Value {
    let shown = Processor::command(&["status", "--json"], test, &[]).await;
    serde_json::from_str::<Value>(&shown.stdout).unwrap()["foreign_writes"].clone()
}

async fn events(test: &TestDatabase) -> Vec<Value> {
    let ended = Processor::command(&["events", "--ndjson", "--kind", "foreign_writes"], test, &[]).await;
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
