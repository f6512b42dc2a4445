//! Memory stays flat whatever documents weigh (spec 07, "Performance"): reads are cut into chunks by weight, and a cut
//! reply loses nothing.

use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures::TryStreamExt as _;
use stream_processor::inside::CausalDatabase;
use stream_processor::inside::ChunkReader;
use stream_processor::inside::documents;
use xtask::golden::{TargetModel, put_target_validator};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::memory::assert_bounded;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{jobs, links, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, checkpoint, cluster_time_now, eventually};

const MEGABYTE: usize = 1_000_000;

#[tokio::test]
async fn heavy_recruiters_among_light_ones_are_all_read_in_portions_of_a_bounded_weight() {
    let test = TestDatabase::create("heavy_recruiters").await;
    let ids: Vec<ObjectId> = (0..1_000).map(numbered).collect();
    // Light, then heavy, then light; of each some are gone, and so are the last.
    let gone = |number: usize| number % 7 == 3 || number > 990;
    let heavy = |number: usize| (600..640).contains(&number);
    let weight = |number: usize| if heavy(number) { MEGABYTE } else { 100 };
    let present: Vec<usize> = (0..1_000).filter(|number| !gone(*number)).collect();
    for some in present.chunks(20) {
        let recruiter = |number: &usize| doc! { "_id": ids[*number], "text": "x".repeat(weight(*number)) };
        let some: Vec<Document> = some.iter().map(recruiter).collect();
        test.collection("recruiters").insert_many(some).await.unwrap();
    }

    let mut recruiters = ChunkReader::of_recruiters(&CausalDatabase::new(test.database.clone()));
    let mut rest = ids.as_slice();
    let mut read = Vec::new();
    let mut weights = Vec::new();
    while let Some(batches) = recruiters.read_next(&mut rest).await.unwrap() {
        let chunk: Vec<_> = documents(&batches).map(Result::unwrap).collect();
        weights.push(chunk.iter().map(|document| document.as_bytes().len()).sum::<usize>());
        read.extend(chunk.iter().map(|document| document.get_object_id("_id").unwrap()));
    }
    assert_eq!(read, present.iter().map(|number| ids[*number]).collect::<Vec<_>>());
    assert!(weights.iter().any(|weight| *weight > 10 * MEGABYTE), "no reply was cut: {weights:?}");
    // Two are in memory at a time.
    assert!(weights.windows(2).all(|two| two.iter().sum::<usize>() < 20 * MEGABYTE), "{weights:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_offers_of_light_recruiters_are_all_compared() {
    let test = TestDatabase::create("heavy_offers").await;
    let jobs = || (0..10).map(|_| job("Boulanger"));
    let recruiters: Vec<Document> = (0..10).map(|_| recruiter(jobs())).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    assert_eq!(filled(&test).await["created"], 100);
    // A field that is not ours, so that each offer is right as it stands.
    let heavy = doc! { "$set": { "of_others": "x".repeat(MEGABYTE) } };
    test.collection("jobs_partners").update_many(doc! {}, heavy).await.unwrap();
    assert_eq!(filled(&test).await["unchanged"], 100);
    let wrong = doc! { "$set": { "offer_title": "Autre" } };
    test.collection("jobs_partners").update_many(doc! {}, wrong).await.unwrap();
    assert_eq!(filled(&test).await["changed"], 100);
}

/// All jobs of a recruiter with very many of them are replaced by as many others: neither the links nor the offers make
/// the server or the service do what grows with the product of both.
#[tokio::test(flavor = "multi_thread")]
async fn a_recruiter_all_of_whose_very_many_jobs_are_replaced_is_followed_in_bounded_memory() {
    let jobs: usize = std::env::var("JOBS").map_or(20_000, |jobs| jobs.parse().unwrap());
    let test = TestDatabase::create("very_many_jobs").await;
    let tiny = || -> Vec<Document> {
        (0..jobs).map(|_| doc! { "_id": ObjectId::new(), "job_status": "Active", "offer_title_custom": "x" }).collect()
    };
    let owner = recruiter([]);
    test.collection("recruiters").insert_one(&owner).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let mut before = Vec::new();
    for _ in 0..2 {
        let now = tiny();
        let replaced = doc! { "$set": { "jobs": &now } };
        test.collection("recruiters").update_one(doc! {}, replaced).await.unwrap();
        let began = Instant::now();
        settled_slowly(&test.database).await;
        eprintln!("{jobs} jobs after {} others: {:.1} s", before.len(), began.elapsed().as_secs_f64());
        let offers = test.collection("jobs_partners");
        let count = async |status: &str| offers.count_documents(doc! { "offer_status": status }).await.unwrap();
        assert_eq!((count("Active").await, count("Cancelled").await), (jobs as u64, before.len() as u64));
        before.extend(now.iter().map(id));
    }
    assert_eq!(links(&test.database).await, self::jobs(&test.database).await);
    assert_bounded(&processor, jobs * 80);
    // A recruiter that goes takes all of them along.
    test.collection("recruiters").delete_one(doc! {}).await.unwrap();
    settled_slowly(&test.database).await;
    let offers = test.collection("jobs_partners");
    assert_eq!(offers.count_documents(doc! { "offer_status": "Active" }).await.unwrap(), 0);
    assert_bounded(&processor, jobs * 80);
    stopped(processor).await;
}

/// As heavy as a document may be, in many jobs or few. (The driver copies a command three times, so one job of 15.9 MB
/// comes to 120 MB.)
#[tokio::test(flavor = "multi_thread")]
async fn a_recruiter_as_heavy_as_may_be_is_projected_in_bounded_memory() {
    const HEAVY: usize = 15_900_000;
    for jobs in [1_000, 20, 5] {
        let test = TestDatabase::create("heaviest_recruiter").await;
        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        let text = "x".repeat(HEAVY / jobs - 700);
        let jobs = (0..jobs).map(|_| with(job("Boulanger"), doc! { "job_description": &text }));
        let heavy = recruiter(jobs);
        test.collection("recruiters").insert_one(&heavy).await.unwrap();
        settled(&test.database).await;
        let changed = doc! { "$set": { "opco": "a touch" } };
        test.collection("recruiters").update_one(doc! {}, changed).await.unwrap();
        settled(&test.database).await;
        let offers = test.collection("jobs_partners");
        let right = doc! { "workplace_opco": "a touch" };
        assert_eq!(offers.count_documents(right).await.unwrap(), job_ids(&heavy).len() as u64);
        eprintln!("{} jobs of 15.9 MB:", job_ids(&heavy).len());
        assert_bounded(&processor, HEAVY);
        stopped(processor).await;
    }
}

/// The offers of a dry run are judged by the validator in a command, which one of them alone may fill.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_recruiter_as_heavy_as_may_be_ends() {
    let test = TestDatabase::with_live_schema("heaviest_dry_run").await;
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    for (size, created) in [(15_000_000, 1), (16_775_800, 2)] {
        let heavy = recruiter([with(job("Boulanger"), doc! { "job_description": "$".repeat(size) })]);
        test.collection("recruiters").insert_one(&heavy).await.unwrap();
        let ended = Processor::command(&["backfill", "--dry-run", "--json"], &test, &[]).await;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let counted: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(counted["created"], created, "{counted:#}");
    }
}

