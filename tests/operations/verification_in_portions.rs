//! A verification reads offers in portions, so that its memory stays flat (spec 07, "Performance"). What it finds does not depend on the
//! portion in which an offer comes.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};

use super::verification::{assert_clean, change, names, verify};
use crate::support::database::TestDatabase;
use crate::support::fields::text;
use crate::support::memory::assert_bounded;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

/// The greatest reply of the server, in bytes.
const REPLY: usize = 16 * 1024 * 1024;

/// Their histories make the offers of one recruiter four times as heavy as the greatest reply.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_offers_are_compared_portion_by_portion_in_a_bounded_memory() {
    let test = TestDatabase::create("verify_heavy_offers").await;
    let settings =
        [("STREAM_PROCESSOR__VERIFY__SAMPLE_INTERVAL", "1s"), ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write")];
    let processor = started_with(&test, &settings).await;
    until_no_resync(&test.database).await;
    let mut jobs: Vec<Document> = (0..400).map(|_| job("Boulanger")).collect();
    let mut ids: Vec<ObjectId> = jobs.iter().map(id).collect();
    ids.sort();
    // Neither the order nor the ids of the jobs tell in which portion their offers come.
    jobs.reverse();
    jobs.insert(300, with(job("Charpentier"), doc! { "_id": ids[7] }));
    jobs.insert(200, with(job("Couvreur"), doc! { "_id": "no ObjectId" }));
    test.collection("recruiters").insert_one(recruiter(jobs)).await.unwrap();
    settled(&test.database).await;
    assert_eq!(make_heavy(&test).await, 400);
    let offers = test.collection("jobs_partners");
    let sampled = async || processor.metric("stream_processor_verify_sampled_recruiters_total").await;
    let before = sampled().await;
    let touched = doc! { "$set": { "opco": "a touch" } };
    test.collection("recruiters").update_one(doc! {}, touched).await.unwrap();
    settled(&test.database).await;
    eventually(PATIENCE, "the touched recruiter is compared", async || (sampled().await > before).then_some(())).await;
    assert_bounded(&processor, REPLY);
    stopped(processor).await;

    let clean = verify(&test, &[], 0).await;
    assert_clean(&clean);
    let counts = ["jobs", "offers", "compared", "explained"].map(|name| clean[name].as_u64().unwrap());
    assert_eq!(counts, [402, 400, 400, 2], "{clean:#}");
    for offer in [ids[0], ids[399]] {
        change(&test, offer, doc! { "offer_title": "Autre" }).await;
    }
    offers.delete_one(doc! { "_id": ids[200] }).await.unwrap();
    let found = verify(&test, &[], 1).await;
    assert_eq!(found["differences"], 3, "{found:#}");
    assert!([ids[0], ids[399]].iter().all(|offer| names(&found["kinds"]["differing_field"], *offer)), "{found:#}");
    assert!(names(&found["kinds"]["missing_offer"], ids[200]), "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_of_anonymised_recruiters_with_very_many_jobs_are_found_wherever_they_stand() {
    let test = TestDatabase::create("verify_many_anonymised").await;
    let jobs: Vec<Document> = (0..1_300).map(|_| job("Boulanger")).collect();
    let mut ids: Vec<ObjectId> = jobs.iter().map(id).collect();
    ids.sort();
    let gone = recruiter(jobs.clone());
    let recruiters = test.collection("recruiters");
    recruiters.insert_one(&gone).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    // The offers do not show the second of these, which once had the jobs too.
    let copies = [
        doc! { "_id": id(&gone), "jobs": &jobs },
        doc! { "_id": ObjectId::new(), "jobs": &jobs, "establishment_id": "another" },
    ];
    test.collection("anonymized_recruiters").insert_many(copies).await.unwrap();
    recruiters.delete_one(doc! { "_id": id(&gone) }).await.unwrap();
    assert_clean(&verify(&test, &["--repair"], 0).await);

    for offer in [ids[0], ids[650], ids[700], ids[1_299]] {
        change(&test, offer, doc! { "apply_phone": "invented" }).await;
    }
    // This job has a recruiter again, whose contact its offer may have.
    let holder = jobs.iter().find(|job| id(job) == ids[700]).unwrap();
    recruiters.insert_one(recruiter([holder.clone()])).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let found = verify(&test, &[], 1).await;
    assert_eq!(found["differences"], 3, "{found:#}");
    for offer in [ids[0], ids[650], ids[1_299]] {
        assert!(names(&found["fields"]["apply_phone"], offer), "{offer} in {found:#}");
    }
}

/// One offer shows the establishment of the recruiter that owns another one. The two come in one portion, and then in two.
#[tokio::test(flavor = "multi_thread")]
async fn whose_an_offer_is_does_not_depend_on_the_weight_of_others() {
    let test = TestDatabase::create("verify_shared_portions").await;
    let mut jobs: Vec<Document> = (0..200).map(|_| job("Boulanger")).collect();
    jobs.sort_by_key(id);
    let (shared, second, last) = (jobs[0].clone(), id(&jobs[1]), id(&jobs[199]));
    jobs.reverse();
    test.collection("recruiters").insert_one(recruiter(jobs)).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    // Nothing else leads to this recruiter: it has no link.
    let owner = with(recruiter([shared.clone()]), doc! { "updatedAt": DateTime::now() });
    test.collection("recruiters").insert_one(&owner).await.unwrap();
    change(&test, last, doc! { "establishment_id": text(&owner, "establishment_id") }).await;
    change(&test, id(&shared), doc! { "offer_title": "Autre" }).await;
    // Examples are named in the order of the jobs, not of the portions.
    change(&test, second, doc! { "offer_description": "Autre" }).await;
    let light = verify(&test, &[], 1).await;
    let titles = &light["fields"]["offer_title"]["count"];
    assert_eq!(titles, 1, "the comparison of its own recruiter finds it: {light:#}");
    assert_eq!(make_heavy(&test).await, 200);
    let heavy = verify(&test, &[], 1).await;
    for name in ["differences", "kinds", "fields", "compared", "offers"] {
        assert_eq!(light[name], heavy[name], "{name}");
    }
}

/// Gives each offer a long history. Returns the number of offers.
async fn make_heavy(test: &TestDatabase) -> u64 {
    let history = vec![doc! { "status": "Active", "of_others": "x".repeat(150_000) }];
    let heavy = doc! { "$set": { "offer_status_history": history } };
    test.collection("jobs_partners").update_many(doc! {}, heavy).await.unwrap().modified_count
}
