//! Personal data of people who are gone is nowhere, and `verify` takes for such only what is (spec 03, "It stays
//! anonymised"; spec 06, "Verification").

use bson::oid::ObjectId;
use bson::{Document, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::fields::text;
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

/// The report of a verification that must end with this code.
async fn verify(test: &TestDatabase, code: i32) -> Value {
    let ended = Processor::command(&["verify", "--json"], test, &[]).await;
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
