//! Guarantee 1, nothing lost: killed at random while updates arrive and while a backlog drains, the
//! service leaves no offer that differs from a fresh backfill.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::waiting::{PATIENCE, caught_up, checkpoint, eventually};

const RECRUITERS: usize = 400;
const UPDATES: usize = 5_000;
const KILLS: usize = 10;
/// So that a killed instance's lease does not hold up its successor.
const SHORT_LEASE: [(&str, &str); 1] = [("STREAM_PROCESSOR__LEASE__DURATION", "1s")];

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_while_updates_arrive_it_loses_none() {
    let test = TestDatabase::with_live_schema("crashes_live").await;
    let mut random = StdRng::seed_from_u64(7);
    let jobs = insert_recruiters(&test, &mut random).await;
    let mut processor = Processor::start_ready(&test, &SHORT_LEASE).await;
    for number in 0..UPDATES {
        update(&test, &jobs, &mut random, number).await;
        if number % (UPDATES / KILLS) == UPDATES / KILLS - 1 {
            processor.sigkill();
            processor = Processor::start(&test, &SHORT_LEASE);
        }
    }
    caught_up(&test.database).await;
    assert_equal_to_a_fresh_backfill(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_while_a_backlog_drains_it_loses_none() {
    let test = TestDatabase::with_live_schema("crashes_backlog").await;
    let mut random = StdRng::seed_from_u64(11);
    let jobs = insert_recruiters(&test, &mut random).await;
    let mut processor = Processor::start_ready(&test, &[]).await;
    caught_up(&test.database).await;
    processor.sigterm();
    processor.until_ended().await;
    for number in 0..UPDATES {
        update(&test, &jobs, &mut random, number).await;
    }
    // Small batches, so that the kills fall into the middle of the backlog.
    let slowly = [SHORT_LEASE[0], ("STREAM_PROCESSOR__STREAM__BATCH_MAX", "50")];
    for _ in 0..KILLS {
        processor = Processor::start(&test, &slowly);
        let before = checkpoint(&test.database).await;
        eventually(PATIENCE, "a few batches are applied", async || {
            (checkpoint(&test.database).await > before).then_some(())
        })
        .await;
        // Any instant of the following batches will do.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        processor.sigkill();
    }
    let processor = Processor::start(&test, &SHORT_LEASE);
    caught_up(&test.database).await;
    assert_equal_to_a_fresh_backfill(test, processor).await;
}

/// Recruiters with one to six jobs; gives back how many each has.
async fn insert_recruiters(test: &TestDatabase, random: &mut StdRng) -> Vec<(ObjectId, usize)> {
    let mut recruiters = Vec::new();
    let mut jobs = Vec::new();
    for number in 0..RECRUITERS {
        let count = random.random_range(1..=6);
        let job = |index: usize| {
            doc! {
                "_id": ObjectId::new(), "job_status": "Active", "rome_label": format!("Métier {index}"),
                "job_creation_date": DateTime::from_millis(1_700_000_000_000), "job_count": 1,
            }
        };
        let id = ObjectId::new();
        recruiters.push(doc! {
            "_id": id, "establishment_id": format!("e{number}"), "establishment_siret": format!("{number:014}"),
            "email": format!("contact{number}@example.fr"), "address": "1 rue Inventée", "status": "Actif",
            "is_delegated": false, "jobs": (0..count).map(job).collect::<Vec<Document>>(),
            "updatedAt": DateTime::from_millis(1_700_000_000_000),
        });
        jobs.push((id, count));
    }
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    jobs
}

/// One update of a random recruiter: a field of a job, its status, the contact, a job more or less.
async fn update(test: &TestDatabase, recruiters: &[(ObjectId, usize)], random: &mut StdRng, number: usize) {
    let (recruiter, jobs) = recruiters.choose(random).unwrap();
    let job = random.random_range(0..*jobs);
    let updated = DateTime::from_millis(1_700_000_000_000 + i64::try_from(number).unwrap());
    let change = match random.random_range(0..10) {
        0 => doc! { "$set": { "phone": number.to_string(), "updatedAt": updated } },
        1 => {
            doc! { "$set": { "status": if number.is_multiple_of(2) { "Archivé" } else { "Actif" }, "updatedAt": updated } }
        }
        2 => doc! { "$push": { "jobs": { "_id": ObjectId::new(), "job_status": "Active", "rome_label": "Nouveau" } } },
        3 => doc! { "$pull": { "jobs": { "rome_label": "Nouveau" } }, "$set": { "updatedAt": updated } },
        4 => {
            let status = ["Active", "Pourvue", "Annulée"].choose(random).copied().unwrap();
            doc! { "$set": { format!("jobs.{job}.job_status"): status, format!("jobs.{job}.job_update_date"): updated } }
        }
        _ => doc! { "$set": { format!("jobs.{job}.job_count"): i32::try_from(number).unwrap() } },
    };
    test.collection("recruiters").update_one(doc! { "_id": recruiter }, change).await.unwrap();
}

/// Compares all offers with those of a database that holds the same recruiters and was filled at once.
/// What a fresh backfill cannot know is compared apart: cancelled offers of removed jobs, and histories.
async fn assert_equal_to_a_fresh_backfill(test: TestDatabase, mut processor: Processor) {
    processor.sigterm();
    assert_eq!(processor.until_ended().await.code, 0);
    let fresh = TestDatabase::with_live_schema("crashes_fresh").await;
    let copy = vec![doc! { "$out": { "db": fresh.name(), "coll": "recruiters" } }];
    test.collection("recruiters").aggregate(copy).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &fresh, &[]).await.code, 0);

    let expected = without_history(offers::read(&fresh.database).await);
    let (present, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
        offers::read(&test.database).await.into_iter().partition(|(id, _)| expected.contains_key(id));
    for (id, offer) in present.iter().chain(&gone) {
        let statuses: Vec<&Bson> = offer.get_array("offer_status_history").unwrap().iter().collect();
        let statuses: Vec<&str> =
            statuses.iter().map(|entry| entry.as_document().unwrap().get_str("status").unwrap()).collect();
        assert!(statuses.windows(2).all(|pair| pair[0] != pair[1]), "{id}: the history repeats itself: {statuses:?}");
    }
    for (id, offer) in &gone {
        assert_eq!(offer.get_str("offer_status").unwrap(), "Cancelled", "{id}: its job is gone");
    }
    offers::assert_same(&expected, &without_history(present));
}

fn without_history(mut offers: BTreeMap<ObjectId, Document>) -> BTreeMap<ObjectId, Document> {
    offers.values_mut().for_each(|offer| drop(offer.remove("offer_status_history")));
    offers
}
