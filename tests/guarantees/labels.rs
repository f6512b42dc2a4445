//! The label is never taken on faith (spec 09, "Label"): nothing starts under a label that the offers do not have, and no
//! write changes the label of an offer.

use bson::{Bson, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};

/// The label of the offers that are live on the platform.
const LIVE: &str = "offres_emploi_lba";
const WITH_LIVE: (&str, &str) = ("STREAM_PROCESSOR__TARGET__PARTNER_LABEL", LIVE);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_where_the_offers_of_our_jobs_stand_under_another_label() {
    let test = TestDatabase::create("label_guard").await;
    let recruiters: Vec<Document> = (0..3).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    // An empty target is fine with any label.
    let ended = Processor::command(&["backfill"], &test, &[WITH_LIVE]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let before = offers::read(&test.database).await;
    assert_eq!(before.len(), 3);
    for arguments in [
        &["run"][..],
        &["backfill"],
        &["backfill", "--dry-run"],
        &["replay", "--from", "1m ago"],
        &["replay", "--from", "1m ago", "--dry-run"],
        &["jobs", "run", "full-sync"],
    ] {
        let ended = Processor::command(arguments, &test, &[]).await;
        assert_eq!(ended.code, 3, "{arguments:?}: {}", ended.stderr);
        let names_both = ended.stderr.contains(LIVE) && ended.stderr.contains("target.partner_label");
        assert!(names_both, "{arguments:?}: {}", ended.stderr);
    }
    let doctor = Processor::command(&["doctor"], &test, &[]).await;
    assert!(doctor.code == 1 && doctor.stdout.contains(LIVE), "{}", doctor.stdout);
    assert_eq!(offers::read(&test.database).await, before, "nothing is written");
    let right = Processor::command(&["doctor"], &test, &[WITH_LIVE]).await;
    assert!(!right.stdout.contains("set target.partner_label"), "{}", right.stdout);
}

/// More recruiters and jobs than the sample has, and more offers than one reply of the server has.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_finds_the_label_in_a_large_database() {
    let test = TestDatabase::create("label_large").await;
    let jobs = || (0..25).map(|number| job(&format!("Poste {number}")));
    let recruiters: Vec<Document> = (0..120).map(|_| recruiter(jobs())).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let ids = recruiters.iter().flat_map(|it| it.get_array("jobs").unwrap()).filter_map(Bson::as_document).map(id);
    let offers: Vec<Document> = ids.map(|id| doc! { "_id": id, "partner_label": LIVE }).collect();
    test.collection("jobs_partners").insert_many(&offers).await.unwrap();
    let ended = Processor::command(&["backfill"], &test, &[]).await;
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("of a sample of jobs, 2400 offers stand"), "{}", ended.stderr);
}

/// The old worker was stopped a while ago.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_finds_the_label_where_the_newest_recruiters_have_no_offers() {
    let test = TestDatabase::create("label_newest").await;
    let old: Vec<Document> = (0..5).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&old).await.unwrap();
    let offers = old.iter().map(|recruiter| doc! { "_id": first_job(recruiter), "partner_label": LIVE });
    test.collection("jobs_partners").insert_many(offers).await.unwrap();
    let newer = (0..400).map(|number| recruiter((number % 2 == 0).then(|| job("Vendeur"))));
    test.collection("recruiters").insert_many(newer).await.unwrap();
    let ended = Processor::command(&["backfill"], &test, &[]).await;
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("of a sample of jobs, 5 offers stand"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_offer_under_another_label_is_a_dead_letter_until_it_is_ours() {
    let test = TestDatabase::create("label_single").await;
    let recruiters: Vec<Document> = (0..3).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let foreign = first_job(&recruiters[0]);
    let set_label = async |label: &str| {
        let set = doc! { "$set": { "partner_label": label } };
        test.collection("jobs_partners").update_one(doc! { "_id": foreign }, set).await.unwrap();
    };
    set_label("recruteurs_lba").await;
    let other = offers::read(&test.database).await.remove(&foreign);
    let touch = async |title: &str| {
        let set = doc! { "$set": { "jobs.0.offer_title_custom": title } };
        test.collection("recruiters").update_many(doc! {}, set).await.unwrap();
        settled(&test.database).await;
    };
    touch("Pâtissier").await;
    assert_eq!(offers::read(&test.database).await.remove(&foreign), other, "it is not ours");
    let dead_letter = async || {
        let key = format!("recruiters/{}/{foreign}", id(&recruiters[0]));
        test.collection("stream_processor_dead_letters").find_one(doc! { "_id": key }).await.unwrap()
    };
    assert_eq!(text(&dead_letter().await.unwrap(), "reason"), "other_label");
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0, "it is a dead letter, no difference");

    set_label("RECRUTEURS_LBA").await;
    touch("Chocolatier").await;
    assert_eq!(dead_letter().await, None);
    assert_eq!(text(&offers::read(&test.database).await[&foreign], "offer_title"), "Chocolatier");
    stopped(processor).await;
}
