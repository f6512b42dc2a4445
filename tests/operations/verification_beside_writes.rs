//! A verification beside everything that may happen meanwhile reports no false difference: recruiters that are edited,
//! deleted, inserted again and anonymised, jobs that move, users and references that change or go (spec 06).

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use xtask::guarded::Signal;

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::golden::{self, operations};
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const CFA: &str = "33333333333333";

#[tokio::test(flavor = "multi_thread")]
async fn beside_every_kind_of_change_a_verification_reports_no_false_difference() {
    let test = TestDatabase::with_planned_schema("verify_beside").await;
    golden::load_references(&test.database).await;
    golden::load_recruiters(&test.database).await;
    for operation in operations() {
        operation.apply(&test.database).await;
    }
    test.collection("cfas").insert_one(doc! { "siret": CFA }).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let mut changes = 0;
    let mut verification = Processor::spawn(&["verify", "--json"], &test, &[]);
    while verification.is_running() {
        change(&test, changes).await;
        changes += 1;
    }
    let ended = verification.until_ended().await;
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    assert!(changes > 2 * KINDS, "everything happened meanwhile, and more than once");
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    let ended = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
}

/// What is still to be applied is no difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_verification_waits_for_an_instance_that_is_behind() {
    let test = TestDatabase::create("verify_behind").await;
    // A pause is not to cost it the lease.
    let mut processor = started_with(&test, &[("STREAM_PROCESSOR__LEASE__DURATION", "1h")]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    processor.signal(Signal::Stop);
    test.collection("recruiters").insert_many((0..30).map(|_| recruiter([job("Boulanger")]))).await.unwrap();
    test.database.run_command(doc! { "profile": 2 }).await.unwrap();
    let mut verification = Processor::spawn(&["verify", "--json"], &test, &[]);
    until_it_waits(&test, &mut verification).await;
    processor.signal(Signal::Continue);
    let ended = verification.until_ended().await;
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let without_offer = &report["only_in_recruiters"]["jobs_without_offer"];
    assert_eq!(without_offer["count"], 0, "their offers came meanwhile: {without_offer}");
    test.database.run_command(doc! { "profile": 0 }).await.unwrap();
    stopped(processor).await;
}

/// The offer was found different with its recruiter, and the recruiter is gone before the second look.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_whose_recruiter_disappears_during_a_recheck_is_an_orphan() {
    let test = TestDatabase::create("verify_orphan").await;
    let mut processor = started_with(&test, &[("STREAM_PROCESSOR__LEASE__DURATION", "1h")]).await;
    test.collection("recruiters")
        .insert_many([recruiter([job("Boulanger")]), recruiter([job("Serveur")])])
        .await
        .unwrap();
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    processor.signal(Signal::Stop);
    let spoiled = doc! { "$set": { "offer_title": "spoiled" } };
    test.collection("jobs_partners").update_one(doc! { "offer_title": "Boulanger" }, spoiled).await.unwrap();
    test.database.run_command(doc! { "profile": 2 }).await.unwrap();
    let mut verification = Processor::spawn(&["verify", "--json"], &test, &[]);
    until_it_waits(&test, &mut verification).await;
    test.collection("recruiters").delete_one(doc! { "jobs.offer_title_custom": "Boulanger" }).await.unwrap();
    // Nobody cancels the offer.
    processor.sigkill();
    test.collection("stream_processor_state").delete_one(doc! { "_id": "lease" }).await.unwrap();
    let ended = verification.until_ended().await;
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["kinds"]["orphan"]["count"]), (1, &1.into()), "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(report["differences"], 1, "{report:#}");
    test.database.run_command(doc! { "profile": 0 }).await.unwrap();
}

/// Waits until the verification asks again and again how far the instance is.
async fn until_it_waits(test: &TestDatabase, verification: &mut Processor) {
    let asked = doc! { "ns": format!("{}.stream_processor_state", test.name()), "command.filter._id": "checkpoint" };
    eventually(PATIENCE, "it asks again and again how far the instance is", async || {
        assert!(verification.is_running(), "it does not wait: {}", verification.stdout());
        let times = test.collection("system.profile").count_documents(asked.clone()).await.unwrap();
        (times >= 5).then_some(())
    })
    .await;
}

const KINDS: usize = 10;

