//! Machines whose clocks are an hour off, one ahead and one behind: the lease and the lag go by the server's clock, and
//! what is written depends on no clock.

use std::path::Path;

use bson::DateTime;
use xtask::guarded::TemporaryFolder;

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::processor::Processor;
use crate::support::runs::{BRISK, shifted_clock};
use crate::support::state::{checkpoint, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::workload::Workload;

const HOUR: i64 = 3_600;
const SHORT_LEASE: (&str, &str) = ("STREAM_PROCESSOR__LEASE__DURATION", "2s");

#[tokio::test(flavor = "multi_thread")]
async fn instances_whose_clocks_are_an_hour_off_lead_one_after_the_other_and_lose_nothing() {
    let test = TestDatabase::create("faults_clock").await;
    let mut workload = Workload::insert(&test.database, 31, 100).await;
    let folder = TemporaryFolder::create("stream-processor-clock-").unwrap();
    let mut ahead = start(&test, folder.path(), HOUR).await;
    let behind = start(&test, folder.path(), -HOUR).await;
    until_no_resync(&test.database).await;
    workload.backlog(&test.database, 500).await;
    settled(&test.database).await;
    assert_clock(&test, &ahead, HOUR).await;
    assert_eq!(behind.metric("stream_processor_leader").await, Some(0.0));

    ahead.sigkill();
    workload.backlog(&test.database, 500).await;
    eventually(PATIENCE, "the other one leads", async || {
        behind.metric("stream_processor_leader").await.filter(|leads| *leads == 1.0)
    })
    .await;
    settled(&test.database).await;
    assert_clock(&test, &behind, -HOUR).await;
    assert_nothing_lost(test, behind).await;
}

/// A service whose wall clock is so many seconds ahead.
async fn start(test: &TestDatabase, folder: &Path, shift: i64) -> Processor {
    let library = shifted_clock(folder, shift);
    let preload = ("LD_PRELOAD", library.as_str());
    Processor::start_ready(test, &[&BRISK[..], &[SHORT_LEASE, preload]].concat()).await
}

/// This one wrote the checkpoint, by that clock, and knows its lag all the same.
async fn assert_clock(test: &TestDatabase, leader: &Processor, shift: i64) {
    let saved = *checkpoint(&test.database).await.get_datetime("updated_at").unwrap();
    let off = saved.timestamp_millis() - DateTime::now().timestamp_millis() - shift * 1_000;
    assert!(off.abs() < HOUR * 1_000 / 2, "the clock of the service is not the one that it was given: {off} ms");
    eventually(PATIENCE, "a lag by the server's clock", async || {
        leader.metric("stream_processor_lag_seconds").await.filter(|lag| *lag < 60.0)
    })
    .await;
}
