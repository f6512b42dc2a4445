//! The end condition of every test of a fault: the target equals a fresh backfill, the checkpoint is at the end of the
//! stream, the service runs and is ready, and nothing personal was logged.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;

use super::database::TestDatabase;
use super::offers;
use super::processor::Processor;
use super::recruiters::PERSONAL;
use super::state::{gaps, jobs, links, settled, until_no_resync};

/// Waits until everything is handled, ends the service, and checks.
pub(crate) async fn assert_nothing_lost(test: TestDatabase, processor: Processor) {
    settled(&test.database).await;
    assert_nothing_lost_up_to_here(test, processor).await;
}

/// The same of a service whose checkpoint is known to be at the end of the stream, wherever it is kept.
pub(crate) async fn assert_nothing_lost_up_to_here(test: TestDatabase, mut processor: Processor) {
    processor.until_ready().await;
    until_no_resync(&test.database).await;
    for gap in gaps(&test.database).await {
        assert_eq!(gap.get_str("state").unwrap(), "repaired", "a gap stays open: {gap}");
    }
    assert!(!processor.stderr().contains(PERSONAL), "personal data in the log");
    let (links, jobs) = (links(&test.database).await, jobs(&test.database).await);
    let differ = links.keys().chain(jobs.keys()).filter(|id| links.get(id) != jobs.get(id)).count();
    assert_eq!(differ, 0, "links that are not the jobs of their recruiter, of {}", jobs.len());
    processor.sigterm();
    assert_eq!(processor.until_ended().await.code, 0, "SIGTERM ends it well:\n{}", processor.last_lines());
    drop(processor);
    assert_equal_to_a_fresh_backfill(&test).await;
}

/// Compares all offers with those of a database that holds the same recruiters and was filled at once.
/// What a fresh backfill cannot know is compared apart: cancelled offers of removed jobs, and histories.
pub(crate) async fn assert_equal_to_a_fresh_backfill(test: &TestDatabase) {
    let fresh = TestDatabase::create("fresh").await;
    copy(test, &fresh).await;
    assert_eq!(Processor::command(&["backfill"], &fresh, &[]).await.code, 0);

    let expected = without_history(offers::read(&fresh.database).await);
    let (present, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
        offers::read(&test.database).await.into_iter().partition(|(id, _)| expected.contains_key(id));
    for (id, offer) in present.iter().chain(&gone) {
        let statuses: Vec<&Bson> = offer.get_array("offer_status_history").unwrap().iter().collect();
        let statuses: Vec<&str> =
            statuses.iter().map(|entry| entry.as_document().unwrap().get_str("status").unwrap()).collect();
        assert!(statuses.windows(2).all(|pair| pair[0] != pair[1]), "{id}: the history repeats itself: {statuses:?}");
    }
    for (id, offer) in &gone {
        assert_eq!(offer.get_str("offer_status").unwrap(), "Cancelled", "{id}: its job is gone");
    }
    offers::assert_same(&expected, &without_history(present));
}

/// Not by `$out`: the other database may be on another server.
async fn copy(from: &TestDatabase, to: &TestDatabase) {
    let recruiters = from.collection("recruiters").find(doc! {}).await.unwrap();
    let recruiters: Vec<Document> = recruiters.try_collect().await.unwrap();
    to.collection("recruiters").insert_many(recruiters).await.unwrap();
}

fn without_history(mut offers: BTreeMap<ObjectId, Document>) -> BTreeMap<ObjectId, Document> {
    offers.values_mut().for_each(|offer| drop(offer.remove("offer_status_history")));
    offers
}