/// One change of the kinds in turn. Each document is changed once and then left alone: what changes all the time is no
/// difference whatever is read of it.
async fn change(test: &TestDatabase, number: usize) {
    let text = number.to_string();
    let edit = async |collection: &str, fields: Document| {
        let collection = test.collection(collection);
        let next = collection.find_one(doc! {}).sort(doc! { "_id": 1 }).skip((number / KINDS) as u64).await.unwrap();
        if let Some(next) = next {
            collection.update_one(doc! { "_id": id(&next) }, doc! { "$set": fields }).await.unwrap();
        }
    };
    match number % KINDS {
        0 => edit("recruiters", doc! { "naf_label": &text }).await,
        1 => move_a_job(test, number).await,
        2 => delete_and_insert_again(test).await,
        3 => anonymise_a_recruiter(test).await,
        4 => edit("referentielromes", doc! { "definition": &text, "acces_metier": &text }).await,
        5 => edit("userswithaccounts", doc! { "phone": &text }).await,
        6 => edit("cfas", doc! { "address": &text }).await,
        7 => delete_a_user(test, true).await,
        8 => delete_a_user(test, false).await,
        _ => turn_engagement(test, number).await,
    }
}

/// The establishment of the next recruiter gets one, or has one that is none any more.
async fn turn_engagement(test: &TestDatabase, number: usize) {
    let recruiters = test.collection("recruiters");
    let next = recruiters.find_one(doc! {}).sort(doc! { "_id": -1 }).skip((number / KINDS) as u64).await.unwrap();
    let Some(recruiter) = next else { return };
    let siret = recruiter.get_str("establishment_siret").unwrap();
    let sources = if (number / KINDS).is_multiple_of(2) { vec!["france-travail"] } else { vec![] };
    let engagement = doc! { "$set": { "engagement": "handicap", "sources": sources } };
    let engagements = test.collection("referentiel_engagement_entreprise");
    engagements.update_one(doc! { "siret": siret }, engagement).upsert(true).await.unwrap();
}

/// From one recruiter to another, which is written first or last.
async fn move_a_job(test: &TestDatabase, number: usize) {
    let (from, to) = (recruiter([job("Boulanger"), job("Vendeur")]), recruiter([job("Fleuriste")]));
    let recruiters = test.collection("recruiters");
    recruiters.insert_many([&from, &to]).await.unwrap();
    let moved = &from.get_array("jobs").unwrap()[0];
    let push = recruiters.update_one(doc! { "_id": id(&to) }, doc! { "$push": { "jobs": moved } });
    let pull =
        recruiters.update_one(doc! { "_id": id(&from) }, doc! { "$pull": { "jobs": { "_id": first_job(&from) } } });
    if (number / KINDS).is_multiple_of(2) {
        push.await.unwrap();
        pull.await.unwrap();
    } else {
        pull.await.unwrap();
        push.await.unwrap();
    }
}

async fn delete_and_insert_again(test: &TestDatabase) {
    let recruiters = test.collection("recruiters");
    let sample = recruiters.aggregate([doc! { "$sample": { "size": 3 } }]).await.unwrap();
    let sample: Vec<Document> = sample.try_collect().await.unwrap();
    for recruiter in &sample {
        recruiters.delete_one(doc! { "_id": id(recruiter) }).await.unwrap();
        recruiters.insert_one(recruiter).await.unwrap();
    }
    let gone = recruiter([job("Pâtissier")]);
    recruiters.insert_one(&gone).await.unwrap();
    recruiters.delete_one(doc! { "_id": id(&gone) }).await.unwrap();
}

async fn anonymise_a_recruiter(test: &TestDatabase) {
    let recruiter = recruiter([job("Boulanger"), job("Pâtissier")]);
    let recruiters = test.collection("recruiters");
    recruiters.insert_one(&recruiter).await.unwrap();
    let copy = doc! { "_id": id(&recruiter), "jobs": recruiter.get_array("jobs").unwrap().clone() };
    test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
    let touched = doc! { "$set": { "updatedAt": DateTime::now() } };
    recruiters.update_one(doc! { "_id": id(&recruiter) }, touched).await.unwrap();
    recruiters.delete_one(doc! { "_id": id(&recruiter) }).await.unwrap();
}

/// A user of two recruiters, whose contact is its own or the CFA's.
async fn delete_a_user(test: &TestDatabase, is_anonymised: bool) {
    let user = ObjectId::new();
    let user = doc! { "_id": user, "email": format!("{PERSONAL}-{user}@example.com"), "phone": "1" };
    test.collection("userswithaccounts").insert_one(&user).await.unwrap();
    let managed = doc! { "managed_by": id(&user).to_hex() };
    let by_cfa = doc! { "is_delegated": true, "cfa_delegated_siret": CFA };
    let own = with(recruiter([job("Boulanger")]), managed.clone());
    let delegated = with(with(recruiter([job("Boulanger")]), managed), by_cfa);
    test.collection("recruiters").insert_many([own, delegated]).await.unwrap();
    if is_anonymised {
        let copy = doc! { "_id": id(&user) };
        test.collection("anonymized_userswithaccounts").insert_one(copy).await.unwrap();
    }
    test.collection("userswithaccounts").delete_one(doc! { "_id": id(&user) }).await.unwrap();
}
