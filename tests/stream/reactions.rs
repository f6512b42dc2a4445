//! Reactions to users and references (spec 03, "Reactions"): whoever refers to what changed is projected
//! again, and the contact of a user who is gone leaves the offers.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::waiting::caught_up;

const ANONYMIZED: &str = "anonymized@example.com";

/// A recruiter with one active job; gives back the ids of both.
async fn insert_recruiter(test: &TestDatabase, number: i32, fields: Document) -> (ObjectId, ObjectId) {
    let (recruiter, job) = (ObjectId::new(), ObjectId::new());
    let mut document = doc! {
        "_id": recruiter, "establishment_id": format!("e{number}"), "establishment_siret": format!("{number:014}"),
        "email": format!("recruiter{number}@example.fr"), "phone": "0100000000", "address": "1 rue Inventée",
        "status": "Actif", "is_delegated": false, "updatedAt": DateTime::from_millis(1_700_000_000_000),
        "jobs": [{ "_id": job, "job_status": "Active", "rome_code": ["A1234"], "rome_label": "Métier" }],
    };
    document.extend(fields);
    test.collection("recruiters").insert_one(document).await.unwrap();
    (recruiter, job)
}

async fn insert_user(test: &TestDatabase, id: ObjectId, email: &str) {
    let user =
        doc! { "_id": id, "email": email, "phone": "+33 6 00 00 00 00", "first_name": "Prénom", "last_name": "Nom" };
    test.collection("userswithaccounts").insert_one(user).await.unwrap();
}

async fn offer(test: &TestDatabase, id: ObjectId) -> Document {
    caught_up(&test.database).await;
    let offer = test.collection("jobs_partners").find_one(doc! { "_id": id }).await.unwrap();
    offer.expect("the offer is written")
}

