//! A document that a projection refers to and that is no valid BSON: the jobs that need it are dead letters that name it
//! until it is repaired, and nobody takes it for missing.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Document, doc, rawdoc};

use crate::support::damaged::{self, DAMAGED};
use crate::support::database::TestDatabase;
use crate::support::dead_letters::dead_letters;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::started;
use crate::support::state::{settled, until_no_resync};

const CFA: &str = "11111111111111";
const DAMAGED_CFA: &str = "22222222222222";

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_cannot_be_read_is_named_by_dead_letters_until_it_is_repaired() {
    let test = TestDatabase::create("unreadable_references").await;
    let ids = [(); 4].map(|()| ObjectId::new());
    let [sheet, cfa, user, engagement] = ids;
    let deep = rawdoc! { "savoirs": [{ "libelle": "C", "items": [{ "libelle": DAMAGED }] }] };
    let document = rawdoc! { "_id": sheet, "rome": { "code_rome": "X1" }, "competences": deep };
    damaged::insert(&test, "referentielromes", document).await;
    damaged::insert(&test, "cfas", rawdoc! { "_id": cfa, "siret": DAMAGED_CFA, "address": DAMAGED }).await;
    damaged::insert(&test, "userswithaccounts", rawdoc! { "_id": user, "email": DAMAGED, "phone": "1" }).await;
    let sources = rawdoc! { "_id": engagement, "siret": "3", "engagement": "handicap", "sources": [DAMAGED] };
    damaged::insert(&test, "referentiel_engagement_entreprise", sources).await;
    test.collection("cfas").insert_one(doc! { "siret": CFA, "address": "1 rue du CFA" }).await.unwrap();

    let delegated = |siret: &str| doc! { "is_delegated": true, "cfa_delegated_siret": siret };
    let of_sheet = recruiter([with(job("Boulanger"), doc! { "rome_code": ["X1"] }), job("Vendeur")]);
    let of_cfa = with(recruiter([job("Boulanger")]), delegated(DAMAGED_CFA));
    let of_user = with(with(recruiter([job("Boulanger")]), delegated(CFA)), doc! { "managed_by": user });
    let of_engagement = with(recruiter([job("Boulanger")]), doc! { "establishment_siret": "3" });
    // Nothing of its user is looked at.
    let plain = with(recruiter([job("Boulanger")]), doc! { "managed_by": user });
    let manager = ObjectId::parse_str(text(&of_cfa, "managed_by")).unwrap();
    test.collection("userswithaccounts").insert_one(doc! { "_id": manager, "email": "a@example.com" }).await.unwrap();
    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    let all = [&of_sheet, &of_cfa, &of_user, &of_engagement, &plain];
    test.collection("recruiters").insert_many(all).await.unwrap();
    settled(&test.database).await;
    let address = |recruiter: &Document| format!("recruiters/{}/{}", id(recruiter), first_job(recruiter));
    let expected = [
        (address(&of_sheet), format!("referentielromes/{sheet}")),
        (address(&of_cfa), format!("cfas/{cfa}")),
        (address(&of_user), format!("userswithaccounts/{user}")),
        (address(&of_engagement), format!("referentiel_engagement_entreprise/{engagement}")),
    ];
    assert_eq!(details(&test).await, expected.into());
    assert_eq!(offers::read(&test.database).await.len(), 2, "siblings and neighbours are projected");
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0, "a dead letter explains it");

    let repair = async |collection: &str, id: ObjectId, fields: Document| {
        test.collection(collection).update_one(doc! { "_id": id }, doc! { "$set": fields }).await.unwrap();
        settled(&test.database).await;
    };
    repair("referentielromes", sheet, doc! { "competences": {} }).await;
    repair("cfas", cfa, doc! { "address": "2 rue du CFA" }).await;
    repair("userswithaccounts", user, doc! { "email": "b@example.com" }).await;
    repair("referentiel_engagement_entreprise", engagement, doc! { "sources": ["france-travail"] }).await;
    assert_eq!(details(&test).await, BTreeMap::new());
    let offers = offers::read(&test.database).await;
    assert_eq!(offers.len(), 6);
    assert_eq!(text(&offers[&first_job(&of_user)], "apply_email"), "b@example.com");
    assert!(offers[&first_job(&of_engagement)].get_bool("contract_is_disabled_elligible").unwrap());
}

/// What each dead letter names, by its address.
async fn details(test: &TestDatabase) -> BTreeMap<String, String> {
    let dead_letters = dead_letters(test).await;
    assert!(
        dead_letters.values().all(|dead_letter| text(dead_letter, "reason") == "undecodable_reference"),
        "{dead_letters:?}"
    );
    dead_letters.into_iter().map(|(address, letter)| (address, text(&letter, "detail").to_owned())).collect()
}
