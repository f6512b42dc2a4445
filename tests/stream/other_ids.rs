//! Documents whose `_id` is no ObjectId, of whatever type: nothing can be done with them, and nobody passes over them in
//! silence. Each has a dead letter, is a difference for `verify`, and a cross in `doctor`.

use std::collections::BTreeSet;

use bson::{Binary, Bson, DateTime, Document, Timestamp, doc, oid::ObjectId, rawdoc};
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::support::damaged::{self, DAMAGED};
use crate::support::database::{SOURCES, TestDatabase};
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

/// One of each type that the server takes as an `_id`.
fn ids() -> Vec<Bson> {
    vec![
        Bson::MinKey,
        Bson::Null,
        Bson::Int32(7),
        Bson::Int64(1 << 40),
        Bson::Double(7.5),
        Bson::String("65102a7347a6ef7545b05ef0".to_owned()),
        Bson::Symbol("a symbol".to_owned()),
        Bson::Document(doc! { "b": 1, "a": ObjectId::new() }),
        Bson::Binary(Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] }),
        Bson::Boolean(true),
        Bson::DateTime(DateTime::from_millis(1)),
        Bson::Timestamp(Timestamp { time: 1, increment: 1 }),
        Bson::JavaScriptCode("code".to_owned()),
        Bson::MaxKey,
    ]
}

/// So many recruiters with a number as `_id`: more than a step of a walk.
const NUMBERS: i64 = 1_100;

/// Recruiters with such ids, one that is as it should be, and one document in each other collection.
async fn fill(test: &TestDatabase) -> u64 {
    let recruiters = test.collection("recruiters");
    let odd = ids().into_iter().map(|id| with(recruiter([job("Boulanger")]), doc! { "_id": id }));
    let numbers = (0..NUMBERS).map(|number| with(recruiter([]), doc! { "_id": 1_000 + number }));
    recruiters.insert_many(odd.chain(numbers).collect::<Vec<Document>>()).await.unwrap();
    recruiters.insert_one(recruiter([job("Vendeur")])).await.unwrap();
    for collection in OTHERS.iter().copied() {
        test.collection(collection).insert_many([doc! { "_id": "odd" }, doc! { "_id": true }]).await.unwrap();
    }
    let offers = test.collection("jobs_partners");
    let ours = doc! { "_id": "ours", "partner_label": "RECRUTEURS_LBA", "partner_job_id": "ours" };
    offers.insert_many([ours, doc! { "_id": "theirs", "partner_label": "other" }]).await.unwrap();
    ids().len() as u64 + u64::try_from(NUMBERS).unwrap()
}

/// The sources whose `_id`s are not varied as those of the recruiters.
const OTHERS: &[&str] = SOURCES.split_at(1).1;