fn text<'a>(offer: &'a Document, field: &str) -> Option<&'a str> {
    match offer.get(field) {
        Some(Bson::String(text)) => Some(text),
        Some(Bson::Null) => None,
        other => panic!("{field} is neither text nor null: {}", other.is_some()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegated_job_waits_for_its_cfa_and_user_and_follows_their_changes() {
    let test = TestDatabase::create("reactions_cfa").await;
    let _processor = Processor::start_ready(&test, &[]).await;
    let user = ObjectId::new();
    let delegated = doc! { "is_delegated": true, "cfa_delegated_siret": "99", "managed_by": user.to_hex() };
    let (_, job) = insert_recruiter(&test, 1, delegated).await;
    caught_up(&test.database).await;
    assert_eq!(test.collection("jobs_partners").count_documents(doc! {}).await.unwrap(), 0);
    insert_user(&test, user, "cfa@example.fr").await;
    let cfa = doc! { "siret": "99", "raison_sociale": "CFA Un", "address": "2 rue Inventée" };
    test.collection("cfas").insert_one(cfa).await.unwrap();

    let written = offer(&test, job).await;
    assert_eq!(
        (text(&written, "apply_email"), text(&written, "cfa_legal_name")),
        (Some("cfa@example.fr"), Some("CFA Un"))
    );
    assert_eq!(test.collection("stream_processor_dead_letters").count_documents(doc! {}).await.unwrap(), 0);

    let users = test.collection("userswithaccounts");
    users.update_one(doc! { "_id": user }, doc! { "$set": { "email": "autre@example.fr" } }).await.unwrap();
    assert_eq!(text(&offer(&test, job).await, "cfa_apply_email"), Some("autre@example.fr"));
    let cfas = test.collection("cfas");
    cfas.update_one(doc! { "siret": "99" }, doc! { "$set": { "raison_sociale": "CFA Deux" } }).await.unwrap();
    assert_eq!(text(&offer(&test, job).await, "cfa_legal_name"), Some("CFA Deux"));
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_follow_their_rome_sheet_and_the_engagement_of_their_establishment() {
    let test = TestDatabase::create("reactions_references").await;
    let _processor = Processor::start_ready(&test, &[]).await;
    let (_, job) = insert_recruiter(&test, 2, doc! {}).await;
    assert_eq!(text(&offer(&test, job).await, "offer_description"), Some(""));

    let sheets = test.collection("referentielromes");
    let sheet = doc! { "rome": { "code_rome": "A1234" }, "definition": "Définition", "acces_metier": "Accès" };
    sheets.insert_one(sheet).await.unwrap();
    assert_eq!(text(&offer(&test, job).await, "offer_description"), Some("Définition"));
    sheets.update_one(doc! {}, doc! { "$set": { "definition": "Autre" } }).await.unwrap();
    assert_eq!(text(&offer(&test, job).await, "offer_description"), Some("Autre"));

    let engagements = test.collection("referentiel_engagement_entreprise");
    let engagement = doc! { "siret": format!("{:014}", 2), "engagement": "handicap", "sources": ["france-travail"] };
    engagements.insert_one(engagement).await.unwrap();
    assert_eq!(offer(&test, job).await.get("contract_is_disabled_elligible"), Some(&Bson::Boolean(true)));

    // A deletion does not say what was deleted: everything is looked at again.
    engagements.delete_one(doc! {}).await.unwrap();
    sheets.delete_one(doc! {}).await.unwrap();
    crate::support::waiting::eventually(crate::support::waiting::PATIENCE, "the resync is done", async || {
        let offer = offer(&test, job).await;
        let back = text(&offer, "offer_description") == Some("")
            && offer.get("contract_is_disabled_elligible") == Some(&Bson::Boolean(false));
        back.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contact_of_an_anonymised_user_leaves_the_offers_and_does_not_come_back() {
    let test = TestDatabase::create("reactions_user").await;
    let mut processor = Processor::start_ready(&test, &[]).await;
    test.collection("cfas").insert_one(doc! { "siret": "99", "raison_sociale": "CFA" }).await.unwrap();
    let user = ObjectId::new();
    insert_user(&test, user, "personne@example.fr").await;
    // The id as text and as ObjectId: both are in the live data.
    let delegated = doc! { "is_delegated": true, "cfa_delegated_siret": "99", "managed_by": user.to_hex() };
    let (recruiter, by_text) = insert_recruiter(&test, 3, delegated).await;
    let own = doc! { "email": "personne@example.fr", "managed_by": user };
    let (_, by_id) = insert_recruiter(&test, 4, own).await;
    let other =
        doc! { "_id": ObjectId::new(), "partner_label": "AUTRE", "managed_by": user.to_hex(), "apply_email": "x" };
    test.collection("jobs_partners").insert_one(other.clone()).await.unwrap();
    assert_eq!(text(&offer(&test, by_text).await, "apply_email"), Some("personne@example.fr"));

    let copy = doc! { "_id": user, "origin": "lba" };
    test.collection("anonymized_userswithaccounts").insert_one(copy).await.unwrap();
    test.collection("userswithaccounts").delete_one(doc! { "_id": user }).await.unwrap();
    // Touched again after the deletion: the contact must not come back.
    let later = doc! { "$set": { "updatedAt": DateTime::from_millis(1_700_000_001_000) } };
    test.collection("recruiters").update_many(doc! {}, later).await.unwrap();
    for job in [by_text, by_id] {
        let offer = offer(&test, job).await;
        assert_eq!(text(&offer, "apply_email"), Some(ANONYMIZED));
        assert_eq!(text(&offer, "apply_phone"), None);
        assert_ne!(text(&offer, "cfa_apply_email"), Some("personne@example.fr"));
        assert_eq!(text(&offer, "offer_status"), Some("Cancelled"));
    }
    let kept = test.collection("jobs_partners").find_one(doc! { "_id": other.get_object_id("_id").unwrap() }).await;
    assert_eq!(kept.unwrap(), Some(other), "another partner's offer is not ours");
    assert_nothing_personal(&test, &mut processor, recruiter).await;
}

/// Nothing of the person is left in the target, the service's collections, its log or its metrics.
async fn assert_nothing_personal(test: &TestDatabase, processor: &mut Processor, recruiter: ObjectId) {
    let (_, metrics) = processor.http_get("/metrics").await;
    processor.sigterm();
    let ended = processor.until_ended().await;
    let mut places = vec![("the log", ended.stderr), ("the metrics", metrics)];
    for name in test.database.list_collection_names().await.unwrap() {
        if name == "jobs_partners" || name.starts_with("stream_processor_") {
            let mut cursor = test.collection(&name).find(doc! {}).await.unwrap();
            while cursor.advance().await.unwrap() {
                places.push(("a document", format!("{:?}", cursor.deserialize_current().unwrap())));
            }
        }
    }
    for (place, text) in places {
        for personal in ["personne@example.fr", "+33 6 00 00 00 00", "Prénom"] {
            assert!(!text.contains(personal), "{place} still carries the contact (recruiter {recruiter})");
        }
    }
}
