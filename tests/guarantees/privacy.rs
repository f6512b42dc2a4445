//! Personal data of people who are gone is nowhere, and `verify` takes for such only what is (spec 03, "It stays
//! anonymised"; spec 06, "Verification").

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use serde_json::Value;
use xtask::golden::{TargetModel, put_target_validator};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};

/// Jobs go from recruiter to recruiter; whose contact an offer shows is not always whose it is now.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_shows_an_anonymised_person_is_found_as_that_person_s_data() {
    let test = TestDatabase::create("privacy_shown").await;
    let [removed, lent, moved] = ["Boulanger", "Vendeur", "Pâtissier"].map(job);
    let anonymized = recruiter([removed.clone(), lent.clone()]);
    let gone_user = doc! { "_id": ObjectId::new() };
    let borrower = recruiter([job("Traiteur"), moved.clone()]);
    let heir = recruiter([job("Crémier")]);
    let heir = with(heir, doc! { "address": "", "managed_by": id(&gone_user).to_hex() });
    let recruiters = test.collection("recruiters");
    recruiters.insert_many([&anonymized, &borrower, &heir]).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let pull = |job: &Document| doc! { "$pull": { "jobs": { "_id": id(job) } } };
    let push = |job: &Document| doc! { "$push": { "jobs": job } };
    for (recruiter, change) in [
        (&anonymized, pull(&removed)),
        // The borrower shows itself in the job that the copy will name, and loses it.
        (&borrower, push(&lent)),
        (&anonymized, pull(&lent)),
        (&borrower, pull(&lent)),
        // The heir cannot be projected, and its user is anonymised: the offer goes on showing the borrower.
        (&heir, push(&moved)),
        (&borrower, pull(&moved)),
    ] {
        recruiters.update_one(doc! { "_id": id(recruiter) }, change).await.unwrap();
        settled(&test.database).await;
    }
    test.collection("anonymized_userswithaccounts").insert_one(gone_user).await.unwrap();
    recruiters.delete_one(doc! { "_id": id(&anonymized) }).await.unwrap();
    settled(&test.database).await;
    // The copy comes while nobody listens.
    stopped(processor).await;
    let establishment = text(&anonymized, "establishment_id");
    let copy = doc! { "_id": id(&anonymized), "establishment_id": establishment, "jobs": [&lent] };
    test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();

    let found = verify(&test, 1).await;
    assert_eq!(found["differences"], 3, "{found:#}");
    for field in ["apply_email", "apply_phone", "offer_description"] {
        assert_eq!(found["fields"][field]["ids"], Value::from([id(&removed).to_hex()].to_vec()), "{found:#}");
    }
    assert_eq!(found["kinds"]["personal_data"]["count"], 3, "{found:#}");

    let processor = started(&test).await;
    settled(&test.database).await;
    stopped(processor).await;
    verify(&test, 0).await;
}

/// A user who was deleted without a copy leaves no other trace than the offers that were anonymised then.
#[tokio::test(flavor = "multi_thread")]
async fn the_offers_of_a_deleted_user_stay_anonymised_until_the_user_exists_again() {
    let test = TestDatabase::create("privacy_deleted").await;
    let user = doc! { "_id": ObjectId::new(), "email": "user@example.org" };
    let [first, second] = ["Boulanger", "Vendeur"].map(job);
    let managed = with(recruiter([first.clone(), second]), doc! { "managed_by": id(&user).to_hex() });
    let (recruiters, users) = (test.collection("recruiters"), test.collection("userswithaccounts"));
    users.insert_one(&user).await.unwrap();
    recruiters.insert_one(&managed).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let email = text(&managed, "email").to_owned();
    let shown = async || {
        let offers = offers::read(&test.database).await;
        let offer = &offers[&id(&first)];
        (text(offer, "offer_status").to_owned(), text(offer, "apply_email").to_owned())
    };
    assert_eq!(shown().await, ("Active".to_owned(), email.clone()));

    users.delete_one(doc! { "_id": id(&user) }).await.unwrap();
    settled(&test.database).await;
    let hidden = ("Cancelled".to_owned(), "anonymized@example.com".to_owned());
    assert_eq!(shown().await, hidden);
    let edit = doc! { "$set": { "jobs.1.offer_title_custom": "Vendeuse", "updatedAt": DateTime::now() } };
    recruiters.update_one(doc! { "_id": id(&managed) }, edit).await.unwrap();
    settled(&test.database).await;
    for command in [&["backfill"][..], &["resync", "--reason", "a test"]] {
        assert_eq!(Processor::command(command, &test, &[]).await.code, 0, "{command:?}");
        assert_eq!(shown().await, hidden, "{command:?}");
    }
    verify(&test, 0).await;
    let states = test.collection("stream_processor_state");
    let stored = states.find_one(doc! { "_id": "verification" }).await.unwrap().unwrap();
    let sides = stored.get_document("sides").unwrap();
    let statuses = |side: &str| sides.get_document(side).unwrap().get_document("by_status").unwrap().clone();
    assert_eq!(statuses("projected"), statuses("stored"), "both sides show the anonymised offers");

    users.insert_one(&user).await.unwrap();
    settled(&test.database).await;
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    assert_eq!(shown().await, ("Active".to_owned(), email), "the user is there again");
    stopped(processor).await;
    verify(&test, 0).await;
}

/// The target of the first day has no field for the user, so its offers do not name the user.
#[tokio::test(flavor = "multi_thread")]
async fn the_offers_of_a_deleted_user_lose_their_contact_where_they_cannot_name_the_user() {
    let test = TestDatabase::with_live_schema("privacy_unnamed").await;
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    let user = doc! { "_id": ObjectId::new(), "email": "user@example.org" };
    let managed = with(recruiter([job("Boulanger")]), doc! { "managed_by": id(&user).to_hex() });
    let other = recruiter([job("Vendeur")]);
    test.collection("userswithaccounts").insert_one(&user).await.unwrap();
    test.collection("recruiters").insert_many([&managed, &other]).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    test.collection("userswithaccounts").delete_one(doc! { "_id": id(&user) }).await.unwrap();
    settled(&test.database).await;
    let edit = doc! { "$set": { "jobs.0.offer_title_custom": "Boulangère", "updatedAt": DateTime::now() } };
    test.collection("recruiters").update_one(doc! { "_id": id(&managed) }, edit).await.unwrap();
    settled(&test.database).await;
    assert_eq!(Processor::command(&["resync", "--reason", "a test"], &test, &[]).await.code, 0);
    let offers = offers::read(&test.database).await;
    let [of_user, of_other] = [&managed, &other].map(|recruiter| &offers[&first_job(recruiter)]);
    assert_eq!(of_user.get("managed_by"), None);
    assert_eq!((text(of_user, "offer_status"), text(of_user, "apply_email")), ("Cancelled", "anonymized@example.com"));
    assert_eq!(text(of_other, "apply_email"), text(&other, "email"));
    verify(&test, 0).await;
    stopped(processor).await;
}

/// The report of a verification that must end with this code.
async fn verify(test: &TestDatabase, code: i32) -> Value {
    let ended = Processor::command(&["verify", "--json"], test, &[]).await;
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
