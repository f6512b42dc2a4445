//! Events of a backlog that an earlier batch has covered, because it read its documents after them.

use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::settled;

const ONE_BY_ONE: [(&str, &str); 1] = [("STREAM_PROCESSOR__STREAM__BATCH_MAX", "1")];

/// Recruiters with offers; the service is stopped.
async fn projected(test: &TestDatabase, recruiters: &[Document], phase: &str) {
    let processor = started_with(test, &[("STREAM_PROCESSOR__PHASE__INITIAL", phase)]).await;
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
}

async fn edit(test: &TestDatabase, recruiter: &Document, fields: Document) {
    let edited =
        test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, doc! { "$set": fields }).await.unwrap();
    assert_eq!(edited.modified_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_on_one_job_is_read_once_and_not_in_every_batch() {
    let test = TestDatabase::create("covered_once").await;
    let all = [recruiter([job("Boulanger"), job("Vendeur")]), recruiter([job("Serveur")])];
    projected(&test, &all, "sync").await;
    for number in 0..20 {
        edit(&test, &all[0], doc! { "jobs.0.offer_title_custom": format!("Boulanger {number}") }).await;
        edit(&test, &all[1], doc! { "address": format!("{number} rue Inventée") }).await;
    }
    edit(&test, &all[0], doc! { "jobs.1.offer_title_custom": "Vendeur itinérant" }).await;

    let processor = started_with(&test, &ONE_BY_ONE).await;
    settled(&test.database).await;
    let touches = processor.metric("stream_processor_touches_total{origin=\"stream\"}").await;
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&all[0])], "offer_title"), "Boulanger 19");
    assert_eq!(text(&offers[&first_job(&all[1])], "workplace_address_label"), "19 rue Inventée");
    let second = all[0].get_array("jobs").unwrap()[1].as_document().unwrap();
    assert_eq!(text(&offers[&id(second)], "offer_title"), "Vendeur itinérant");
    assert!(touches.is_some_and(|touches| touches < 10.0), "41 events caused {touches:?} touches");

    // What happens from now on is not covered.
    edit(&test, &all[0], doc! { "jobs.0.offer_title_custom": "Boulanger de nuit" }).await;
    settled(&test.database).await;
    assert_eq!(text(&offers::read(&test.database).await[&first_job(&all[0])], "offer_title"), "Boulanger de nuit");
    stopped(processor).await;
}

/// The anonymisation takes the address off the offer, and the edit after it says that the recruiter exists all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_behind_an_anonymisation_is_carried_out_also_if_the_edit_before_it_showed_the_same() {
    for batch_max in ["1", "5000"] {
        let test = TestDatabase::create("covered_anonymised").await;
        let all = [recruiter([job("Boulanger")])];
        projected(&test, &all, "sync").await;
        edit(&test, &all[0], doc! { "jobs.0.offer_title_custom": "Boulanger de nuit" }).await;
        let copy = doc! { "_id": id(&all[0]), "jobs": all[0].get_array("jobs").unwrap().clone() };
        test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
        edit(&test, &all[0], doc! { "jobs.0.offer_title_custom": "Boulanger de jour" }).await;

        let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", batch_max)]).await;
        settled(&test.database).await;
        let offer = &offers::read(&test.database).await[&first_job(&all[0])];
        assert_eq!(text(offer, "offer_title"), "Boulanger de jour");
        assert_eq!(text(offer, "apply_email"), text(&all[0], "email"), "in batches of {batch_max}");
        stopped(processor).await;
    }
}

/// The edit before reads the recruiter without the job, and finds that the job is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_goes_behind_an_edit_in_the_backlog_is_cancelled() {
    for batch_max in ["1", "5000"] {
        for phase in ["sync", "dual-write"] {
            let test = TestDatabase::create("covered_removal").await;
            let all = [recruiter([job("Boulanger"), job("Vendeur")])];
            projected(&test, &all, phase).await;
            for fields in [doc! { "address": "2 rue Inventée" }, doc! { "address": "3 rue Inventée" }] {
                edit(&test, &all[0], fields).await;
            }
            let without = doc! { "$pull": { "jobs": { "_id": first_job(&all[0]) } } };
            test.collection("recruiters").update_one(doc! { "_id": id(&all[0]) }, without).await.unwrap();
            edit(&test, &all[0], doc! { "address": "4 rue Inventée" }).await;

            let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", batch_max)]).await;
            settled(&test.database).await;
            let offer = &offers::read(&test.database).await[&first_job(&all[0])];
            assert_eq!(text(offer, "offer_status"), "Cancelled", "in batches of {batch_max} in {phase}");
            stopped(processor).await;
        }
    }
}
