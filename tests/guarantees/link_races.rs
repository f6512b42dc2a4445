//! The order of writes that keeps every crash harmless: links grow before offers are written and shrink after offers
//! are cancelled, so that no offer can be left active when its job is gone.

use bson::oid::ObjectId;
use bson::{Document, doc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, passing, refuse, refuse_after};
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{BRISK, started, started_with, stopped};
use crate::support::state::{checkpoint, end_lease, jobs, links, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const KILLS: usize = 20;
const EDITS: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn no_offer_is_written_before_its_link() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "races_grow").await;
    let newcomer = recruiter([job("Boulanger")]);
    let processor = started(&test).await;
    until_no_resync(&test.database).await;

    refuse(&test.database, "update", "stream_processor_links", passing()).await;
    test.collection("recruiters").insert_one(&newcomer).await.unwrap();
    until_refused(&processor).await;
    assert!(offers::read(&test.database).await.is_empty(), "an offer without a link");

    mend(&test.database).await;
    settled(&test.database).await;
    assert_eq!(status(&test, first_job(&newcomer)).await, "Active");
    assert_eq!(links(&test.database).await, jobs(&test.database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_forgets_a_job_before_its_offer_is_cancelled() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "races_shrink").await;
    let [loses, goes] = [recruiter([job("Boulanger")]), recruiter([job("Vendeur")])];
    test.collection("recruiters").insert_many([&loses, &goes]).await.unwrap();
    let mut processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let linked = links(&test.database).await;

    for change in ["a job is removed", "a recruiter is deleted"] {
        refuse(&test.database, "update", "jobs_partners", passing()).await;
        if change == "a job is removed" {
            let without = doc! { "$set": { "jobs": [] } };
            test.collection("recruiters").update_one(doc! { "_id": id(&loses) }, without).await.unwrap();
        } else {
            test.collection("recruiters").delete_one(doc! { "_id": id(&goes) }).await.unwrap();
        }
        until_refused(&processor).await;
        let gone = if change == "a job is removed" { &loses } else { &goes };
        assert_eq!(links(&test.database).await.get(&id(gone)), linked.get(&id(gone)), "{change}");

        processor.sigkill();
        mend(&test.database).await;
        end_lease(&test.database).await;
        processor = started(&test).await;
        settled(&test.database).await;
        assert_eq!(status(&test, first_job(gone)).await, "Cancelled", "{change}");
        assert_eq!(links(&test.database).await, jobs(&test.database).await);
    }
}

/// An edit of one job is answered with what stands at its position now, which may be a job whose own event is still to
/// come. When that event comes, the job may be gone again.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_met_before_its_event_and_gone_at_its_event_is_cancelled() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "races_early").await;
    let (owner, other) = (recruiter([job("Vendeur")]), recruiter([job("Boulanger")]));
    let processor = started(&test).await;
    // It reads recruiters, too.
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_many([&owner, &other]).await.unwrap();
    settled(&test.database).await;
    // An offer that stands already, cancelled.
    let revived = other.get_array("jobs").unwrap()[0].as_document().unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(&other) }).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;

    let recruiters = test.collection("recruiters");
    for passing_by in [&job("Pâtissier"), revived] {
        let write = async |update: Document| recruiters.update_one(doc! { "_id": id(&owner) }, update).await.unwrap();
        write(doc! { "$inc": { "jobs.0.job_count": 1 } }).await;
        write(doc! { "$set": { "jobs.0": passing_by } }).await;
        // One event a batch; nothing is read after the first. The check of the label reads before.
        refuse_after(&test.database, 2, "find", "recruiters", passing()).await;
        let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", "1")]).await;
        eventually(PATIENCE, "the job is met", async || {
            (status(&test, id(passing_by)).await == "Active").then_some(())
        })
        .await;
        write(doc! { "$set": { "jobs.0": owner.get_array("jobs").unwrap()[0].clone() } }).await;
        mend(&test.database).await;
        settled(&test.database).await;
        assert_eq!(status(&test, id(passing_by)).await, "Cancelled");
        assert_eq!(links(&test.database).await, jobs(&test.database).await);
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_while_jobs_come_and_go_it_leaves_no_active_offer_without_a_job() {
    let test = TestDatabase::create("races_killed").await;
    let mut random = StdRng::seed_from_u64(5);
    let recruiters: Vec<Document> = (0..10).map(|_| recruiter([job("Boulanger"), job("Pâtissier")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;

    for _ in 0..KILLS {
        let before = checkpoint(&test.database).await;
        let mut processor = Processor::start(&test, &BRISK);
        for _ in 0..EDITS {
            add_or_remove(&test, &recruiters, &mut random).await;
        }
        eventually(PATIENCE, "something is applied", async || {
            (checkpoint(&test.database).await != before).then_some(())
        })
        .await;
        // At whatever instant of what follows.
        for _ in 0..random.random_range(1..=EDITS) {
            add_or_remove(&test, &recruiters, &mut random).await;
        }
        processor.sigkill();
        end_lease(&test.database).await;
    }
    let _processor = started(&test).await;
    settled(&test.database).await;

    let held = jobs(&test.database).await;
    assert_eq!(links(&test.database).await, held);
    for (job, offer) in offers::read(&test.database).await {
        let expected = if held.values().any(|jobs| jobs.contains(&job)) { "Active" } else { "Cancelled" };
        assert_eq!(text(&offer, "offer_status"), expected, "{job}");
    }
}

async fn add_or_remove(test: &TestDatabase, recruiters: &[Document], random: &mut StdRng) {
    let filter = doc! { "_id": id(recruiters.choose(random).unwrap()) };
    let update = if random.random_bool(0.5) {
        doc! { "$push": { "jobs": job("Vendeur") } }
    } else {
        doc! { "$pop": { "jobs": -1 } }
    };
    test.collection("recruiters").update_one(filter, update).await.unwrap();
}

/// Waits until the service has been refused a write, and tried again.
async fn until_refused(processor: &Processor) {
    let series = r#"stream_processor_write_errors_total{code="112"}"#;
    let before = processor.metric(series).await.unwrap_or_default();
    eventually(PATIENCE, "two attempts are refused", async || {
        processor.metric(series).await.filter(|count| *count >= before + 2.0)
    })
    .await;
}

async fn status(test: &TestDatabase, offer: ObjectId) -> String {
    let offer = test.collection("jobs_partners").find_one(doc! { "_id": offer }).await.unwrap();
    offer.map(|offer| text(&offer, "offer_status").to_owned()).unwrap_or_default()
}
