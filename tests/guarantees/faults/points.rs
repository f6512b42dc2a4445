//! The process ends at every named point between the stages (`src/failpoint.rs`), in the middle of a batch in which
//! everything happens; what the next one makes of it must equal a fresh backfill.

use xtask::mongod::{Options, ReplicaSet};

use super::round::Round;
use crate::support::database::TestDatabase;
use crate::support::end::{assert_equal_to_a_fresh_backfill, assert_nothing_lost};
use crate::support::failpoints::{freeze, mend};
use crate::support::processor::Processor;
use crate::support::recruiters::PERSONAL;
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, settled, until_no_resync};
use crate::support::waiting::{checkpoint, cluster_time_now};
use crate::support::workload::Workload;

/// In the order in which a batch passes them.
const POINTS: [&str; 7] = ["fetched", "projected", "linked", "cancelled", "written", "applied", "checkpointed"];
/// The second chunk and, with `BATCHES`, the second batch of the backlog: something is done already, something is not.
const TIMES: usize = 2;
const BATCHES: (&str, &str) = ("STREAM_PROCESSOR__STREAM__BATCH_MAX", "40");

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_between_the_stages_it_loses_nothing() {
    ended_at_every_point("KILL", 137).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_at_every_point_between_the_stages_it_loses_nothing() {
    ended_at_every_point("TERM", 0).await;
}

async fn ended_at_every_point(signal: &str, code: i32) {
    let test = TestDatabase::create("faults_points").await;
    let mut workload = Workload::insert(&test.database, 13, 100).await;
    let mut processor = started(&test).await;
    for point in POINTS {
        let round = Round::begin(&test).await;
        stopped(processor).await;
        workload.backlog(&test.database, 100).await;
        round.play(&test).await;

        let order = format!("{point}/{TIMES}/{signal}");
        let mut ends = Processor::start(&test, &[("STREAM_PROCESSOR_FAILPOINT", &order), BATCHES]);
        let ended = ends.until_ended().await;
        assert_eq!(ended.code, code, "{order}:\n{}", ended.stderr);
        assert!(!ended.stderr.contains(PERSONAL), "personal data in the log");
        end_lease(&test.database).await;

        processor = started(&test).await;
        settled(&test.database).await;
        round.assert_applied(&test, &order).await;
        assert_equal_to_a_fresh_backfill(&test).await;
    }
    assert_nothing_lost(test, processor).await;
}

/// The server takes longer for each write than a batch may take after SIGTERM.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_in_a_batch_that_takes_too_long_it_leaves_the_batch_and_loses_nothing() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_long_batch").await;
    let mut workload = Workload::insert(&test.database, 17, 300).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    stopped(processor).await;
    workload.backlog(&test.database, 1_000).await;
    let written = cluster_time_now(&test.database).await;

    freeze(&test.database, &["update"], 600).await;
    let mut ends = Processor::start(&test, &[("STREAM_PROCESSOR_FAILPOINT", "fetched/1/TERM")]);
    let ended = ends.until_ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    mend(&test.database).await;
    assert!(checkpoint(&test.database).await < Some(written), "the batch was left");
    let processor = started(&test).await;
    assert_nothing_lost(test, processor).await;
}
