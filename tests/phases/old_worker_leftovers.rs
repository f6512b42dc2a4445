//! The golden documents as the worker that we replace would have left them: offers of anonymised recruiters untouched,
//! those of removed jobs and deleted recruiters still `Active`, references stale. The first resync repairs all of it.

use bson::oid::ObjectId;
use bson::{DateTime, doc};

use crate::support::database::TestDatabase;
use crate::support::golden::{self, after_operations, operations};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_resync_repairs_what_the_old_worker_never_did() {
    let test = TestDatabase::with_planned_schema("leftovers").await;
    golden::load_references(&test.database).await;
    golden::load_recruiters(&test.database).await;
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    // Nothing of our own is there: it is not we who wrote these offers.
    for name in test.database.list_collection_names().await.unwrap() {
        if name.starts_with("stream_processor_") {
            test.collection(&name).drop().await.unwrap();
        }
    }
    // What happened since reached none of them, and no event tells of it: there is no token to begin after.
    for operation in operations() {
        operation.apply(&test.database).await;
    }
    let offer = doc! {
        "_id": ObjectId::new(), "partner_label": "autre", "partner_job_id": "1", "offer_status": "Active",
        "apply_email": "autre@example.com", "updated_at": DateTime::from_millis(0),
    };
    test.collection("jobs_partners").insert_one(&offer).await.unwrap();
    let expected = after_operations();
    let left = offers::read(&test.database).await;
    let stands = |job: &ObjectId| {
        left.get(job).is_some_and(|offer| offer.get_str("offer_status").is_ok_and(|status| status == "Active"))
    };
    assert!(expected.anonymised_if_present.iter().any(stands), "an anonymised recruiter's offer is still there");
    assert!(expected.cancelled_if_present.iter().any(stands), "and one of a job that is gone");

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    let other = test.collection("jobs_partners");
    assert_eq!(other.find_one_and_delete(doc! { "_id": offer.get("_id") }).await.unwrap(), Some(offer), "not ours");
    offers::assert_as_expected(&test.database, &expected).await;
    golden::assert_dead_letters(&test.database, &expected.dead_letters).await;
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 0, "{}", verified.stdout);
}
