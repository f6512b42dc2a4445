//! The mirror (spec 10, "The mirror (phase `shadow`)") under faults: what cannot come back, writers that race, kills, and
//! the way through the phases forth and back.

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures::TryStreamExt as _;
use xtask::guarded::Signal;

use super::mirror::{LATER, in_shadow, mirrored, of, read, set};
use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{end_lease, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_offers_disagree_on_is_a_dead_letter_with_names_until_they_agree() {
    let (test, [recruiter], processor) = mirrored("mirror_lost", [recruiter([job("Boulanger"), job("Vendeur")])]).await;
    let [first, second] = job_ids(&recruiter)[..] else { panic!("two jobs") };
    set(&test, first, doc! { "workplace_opco": PERSONAL, "offer_description": "Pétrir", "updated_at": LATER }).await;
    settled(&test.database).await;
    let stands = read(&test, id(&recruiter)).await;
    assert_eq!((stands.get("opco"), text(&of(&stands, first), "job_description")), (None, "Pétrir"));
    let told = dead_letters(&test).await;
    let fields: Vec<_> = told.iter().map(|it| ["_id", "reason", "detail"].map(|name| text(it, name))).collect();
    let address = format!("jobs_partners/{first}");
    assert_eq!(fields, [[&*address, "not_invertible", "opco"]]);
    let disputed = processor.metric("stream_processor_mirror_disagreements_total{field=\"opco\"}").await;
    assert!(disputed >= Some(1.0), "{disputed:?}");
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 0, "it is explained: {}", verified.stdout);
    assert_eq!(Processor::command(&["dead-letters", "retry"], &test, &[]).await.code, 1);
    assert_eq!(dead_letters(&test).await.len(), 1, "a retry tries the same again");
    let back = Processor::command(&["phase", "set", "dual-write"], &test, &[]).await;
    assert_eq!(back.code, 1, "it would be overwritten: {}", back.stderr);
    set(&test, second, doc! { "workplace_opco": PERSONAL }).await;
    settled(&test.database).await;
    assert_eq!(text(&read(&test, id(&recruiter)).await, "opco"), PERSONAL);
    assert!(dead_letters(&test).await.is_empty());
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_writes_between_reading_and_writing_is_not_lost() {
    let recruiter = recruiter([job("Boulanger")]);
    let test = in_shadow("mirror_race", std::slice::from_ref(&recruiter)).await;
    let stops = [("STREAM_PROCESSOR_FAILPOINT", "mirror-read/1/STOP"), ("STREAM_PROCESSOR__LEASE__DURATION", "60s")];
    let mut processor = started_with(&test, &stops).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    set(&test, first_job(&recruiter), doc! { "offer_description": "Pétrir", "updated_at": LATER }).await;
    eventually(PATIENCE, "it stops", async || processor.is_stopped().then_some(())).await;
    let new = job("Vendeur");
    let all = test.collection("recruiters");
    // Earlier than the offer, so the offer is the newest write.
    let date = bson::DateTime::from_millis(LATER.timestamp_millis() - 1_000);
    let own = doc! {
        "jobs.0.stats_detail_view": 7, "jobs.0.job_status": "Pourvue", "jobs.0.job_update_date": date, "updatedAt": date,
    };
    all.update_one(doc! { "_id": id(&recruiter) }, doc! { "$set": own }).await.unwrap();
    all.update_one(doc! { "_id": id(&recruiter) }, doc! { "$push": { "jobs": &new } }).await.unwrap();
    processor.signal(Signal::Continue);
    settled(&test.database).await;
    settled(&test.database).await;
    let stands = read(&test, id(&recruiter)).await;
    assert_eq!(of(&stands, id(&new)), new);
    let mirrored = of(&stands, first_job(&recruiter));
    assert_eq!(text(&mirrored, "job_description"), "Pétrir");
    assert_eq!((text(&mirrored, "job_status"), mirrored.get_i32("stats_detail_view").unwrap()), ("Active", 7));
    stopped(processor).await;
}

/// Without the condition on what was read, the job would be half the one's and half the other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_write_of_an_application_stands_whole_when_it_comes_before_that_of_the_mirror() {
    let recruiter = recruiter([job("Boulanger")]);
    let test = in_shadow("mirror_overtaken", std::slice::from_ref(&recruiter)).await;
    let stops = [("STREAM_PROCESSOR_FAILPOINT", "mirror-read/1/STOP"), ("STREAM_PROCESSOR__LEASE__DURATION", "60s")];
    let mut processor = started_with(&test, &stops).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    set(&test, first_job(&recruiter), doc! { "offer_title": "Boulangère", "updated_at": LATER }).await;
    eventually(PATIENCE, "it stops", async || processor.is_stopped().then_some(())).await;
    let newest = bson::DateTime::from_millis(LATER.timestamp_millis() + 1_000);
    let own = doc! { "jobs.0.job_description": "Pétrir", "jobs.0.job_update_date": newest };
    test.collection("recruiters").update_one(doc! { "_id": id(&recruiter) }, doc! { "$set": own }).await.unwrap();
    let written = read(&test, id(&recruiter)).await;
    processor.signal(Signal::Continue);
    settled(&test.database).await;
    settled(&test.database).await;
    let stands = read(&test, id(&recruiter)).await;
    assert_eq!(of(&stands, first_job(&recruiter)), of(&written, first_job(&recruiter)));
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_instant_makes_one_recruiter_and_one_job() {
    for point in ["mirror-made/1/KILL", "mirror-linked/1/KILL", "mirror-added/1/KILL"] {
        let known = recruiter([job("Boulanger")]);
        let test = in_shadow("mirror_kill", std::slice::from_ref(&known)).await;
        let mut processor = started_with(&test, &[("STREAM_PROCESSOR_FAILPOINT", point)]).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        let offers = test.collection("jobs_partners");
        let template = offers.find_one(doc! { "_id": first_job(&known) }).await.unwrap().unwrap();
        let new = ObjectId::new();
        let fields = doc! {
            "_id": new, "partner_job_id": new.to_hex(), "establishment_id": "new", "workplace_siret": "99999999999999",
        };
        offers.insert_one(with(template, fields)).await.unwrap();
        assert_eq!(processor.until_ended().await.code, 137, "{point}");
        end_lease(&test.database).await;
        let processor = started_with(&test, &[]).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        let made = test.collection("recruiters").find(doc! { "establishment_id": "new" }).await.unwrap();
        let made: Vec<Document> = made.try_collect().await.unwrap();
        assert_eq!(made.iter().map(job_ids).collect::<Vec<_>>(), [[new]], "{point}");
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_phases_forth_and_back_nothing_is_forced_and_the_newest_write_stands() {
    let test = TestDatabase::create("mirror_phases").await;
    let recruiters = [(); 4].map(|()| recruiter([job("Boulanger"), job("Vendeur")]));
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    step(&test, "dual-write").await;
    for round in 0..2 {
        step(&test, "shadow").await;
        for (place, offer) in recruiters.iter().flat_map(job_ids).enumerate() {
            let status = ["Active", "Filled", "Cancelled"][place % 3];
            let date = bson::DateTime::from_millis(LATER.timestamp_millis() + round * 1_000);
            let text = format!("Texte {round} {place}");
            set(&test, offer, doc! { "offer_description": text, "offer_status": status, "updated_at": date }).await;
        }
        let before = offers(&test).await;
        for back in ["dual-write", "sync", "dual-write"] {
            step(&test, back).await;
            assert_eq!(offers(&test).await, before, "{back}");
        }
    }
    stopped(processor).await;
}

/// One step without force, after everything is applied and verified.
async fn step(test: &TestDatabase, to: &str) {
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let verified = Processor::command(&["verify"], test, &[]).await;
    assert_eq!(verified.code, 0, "before {to}: {}", verified.stdout);
    eventually(PATIENCE, "the step is made", async || {
        // The lag may be unknown for an instant, after a new stream.
        let ended = Processor::command(&["phase", "set", to], test, &[]).await;
        assert!(ended.code == 0 || ended.stderr.contains("lag"), "{to}: {}", ended.stderr);
        (ended.code == 0).then_some(())
    })
    .await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
}

async fn offers(test: &TestDatabase) -> Vec<[String; 2]> {
    let offers = test.collection("jobs_partners").find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    let offers: Vec<Document> = offers.try_collect().await.unwrap();
    offers.iter().map(|offer| ["offer_description", "offer_status"].map(|name| text(offer, name).to_owned())).collect()
}

async fn dead_letters(test: &TestDatabase) -> Vec<Document> {
    test.collection("stream_processor_dead_letters").find(doc! {}).await.unwrap().try_collect().await.unwrap()
}
