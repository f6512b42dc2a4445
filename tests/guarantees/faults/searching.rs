//! A server that is slow because there is much to search, on which nothing is wrong: it is waited for, while it gets on.

use std::time::Duration;

use bson::{Document, doc};
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::failpoints::{mend_scans, slow_scans};
use crate::support::fields::first_job;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{BRISK, started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const STALLED: &str = r#"stream_processor_stream_restarts_total{cause="stalled"}"#;
/// Lets `/readyz` say how far behind it is.
const MAX_LAG: (&str, &str) = ("STREAM_PROCESSOR__HEALTH__MAX_LAG", "1s");
/// Far more than the `getMore` may wait for an event, and 10 s.
const SEARCH: Duration = Duration::from_secs(20);
/// The server yields after so many entries of the oplog.
const ENTRIES_PER_YIELD: u32 = 1_000;
const YIELDS: u32 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_search_through_much_that_nobody_watches_is_waited_for_and_told() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_search").await;
    let processor = started(&test).await;
    // Else it would go on at the next start, and find what the stream has not come to yet.
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    let [before, after] = [recruiter([job("Boulanger")]), recruiter([job("Vendeur")])];
    test.collection("recruiters").insert_one(&before).await.unwrap();
    let unwatched = TestDatabase::create_on(&set.uri(), "faults_noise").await;
    let began = cluster_time_now(&test.database).await.time;
    for _ in 0..YIELDS {
        let noise = (0..ENTRIES_PER_YIELD).map(|number| doc! { "number": number });
        unwatched.collection("noise").insert_many(noise).await.unwrap();
    }
    eventually(PATIENCE, "the position is far back", async || {
        unwatched.collection("noise").insert_one(doc! {}).await.unwrap();
        (cluster_time_now(&test.database).await.time > began + 8).then_some(())
    })
    .await;
    test.collection("recruiters").insert_one(&after).await.unwrap();

    slow_scans(&test.database, "local.oplog.rs", SEARCH / YIELDS).await;
    let processor = Processor::start(&test, &[BRISK.as_slice(), &[MAX_LAG]].concat());
    let is_projected = async |recruiter: &Document| {
        offers::read(&test.database).await.contains_key(&first_job(recruiter)).then_some(())
    };
    eventually(PATIENCE, "what lies before it is applied", async || is_projected(&before).await).await;
    assert_eq!(is_projected(&after).await, None, "what lies behind it is not found yet");
    eventually(PATIENCE, "it says that it catches up", async || {
        let (status, reasons) = processor.try_get("/readyz").await?;
        assert!(!reasons.contains("stuck") && !reasons.contains("in time"), "{reasons}");
        (status == 503 && reasons.contains("catching up: ")).then_some(())
    })
    .await;
    assert_eq!(processor.metric("stream_processor_catching_up").await, Some(1.0));
    eventually(PATIENCE, "what lies behind it is applied", async || {
        assert_eq!(processor.http_get("/livez").await.0, 200);
        is_projected(&after).await
    })
    .await;
    assert_eq!(processor.metric(STALLED).await, None, "it was never given up");
    mend_scans(&test.database).await;
    eventually(PATIENCE, "it has caught up", async || {
        (processor.metric("stream_processor_catching_up").await == Some(0.0)).then_some(())
    })
    .await;
    until_no_resync(&test.database).await;
    assert_nothing_lost(test, processor).await;
}

/// Users are not indexed in `recruiters`: whom a changed user concerns is found by a search through all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_without_an_index_that_takes_longer_than_any_command_may_is_waited_for() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_unindexed").await;
    let crowd = (0..8_000).map(|_| recruiter([]));
    test.collection("recruiters").insert_many(crowd).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let recruiters = format!("{}.recruiters", test.name());
    slow_scans(&test.database, &recruiters, Duration::from_secs(5)).await;
    test.collection("userswithaccounts").insert_one(doc! {}).await.unwrap();
    settled(&test.database).await;
    assert_eq!(processor.metric("stream_processor_retries_total").await, Some(0.0));
    mend_scans(&test.database).await;
    assert_nothing_lost(test, processor).await;
}
