//! The commands of a start fail. A service that ends then is started again, as its supervisor would; one that leads or
//! stands by tries again by itself.

use bson::doc;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::failpoints::refuse_next;
use crate::support::processor::Processor;
use crate::support::runs::{BRISK, started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::workload::Workload;

/// What is sent until the first change is applied.
const SENT: [&str; 8] =
    ["hello", "listIndexes", "connectionStatus", "findAndModify", "createIndexes", "find", "update", "aggregate"];

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_commands_fail_is_made_up_for_by_the_next_and_loses_nothing() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_starts").await;
    let mut workload = Workload::insert(&test.database, 37, 50).await;
    let mut processor = started(&test).await;
    until_no_resync(&test.database).await;
    for command in SENT {
        for way in [doc! { "closeConnection": true }, doc! { "errorCode": 13 }] {
            settled(&test.database).await;
            stopped(processor).await;
            workload.backlog(&test.database, 50).await;
            let refusals = refuse_next(&test.database, 2, &[command], None, way.clone()).await;
            processor = restarted_until_ready(&test).await;
            refusals.happened(&test.database, &format!("{command} {way}")).await;
        }
    }
    assert_nothing_lost(test, processor).await;
}

async fn restarted_until_ready(test: &TestDatabase) -> Processor {
    let mut processor = Processor::start(test, &BRISK);
    eventually(PATIENCE, "a start succeeds", async || {
        if !processor.is_running() {
            assert!(processor.stderr().contains("the service cannot run"), "it says why it ended");
            processor = Processor::start(test, &BRISK);
        }
        processor.try_get("/readyz").await.filter(|(status, _)| *status == 200)
    })
    .await;
    processor
}
