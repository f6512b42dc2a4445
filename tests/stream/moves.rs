//! Jobs that several recruiters hold, lost by them one after another, in one batch or in several: the
//! offer of a job that nobody holds any more is never left active.

use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{jobs, links, settled};

/// Two recruiters that hold the same job, already projected; the service is stopped.
async fn twins(test: &TestDatabase) -> [Document; 2] {
    let shared = job("Boulanger");
    let twins = [recruiter([shared.clone()]), recruiter([shared, job("Vendeur")])];
    let processor = started(test).await;
    test.collection("recruiters").insert_many(&twins).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    twins
}

async fn status(test: &TestDatabase, twins: &[Document; 2]) -> String {
    let offer = test.collection("jobs_partners").find_one(doc! { "_id": first_job(&twins[0]) }).await.unwrap();
    text(&offer.expect("it was projected"), "offer_status").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_recruiter_is_deleted_and_whose_other_holder_loses_it_next_is_cancelled() {
    for batch_max in ["1", "5000"] {
        let test = TestDatabase::create("moves_delete").await;
        let twins = twins(&test).await;
        let recruiters = test.collection("recruiters");
        recruiters.delete_one(doc! { "_id": id(&twins[0]) }).await.unwrap();
        let without = doc! { "$pull": { "jobs": { "_id": first_job(&twins[0]) } } };
        recruiters.update_one(doc! { "_id": id(&twins[1]) }, without).await.unwrap();

        let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", batch_max)]).await;
        settled(&test.database).await;
        assert_eq!(status(&test, &twins).await, "Cancelled", "in batches of {batch_max}");
        assert!(!links(&test.database).await.contains_key(&id(&twins[0])));
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_both_its_recruiters_lose_is_cancelled() {
    for batch_max in ["1", "5000"] {
        let test = TestDatabase::create("moves_both").await;
        let twins = twins(&test).await;
        for twin in &twins {
            let without = doc! { "$pull": { "jobs": { "_id": first_job(&twins[0]) } } };
            test.collection("recruiters").update_one(doc! { "_id": id(twin) }, without).await.unwrap();
        }
        let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", batch_max)]).await;
        settled(&test.database).await;
        assert_eq!(status(&test, &twins).await, "Cancelled", "in batches of {batch_max}");
        stopped(processor).await;
    }
}

/// Each loss asks for another look at the other recruiter, which has lost something too.
#[tokio::test(flavor = "multi_thread")]
async fn two_recruiters_that_share_two_jobs_and_each_lose_one_of_them_leave_both_offers_active() {
    let test = TestDatabase::create("moves_crossed").await;
    let shared = [job("Boulanger"), job("Vendeur")];
    let twins = [recruiter(shared.clone()), recruiter(shared.clone())];
    let processor = started(&test).await;
    test.collection("recruiters").insert_many(&twins).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    for (twin, lost) in twins.iter().zip(&shared) {
        let without = doc! { "$pull": { "jobs": { "_id": id(lost) } } };
        test.collection("recruiters").update_one(doc! { "_id": id(twin) }, without).await.unwrap();
    }

    let _processor = started(&test).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    for (job, owner) in shared.iter().zip(twins.iter().rev()) {
        assert_eq!(text(&offers[&id(job)], "offer_status"), "Active");
        assert_eq!(text(&offers[&id(job)], "apply_email"), text(owner, "email"));
    }
    assert_eq!(links(&test.database).await, jobs(&test.database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymised_recruiter_that_is_inserted_again_leaves_no_contact_on_the_jobs_that_it_lost() {
    let test = TestDatabase::create("moves_again").await;
    let (kept, lost) = (job("Boulanger"), job("Vendeur"));
    let before = recruiter([lost.clone(), kept.clone()]);
    let processor = started(&test).await;
    test.collection("recruiters").insert_one(&before).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;

    let copy = doc! { "_id": id(&before), "jobs": [lost.clone(), kept.clone()] };
    test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
    let later = doc! { "$set": { "address": "2 rue Inventée" } };
    test.collection("recruiters").update_one(doc! { "_id": id(&before) }, later).await.unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(&before) }).await.unwrap();
    let again = with(recruiter([kept]), doc! { "_id": id(&before), "email": "autre@example.fr" });
    test.collection("recruiters").insert_one(again).await.unwrap();

    let _processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", "1")]).await;
    settled(&test.database).await;
    let offer = test.collection("jobs_partners").find_one(doc! { "_id": first_job(&before) }).await.unwrap().unwrap();
    assert_eq!(text(&offer, "apply_email"), "anonymized@example.com");
    assert_eq!(text(&offer, "offer_status"), "Cancelled");
}

/// Neither holder has an address, or a CFA that exists, so neither can be projected. The offer would still show the recruiter
/// that lost the job, whichever recruiter is touched first.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_moves_to_a_recruiter_that_cannot_be_projected_is_cancelled_until_it_can_be() {
    let unknown_cfa = doc! { "is_delegated": true, "cfa_delegated_siret": "00000000000000" };
    let cases = [
        (doc! { "address": null }, doc! { "address": "1 rue Inventée" }),
        (unknown_cfa, doc! { "is_delegated": false }),
    ];
    for (blocks, heals) in cases {
        for batch_max in ["1", "5000"] {
            for (is_deleted, gains_first) in [(false, false), (false, true), (true, true)] {
                let moved = job("Boulanger");
                let before = recruiter([moved.clone(), job("Vendeur")]);
                let after = with(recruiter([job("Pâtissier")]), blocks.clone());
                let test = TestDatabase::create("moves_unprojectable").await;
                let recruiters = test.collection("recruiters");
                let processor = started(&test).await;
                recruiters.insert_many([&before, &after]).await.unwrap();
                settled(&test.database).await;
                stopped(processor).await;
                let gain = async || {
                    let push = doc! { "$push": { "jobs": moved.clone() } };
                    recruiters.update_one(doc! { "_id": id(&after) }, push).await.unwrap();
                };
                if gains_first {
                    gain().await;
                }
                if is_deleted {
                    recruiters.delete_one(doc! { "_id": id(&before) }).await.unwrap();
                } else {
                    let pull = doc! { "$pull": { "jobs": { "_id": id(&moved) } } };
                    recruiters.update_one(doc! { "_id": id(&before) }, pull).await.unwrap();
                }
                if !gains_first {
                    gain().await;
                }
                let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", batch_max)]).await;
                settled(&test.database).await;
                let offer = async || offers::read(&test.database).await.remove(&id(&moved)).unwrap();
                let case = format!("batches of {batch_max}, deleted {is_deleted}, gains first {gains_first}, {blocks}");
                assert_eq!(text(&offer().await, "offer_status"), "Cancelled", "{case}");
                recruiters.update_one(doc! { "_id": id(&after) }, doc! { "$set": heals.clone() }).await.unwrap();
                settled(&test.database).await;
                let offer = offer().await;
                assert_eq!(text(&offer, "offer_status"), "Active", "{case}");
                assert_eq!(text(&offer, "apply_email"), text(&after, "email"), "{case}");
                stopped(processor).await;
            }
        }
    }
}

/// Each recruiter is a chunk of its own. While one is written, the offers of the next one are read. Here that read would
/// find the offer active that the write cancels.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_moves_to_the_recruiter_of_the_next_chunk_stays_active() {
    let test = TestDatabase::create("moves_chunk").await;
    let heavy = |jobs: [Document; 1]| with(recruiter(jobs), doc! { "notes": "x".repeat(1_500_000) });
    let pairs: Vec<[Document; 2]> = (0..10).map(|_| [heavy([job("Boulanger")]), heavy([job("Vendeur")])]).collect();
    let processor = started(&test).await;
    let recruiters = test.collection("recruiters");
    for pair in &pairs {
        recruiters.insert_many(pair).await.unwrap();
    }
    settled(&test.database).await;
    stopped(processor).await;
    for [loses, gets] in &pairs {
        let jobs = |recruiter: &Document| recruiter.get_array("jobs").unwrap().clone();
        recruiters.update_one(doc! { "_id": id(loses) }, doc! { "$set": { "jobs": jobs(gets) } }).await.unwrap();
        recruiters.update_one(doc! { "_id": id(gets) }, doc! { "$set": { "jobs": jobs(loses) } }).await.unwrap();
    }
    let processor = started(&test).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    for pair in pairs.iter().flatten() {
        let offer = &offers[&first_job(pair)];
        assert_eq!(text(offer, "offer_status"), "Active", "{}", text(offer, "offer_title"));
    }
    stopped(processor).await;
}
