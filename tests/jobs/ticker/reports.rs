//! The jobs that report, and those that have the pipeline do the work.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use serde_json::Value;

use super::offer_jobs::filled;
use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::ticking::{counts, ran, told};

#[tokio::test(flavor = "multi_thread")]
async fn recruiters_with_siret_and_address_in_common_are_reported_by_id() {
    let test = TestDatabase::create("reports_duplicates").await;
    let same = doc! { "establishment_siret": "12345678901234", "email": format!("{PERSONAL}@example.com") };
    let other = doc! { "establishment_siret": "12345678901234", "email": "other@example.com" };
    let all = [same.clone(), other, same].map(|fields| with(recruiter([]), fields));
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let (code, lines) = told(&["jobs", "run", "report-duplicate-recruiters", "--json"], &test, &[]).await;
    assert_eq!((code, lines.len(), counts(&lines[1])), (0, 2, [1, 0, 0]), "{lines:?}");
    let pair = [lines[0]["id"].as_str().unwrap(), lines[0]["fields"][0].as_str().unwrap()];
    let expected = [&all[0], &all[2]].map(|recruiter| id(recruiter).to_hex());
    assert!(expected.iter().all(|id| pair.contains(&id.as_str())), "{pair:?}");
    assert!(!format!("{lines:?}").contains(PERSONAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn active_offers_of_closed_companies_are_reported_as_table_json_and_csv() {
    let (test, ids) = filled("reports_closed", [doc! {}, doc! { "job_status": "Annulée" }]).await;
    let offer = test.collection("jobs_partners").find_one(doc! { "_id": ids[0] }).await.unwrap().unwrap();
    let siret = offer.get_str("workplace_siret").unwrap();
    let job = "analyze-closed-companies";
    let entry = |state: &str| doc! { "siret": siret, "data": { "data": { "etat_administratif": state } } };
    assert_eq!(ran(job, &[], &test).await["skipped"]["not_in_cache"], 1);
    test.collection("cache_siret").insert_one(entry("A")).await.unwrap();
    assert_eq!(counts(&ran(job, &[], &test).await), [0, 0, 0]);
    let closed = doc! { "$set": { "data.data.etat_administratif": "F" } };
    test.collection("cache_siret").update_one(doc! {}, closed).await.unwrap();
    let (_, lines) = told(&["jobs", "run", job, "--json"], &test, &[]).await;
    assert_eq!((&lines[0]["id"], counts(&lines[1])), (&ids[0].to_hex().into(), [1, 0, 0]));
    let csv = Processor::command(&["jobs", "run", job, "--csv"], &test, &[]).await.stdout;
    assert_eq!(csv, format!("{},closed_company,{siret}\n", ids[0].to_hex()));
    let table = Processor::command(&["jobs", "run", job], &test, &[]).await.stdout;
    assert!(table.contains(&ids[0].to_hex()) && table.contains("1 matched"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_sync_goes_through_the_pipeline_with_and_without_an_instance() {
    let test = TestDatabase::create("reports_full_sync").await;
    let all = [(); 3].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many(&all).await.unwrap();
    assert_eq!(counts(&ran("full-sync", &["--dry-run"], &test).await), [3, 3, 0]);
    assert_eq!(offers::read(&test.database).await.len(), 0);
    assert_eq!(counts(&ran("full-sync", &[], &test).await), [3, 3, 0], "without an instance");
    assert_eq!(counts(&ran("full-sync", &[], &test).await), [3, 0, 0]);
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let wrong = doc! { "$set": { "offer_title": "spoiled" } };
    test.collection("jobs_partners").update_one(doc! {}, wrong).await.unwrap();
    assert_eq!(counts(&ran("full-sync", &[], &test).await), [3, 1, 0]);
    assert_eq!(processor.metric("stream_processor_touches_total{origin=\"backfill\"}").await, Some(3.0));
    stopped(processor).await;
}

/// The validator was corrected since, of which no event tells.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_tried_again_when_they_are_due_and_not_before() {
    let test = TestDatabase::create("reports_letters").await;
    let refused = doc! { "offer_title": { "$ne": "Boulanger" } };
    test.database.create_collection("jobs_partners").validator(refused).await.unwrap();
    let processor = started(&test).await;
    // It would heal the dead letter as well.
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    test.database.run_command(doc! { "collMod": "jobs_partners", "validator": {} }).await.unwrap();
    assert_eq!(counts(&ran("retry-dead-letters", &["--now", "2020-01-01"], &test).await), [0, 0, 0]);
    let far = ["--now", "2100-01-01"];
    assert_eq!(counts(&ran("retry-dead-letters", &[far.as_slice(), &["--dry-run"]].concat(), &test).await), [1, 0, 0]);
    assert_eq!(counts(&ran("retry-dead-letters", &far, &test).await), [1, 1, 0]);
    assert_eq!(offers::read(&test.database).await.len(), 1);
    assert_eq!(test.collection("stream_processor_dead_letters").count_documents(doc! {}).await.unwrap(), 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nightly_verification_stores_what_it_found_and_somebody_is_told() {
    let (test, _) = filled("reports_verify", [doc! {}]).await;
    let verification = async || -> Document {
        let state = test.collection("stream_processor_state");
        state.find_one(doc! { "_id": "verification" }).await.unwrap().unwrap_or_default()
    };
    ran("verify", &["--dry-run"], &test).await;
    assert_eq!(verification().await, doc! {}, "a dry run stores nothing");
    assert_eq!(counts(&ran("verify", &[], &test).await), [1, 0, 0]);
    assert_eq!(verification().await.get_i64("differences").unwrap(), 0);
    let wrong = doc! { "$set": { "offer_title": "spoiled", "updated_at": DateTime::MIN } };
    test.collection("jobs_partners").update_one(doc! {}, wrong).await.unwrap();
    let (code, lines) = told(&["jobs", "run", "verify", "--json"], &test, &[]).await;
    let last: &Value = lines.last().unwrap();
    assert_eq!((code, counts(last)), (1, [1, 0, 2]), "{lines:?}");
    assert!(lines[0]["id"].as_str().is_some_and(|id| ObjectId::parse_str(id).is_ok()));
    assert_eq!(verification().await.get_i64("differences").unwrap(), 2);
}
