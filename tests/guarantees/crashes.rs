//! Guarantee 1, nothing lost: ended at random while updates arrive and while a backlog drains, the service leaves no
//! offer that differs from a fresh backfill.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use xtask::guarded::Signal;

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::processor::Processor;
use crate::support::runs::{started, stopped};
use crate::support::state::settled;
use crate::support::waiting::{PATIENCE, checkpoint, cluster_time_now, eventually};
use crate::support::workload::Workload;

const RECRUITERS: usize = 400;
const UPDATES: usize = 5_000;
const ENDS: usize = 10;
/// So that a killed instance's lease does not hold up its successor.
const SHORT_LEASE: (&str, &str) = ("STREAM_PROCESSOR__LEASE__DURATION", "1s");

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_while_updates_arrive_it_loses_none() {
    let test = TestDatabase::with_planned_schema("crashes_live").await;
    let mut workload = Workload::insert(&test.database, 7, RECRUITERS).await;
    let mut processor = Processor::start_ready(&test, &[SHORT_LEASE]).await;
    for number in 0..UPDATES {
        workload.update(&test.database).await;
        if number % (UPDATES / ENDS) == UPDATES / ENDS - 1 {
            processor.sigkill();
            processor = Processor::start(&test, &[SHORT_LEASE]);
        }
    }
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_while_a_backlog_drains_it_loses_none() {
    ended_while_a_backlog_drains(Signal::Kill, 137).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_ten_times_to_end_while_a_backlog_drains_it_loses_none() {
    ended_while_a_backlog_drains(Signal::Terminate, 0).await;
}

async fn ended_while_a_backlog_drains(signal: Signal, code: i32) {
    let test = TestDatabase::with_planned_schema("crashes_backlog").await;
    let mut random = StdRng::seed_from_u64(11);
    let mut workload = Workload::insert(&test.database, 11, RECRUITERS).await;
    let processor = started(&test).await;
    settled(&test.database).await;
    stopped(processor).await;
    workload.backlog(&test.database, UPDATES).await;
    let end = cluster_time_now(&test.database).await;
    // Small batches, so that the ends fall into the middle of the backlog.
    let slowly = [SHORT_LEASE, ("STREAM_PROCESSOR__STREAM__BATCH_MAX", "50")];
    for _ in 0..ENDS {
        let mut processor = Processor::start(&test, &slowly);
        for _ in 0..random.random_range(1..5) {
            let before = checkpoint(&test.database).await;
            eventually(PATIENCE, "a batch is applied", async || {
                assert!(processor.is_running(), "the service ended:\n{}", processor.last_lines());
                let now = checkpoint(&test.database).await;
                (now > before || now >= Some(end)).then_some(())
            })
            .await;
        }
        // At whatever instant of the batches that follow.
        processor.signal(signal);
        assert_eq!(processor.until_ended().await.code, code);
    }
    let processor = Processor::start(&test, &[SHORT_LEASE]);
    assert_nothing_lost(test, processor).await;
}
