//! Memory stays flat whatever documents weigh (spec 07, "Performance"): reads are cut into portions by weight, and a cut
//! reply loses nothing.

use bson::oid::ObjectId;
use bson::{Document, doc};
use stream_processor::fetch::causal::CausalDatabase;
use stream_processor::fetch::documents;
use stream_processor::fetch::portions::Portions;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};

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

    let mut recruiters = Portions::of_recruiters(&CausalDatabase::new(test.database.clone()));
    let mut rest = ids.as_slice();
    let mut read = Vec::new();
    let mut weights = Vec::new();
    while let Some(batches) = recruiters.read_next(&mut rest).await.unwrap() {
        let portion: Vec<_> = documents(&batches).map(Result::unwrap).collect();
        weights.push(portion.iter().map(|document| document.as_bytes().len()).sum::<usize>());
        read.extend(portion.iter().map(|document| document.get_object_id("_id").unwrap()));
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
