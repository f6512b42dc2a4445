//! `managed_by` names a user as an ObjectId or by its hex digits, in whatever case: there is one reading of it, and whoever
//! is projected with a user is found again when that user changes or is anonymised.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use stream_processor::inside::{UserId, spellings};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};

const ANONYMISED: &str = "anonymized@example.com";
const CFA: &str = "11111111111111";

/// Half of the letters in upper case.
fn mixed(user: ObjectId) -> String {
    let digits = user.to_hex();
    let digits = digits.chars().enumerate();
    digits.map(|(place, digit)| if place % 3 == 0 { digit.to_ascii_uppercase() } else { digit }).collect()
}

/// A user with letters among its first and its last digits.
fn user() -> ObjectId {
    let bytes = ObjectId::new().bytes();
    let mut letters = [0xab; 12];
    letters[2..10].copy_from_slice(&bytes[4..]);
    ObjectId::from_bytes(letters)
}

/// Recruiters of one user, one for each spelling, every second one delegated.
fn recruiters(user: ObjectId) -> Vec<Document> {
    let hex = user.to_hex();
    let spelled: [Bson; 4] = [hex.clone().into(), hex.to_uppercase().into(), mixed(user).into(), user.into()];
    let twice = spelled.into_iter().flat_map(|managed_by| [(false, managed_by.clone()), (true, managed_by)]);
    let one = |(is_delegated, managed_by): (bool, Bson)| {
        let cfa = is_delegated.then_some(CFA);
        let fields = doc! { "managed_by": managed_by, "is_delegated": is_delegated, "cfa_delegated_siret": cfa };
        with(recruiter([job("Boulanger")]), fields)
    };
    twice.map(one).collect()
}

async fn filled(name: &str) -> (TestDatabase, ObjectId, Vec<Document>) {
    let test = TestDatabase::create(name).await;
    let user = user();
    test.collection("cfas").insert_one(doc! { "siret": CFA }).await.unwrap();
    let contact = doc! { "_id": user, "email": format!("{PERSONAL}@example.com"), "status": [{ "status": "ACTIF" }] };
    test.collection("userswithaccounts").insert_one(contact).await.unwrap();
    let recruiters = recruiters(user);
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    (test, user, recruiters)
}

/// Of each recruiter, in order, the field of its offer.
async fn of_offers(test: &TestDatabase, recruiters: &[Document], field: &str) -> Vec<String> {
    let offers = offers::read(&test.database).await;
    recruiters.iter().map(|recruiter| text(&offers[&first_job(recruiter)], field).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_changes_is_deactivated_and_anonymised_is_found_in_every_spelling() {
    let (test, user, recruiters) = filled("spelled_live").await;
    let processor = started_with(&test, &[("STREAM_PROCESSOR__USERS__ON_DEACTIVATED", "cancel-offers")]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let one = doc! { "_id": user };
    let users = test.collection("userswithaccounts");
    users.update_one(one.clone(), doc! { "$set": { "email": "new@example.com" } }).await.unwrap();
    settled(&test.database).await;
    let delegated: Vec<Document> = recruiters.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(of_offers(&test, &delegated, "apply_email").await, ["new@example.com"; 4]);
    let deactivated = doc! { "$push": { "status": { "status": "DESACTIVE" } } };
    users.update_one(one.clone(), deactivated).await.unwrap();
    settled(&test.database).await;
    assert_eq!(of_offers(&test, &recruiters, "offer_status").await, ["Cancelled"; 8]);

    // Offers of whom no recruiter tells any more, and offers of those who are there.
    for gone in recruiters.iter().step_by(4) {
        test.collection("recruiters").delete_one(doc! { "_id": id(gone) }).await.unwrap();
    }
    settled(&test.database).await;
    let odd = doc! {
        "_id": "odd", "partner_label": "RECRUTEURS_LBA", "managed_by": mixed(user), "apply_email": PERSONAL,
        "offer_status": "Cancelled",
    };
    test.collection("jobs_partners").insert_one(odd).await.unwrap();
    test.collection("anonymized_userswithaccounts").insert_one(one.clone()).await.unwrap();
    users.delete_one(one).await.unwrap();
    settled(&test.database).await;
    let odd = doc! { "_id": "odd" };
    let offer = test.collection("jobs_partners").find_one_and_delete(odd).await.unwrap().unwrap();
    assert_eq!(text(&offer, "apply_email"), ANONYMISED, "whatever its `_id` is");
    assert_eq!(of_offers(&test, &recruiters, "apply_email").await, [ANONYMISED; 8]);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_anonymised_by_the_ticker_is_found_in_every_spelling() {
    let (test, user, recruiters) = filled("spelled_ticker").await;
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let command = ["anonymize", "user", &user.to_hex()];
    let ended = Processor::command(&command, &test, &[]).await;
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(of_offers(&test, &recruiters, "apply_email").await, [ANONYMISED; 8]);
    assert_eq!(test.collection("recruiters").count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_for_all_spellings_reads_a_few_keys_of_an_index() {
    let test = TestDatabase::create("spelled_index").await;
    let offers = test.collection("jobs_partners");
    offers.create_index(mongodb::IndexModel::builder().keys(doc! { "managed_by": 1 }).build()).await.unwrap();
    let others = (0..5_000_u32).map(|number| {
        let mut bytes = [0xab; 12];
        bytes[..4].copy_from_slice(&(0x5a00_0000 + number * 40_000).to_be_bytes());
        doc! { "managed_by": ObjectId::from_bytes(bytes).to_hex() }
    });
    offers.insert_many(others).await.unwrap();
    let user = user();
    let hex = user.to_hex();
    let spelled: [Bson; 4] = [hex.clone().into(), hex.to_uppercase().into(), mixed(user).into(), user.into()];
    offers.insert_many(spelled.map(|managed_by| doc! { "managed_by": managed_by })).await.unwrap();
    let find = doc! { "find": "jobs_partners", "filter": { "managed_by": { "$in": spellings(&[UserId(user)]) } } };
    let explain = doc! { "explain": find, "verbosity": "executionStats" };
    let explained = test.database.run_command(explain).await.unwrap();
    let stats = explained.get_document("executionStats").unwrap();
    assert_eq!(stats.get_i32("nReturned").unwrap(), 4);
    assert!(stats.get_i32("totalKeysExamined").unwrap() < 100, "{stats}");
    assert_eq!(stats.get_i32("totalDocsExamined").unwrap(), 4);
}
