//! A set of three members gets another primary while recruiters change: the old one steps down, then the next one is
//! killed and comes back with what it wrote alone rolled back.

use std::sync::atomic::{AtomicBool, Ordering};

use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::elections::elect_twice;
use crate::support::end::assert_nothing_lost;
use crate::support::runs::started;
use crate::support::workload::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_steps_down_and_one_that_is_killed_while_updates_arrive_lose_none() {
    let mut set = ReplicaSet::start(&Options { members: 3, ..Options::default() }).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_elections").await;
    let mut workload = Workload::insert(&test.database, 19, 200).await;
    let processor = started(&test).await;

    let over = AtomicBool::new(false);
    let updates = async {
        while !over.load(Ordering::Relaxed) {
            workload.update_through_faults(&test.database).await;
        }
    };
    let elections = async {
        elect_twice(&mut set, &test.database).await;
        over.store(true, Ordering::Relaxed);
    };
    futures::join!(updates, elections);
    let restarts = processor.http_get("/metrics").await.1;
    assert!(restarts.contains("stream_processor_stream_restarts_total{"), "the service did not notice");
    assert_nothing_lost(test, processor).await;
}