/// A transaction holds a document for longer than a write may take: its offer, then its link.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_the_server_cannot_write_in_time_is_a_dead_letter_and_keeps_no_other_from_being_written() {
    let test = TestDatabase::create("slow_document").await;
    let recruiters: Vec<Document> = (0..30).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started_with(&test, &[("STREAM_PROCESSOR__LEASE__DURATION", "2s")]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let held = &recruiters[17];
    for collection in ["jobs_partners", "stream_processor_links"] {
        let document = if collection == "jobs_partners" { first_job(held) } else { id(held) };
        let mut holds = test.database.client().start_session().await.unwrap();
        holds.start_transaction().await.unwrap();
        let filter = doc! { "_id": document };
        let update = doc! { "$set": { "of_others": collection } };
        test.collection(collection).update_one(filter, update).session(&mut holds).await.unwrap();

        // A change of what stands, and jobs that are new.
        let all = test.collection("recruiters");
        let new = all.find(doc! {}).await.unwrap().try_collect::<Vec<Document>>().await.unwrap();
        for recruiter in &new {
            let more = doc! { "$set": { "opco": collection }, "$push": { "jobs": job("Vendeur") } };
            all.update_one(doc! { "_id": id(recruiter) }, more).await.unwrap();
        }
        settled(&test.database).await;
        let dead_letters: Vec<Document> =
            test.collection("stream_processor_dead_letters").find(doc! {}).await.unwrap().try_collect().await.unwrap();
        let address = match collection {
            "jobs_partners" => format!("recruiters/{}/{document}", id(held)),
            _ => format!("recruiters/{document}"),
        };
        let told: Vec<(&str, &str)> = dead_letters.iter().map(|it| (text(it, "_id"), text(it, "reason"))).collect();
        assert_eq!(told, [(address.as_str(), "too_slow")]);
        let offers = test.collection("jobs_partners");
        let right = offers.count_documents(doc! { "workplace_opco": collection }).await.unwrap();
        let (each, kept_out) = if collection == "jobs_partners" { (2, 1) } else { (3, 3) };
        assert_eq!(right, 30 * each - kept_out, "all others are written");

        holds.abort_transaction().await.unwrap();
        assert_eq!(Processor::command(&["dead-letters", "retry"], &test, &[]).await.code, 0);
        assert_eq!(test.collection("stream_processor_dead_letters").count_documents(doc! {}).await.unwrap(), 0);
        assert_eq!(offers.count_documents(doc! { "workplace_opco": collection }).await.unwrap(), 30 * each);
    }
    assert_nothing_lost(test, processor).await;
}

/// As [`settled`], for what takes longer than usual patience on a busy machine.
async fn settled_slowly(database: &mongodb::Database) {
    let written = cluster_time_now(database).await;
    database.collection("stream_processor_canary").insert_one(doc! {}).await.unwrap();
    eventually(5 * PATIENCE, "the checkpoint reaches the last write", async || {
        checkpoint(database).await.filter(|checkpoint| *checkpoint >= written)
    })
    .await;
}

/// What a backfill tells.
async fn filled(test: &TestDatabase) -> serde_json::Value {
    let filled = Processor::command(&["backfill", "--json"], test, &[]).await;
    serde_json::from_str(&filled.stdout).unwrap()
}

fn numbered(number: u32) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(bytes)
}
