//! An offer of an archived recruiter must collect no applications, whatever is wrong with its other fields: when the
//! server refuses the change that closes it, the closing alone is written.

use std::collections::BTreeMap;

use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::dead_letters::dead_letters;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};

const REFUSED_TITLE: &str = "Titre refusé";

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_closes_although_the_server_refuses_its_other_fields() {
    let test = TestDatabase::create("refused_closings").await;
    let rules = doc! { "$jsonSchema": { "properties": { "offer_title": { "not": { "enum": [REFUSED_TITLE] } } } } };
    let create = doc! { "create": "jobs_partners", "validator": rules, "validationAction": "error" };
    test.database.run_command(create).await.unwrap();
    let index = doc! { "name": "place", "key": { "workplace_geopoint": "2dsphere" } };
    test.database.run_command(doc! { "createIndexes": "jobs_partners", "indexes": [index] }).await.unwrap();
    let [title, place] = [(); 2].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many([&title, &place]).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    let point = |longitude: f64| doc! { "type": "Point", "coordinates": [longitude, 48.0] };
    set(&test, &title, doc! { "status": "Archivé", "jobs.0.offer_title_custom": REFUSED_TITLE }).await;
    set(&test, &place, doc! { "status": "Archivé", "geopoint": point(200.0) }).await;
    let expected = [(&title, "refused_by_validation"), (&place, "refused_by_geo_index")];
    let expected = expected.map(|(recruiter, reason)| {
        (format!("recruiters/{}/{}", id(recruiter), first_job(recruiter)), reason.to_owned())
    });
    assert_eq!(reasons(&test).await, BTreeMap::from(expected), "the other fields still wait");
    assert_closed(&test, "Actif").await;

    set(&test, &title, doc! { "jobs.0.offer_title_custom": "Pâtissier" }).await;
    set(&test, &place, doc! { "geopoint": point(2.0) }).await;
    assert_eq!(reasons(&test).await, BTreeMap::new());
    assert_closed(&test, "Archivé").await;
    assert!(!processor.stderr().contains(PERSONAL), "personal data in the log");
    stopped(processor).await;
}

/// Both offers are closed, with one entry in their history, and show this status of their recruiter.
async fn assert_closed(test: &TestDatabase, recruiter_status: &str) {
    let offers = offers::read(&test.database).await;
    assert_eq!(offers.len(), 2);
    for offer in offers.values() {
        let history = offer.get_array("offer_status_history").unwrap().len();
        let found = (text(offer, "offer_status"), text(offer, "recruiter_status"), history);
        assert_eq!(found, ("Cancelled", recruiter_status, 1));
    }
}

async fn reasons(test: &TestDatabase) -> BTreeMap<String, String> {
    let dead_letters = dead_letters(test).await;
    dead_letters.iter().map(|(address, letter)| (address.clone(), text(letter, "reason").to_owned())).collect()
}

async fn set(test: &TestDatabase, recruiter: &Document, fields: Document) {
    test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, doc! { "$set": fields }).await.unwrap();
    settled(&test.database).await;
}