#[tokio::test(flavor = "multi_thread")]
async fn what_has_another_id_is_a_dead_letter_after_a_resync_until_it_is_gone() {
    let test = TestDatabase::create("other_ids_resync").await;
    let odd = fill(&test).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(dead_letters(&test, "recruiters/").await.len() as u64, odd);
    for source in OTHERS.iter().copied() {
        let expected = [format!("{source}/\"odd\""), format!("{source}/true")];
        assert_eq!(dead_letters(&test, source).await, expected.into(), "{source}");
    }
    assert_eq!(dead_letters(&test, "jobs_partners/").await, ["jobs_partners/\"ours\"".to_owned()].into());
    let ours = doc! { "partner_label": "RECRUTEURS_LBA", "_id": { "$type": "objectId" } };
    let offers = test.collection("jobs_partners").count_documents(ours).await.unwrap();
    assert_eq!(offers, 1, "the recruiter among them was looked at");
    settled(&test.database).await;
    stopped(processor).await;

    // Gone while nobody looked, but for those of which a dead letter does not tell the whole `_id`.
    let all = doc! { "_id": { "$not": { "$type": ["objectId", "object"] } } };
    for collection in OTHERS.iter().copied().chain(["recruiters", "jobs_partners"]) {
        test.collection(collection).delete_many(all.clone()).await.unwrap();
    }
    lose_the_checkpoint(&test).await;
    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(dead_letters(&test, "").await.len(), 1, "of the document that is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_another_id_is_found_by_a_backfill_and_named_by_verify_and_doctor() {
    let test = TestDatabase::create("other_ids_commands").await;
    let odd = fill(&test).await;
    damaged::insert(&test, "recruiters", rawdoc! { "_id": DAMAGED }).await;
    let odd = odd + 1;
    let dry = command(&test, &["backfill", "--dry-run", "--json"], 0).await;
    assert_eq!((&dry["dead_letters"]["undecodable"], &dry["recruiters"]), (&odd.into(), &(odd + 1).into()));
    let printed = command(&test, &["backfill", "--json"], 0).await;
    assert_eq!((&printed["dead_letters"], &printed["recruiters"]), (&odd.into(), &(odd + 1).into()));
    assert_eq!(printed["created"], 1);
    assert_eq!(dead_letters(&test, "recruiters/").await.len() as u64, odd);

    let report = command(&test, &["verify", "--json"], 1).await;
    assert_eq!(report["kinds"]["undecodable"]["count"], odd + 2 * OTHERS.len() as u64, "{report:#}");
    assert_eq!(report["kinds"]["orphan"]["ids"], serde_json::json!(["jobs_partners/\"ours\""]), "{report:#}");
    let sample = command(&test, &["verify", "--json", "--sample", "5000"], 1).await;
    assert_eq!(sample["kinds"]["undecodable"]["count"], odd, "{sample:#}");

    let found = command(&test, &["doctor", "--json"], 1).await;
    let checks = found["checks"].as_array().unwrap().iter().filter(|check| check["check"] == "ids");
    let told: Vec<&str> = checks.map(|check| check["found"].as_str().unwrap()).collect();
    assert_eq!(told.len(), 2 + OTHERS.len(), "{found:#}");
    assert!(told[0].starts_with(&format!("{odd} documents of recruiters")), "{told:?}");
}

/// A projection finds a reference by its key, whatever its `_id` is, so its changes count too.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_reference_with_another_id_is_followed() {
    let test = TestDatabase::create("other_ids_reference").await;
    let cfas = test.collection("cfas");
    cfas.insert_one(doc! { "_id": "odd", "siret": "1", "raison_sociale": "Avant" }).await.unwrap();
    let sheet = doc! { "_id": 7, "rome": { "code_rome": "X1" }, "definition": "Avant" };
    test.collection("referentielromes").insert_one(sheet).await.unwrap();
    let delegated = doc! { "is_delegated": true, "cfa_delegated_siret": "1" };
    let job = with(job("Boulanger"), doc! { "rome_code": ["X1"], "job_description": null });
    let recruiter = with(recruiter([job]), delegated);
    let manager = ObjectId::parse_str(text(&recruiter, "managed_by")).unwrap();
    test.collection("userswithaccounts").insert_one(doc! { "_id": manager, "email": "a@example.com" }).await.unwrap();
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(offers::read(&test.database).await.len(), 1);
    let shown = async |fields: [&str; 2]| {
        let offer = offers::read(&test.database).await.remove(&first_job(&recruiter))?;
        (fields.map(|field| text(&offer, field).to_owned()) == ["Après", "Après"]).then_some(())
    };
    let fields = ["cfa_legal_name", "offer_description"];
    assert_eq!(shown(fields).await, None);
    let changed = doc! { "$set": { "raison_sociale": "Après" } };
    cfas.update_one(doc! { "_id": "odd" }, changed).await.unwrap();
    let changed = doc! { "$set": { "definition": "Après" } };
    test.collection("referentielromes").update_one(doc! { "_id": 7 }, changed).await.unwrap();
    eventually(PATIENCE, "the offer follows both", async || shown(fields).await).await;
    stopped(processor).await;
}

async fn lose_the_checkpoint(test: &TestDatabase) {
    test.collection("stream_processor_state").delete_one(doc! { "_id": "checkpoint" }).await.unwrap();
    test.collection("resumetokens").delete_many(doc! {}).await.unwrap();
}

/// The addresses that begin so.
async fn dead_letters(test: &TestDatabase, prefix: &str) -> BTreeSet<String> {
    let dead_letters = test.collection("stream_processor_dead_letters").find(doc! {}).await.unwrap();
    let dead_letters: Vec<Document> = dead_letters.try_collect().await.unwrap();
    let ids = dead_letters.iter().map(|dead_letter| dead_letter.get_str("_id").unwrap().to_owned());
    ids.filter(|id| id.starts_with(prefix)).collect()
}

async fn command(test: &TestDatabase, arguments: &[&str], code: i32) -> Value {
    let ended = Processor::command(arguments, test, &[]).await;
    assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
