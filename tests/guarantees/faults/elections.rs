//! A set of three members gets another primary while recruiters change: the old one steps down, then the next one is
//! killed and comes back with what it wrote alone rolled back.

use std::sync::atomic::{AtomicBool, Ordering};

use bson::doc;
use mongodb::Database;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::runs::started;
use crate::support::waiting::{PATIENCE, eventually};
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
        let first = primary(&test.database).await;
        // It answers by cutting the connection, or not at all.
        let down = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 10 };
        drop(test.database.client().database("admin").run_command(down).await);
        let second = another_primary(&test.database, &first).await;
        let killed = (0..3).find(|index| set.member(*index).host() == second).unwrap();
        set.member(killed).kill();
        another_primary(&test.database, &second).await;
        set.member(killed).restart().unwrap();
        set.wait_until_healthy().unwrap();
        over.store(true, Ordering::Relaxed);
    };
    futures::join!(updates, elections);
    let restarts = processor.http_get("/metrics").await.1;
    assert!(restarts.contains("stream_processor_stream_restarts_total{"), "the service did not notice");
    assert_nothing_lost(test, processor).await;
}

async fn primary(database: &Database) -> String {
    eventually(PATIENCE, "there is a primary", async || {
        let hello = database.client().database("admin").run_command(doc! { "hello": 1 }).await.ok()?;
        hello.get_bool("isWritablePrimary").ok()?.then(|| hello.get_str("me").unwrap().to_owned())
    })
    .await
}

async fn another_primary(database: &Database, than: &str) -> String {
    eventually(PATIENCE, "there is another primary", async || {
        let primary = primary(database).await;
        (primary != than).then_some(primary)
    })
    .await
}
