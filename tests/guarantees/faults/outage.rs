//! No server at all, for longer than the driver looks for one, in the middle of a backlog.

use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::runs::started;
use crate::support::state::until_no_resync;
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::workload::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_twenty_seconds_while_a_backlog_drains_loses_nothing() {
    let mut set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_outage").await;
    let mut workload = Workload::insert(&test.database, 29, 400).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;

    workload.backlog(&test.database, 2_500).await;
    set.member(0).kill();
    eventually(PATIENCE, "the cause is told", async || {
        let ready = processor.http_get("/readyz").await.1;
        assert!(!ready.contains("no answer to a ping"), "the server refuses, which is an answer: {ready}");
        ready.contains("MongoDB has not answered").then_some(ready)
    })
    .await;
    let ready = processor.http_get("/readyz").await.1;
    assert!(ready.contains("connection refused"), "{ready}");
    // It comes to that in two steps of ten seconds, the time for which the driver looks for a server: the one under way
    // ends, and the lease is lost; then it is asked for in vain.
    eventually(PATIENCE, "the service stands by without a server", async || {
        processor.stderr().contains("the lease could not be requested; retrying").then_some(())
    })
    .await;
    let log = processor.stderr();
    let lost = log.find("the lease was lost").expect("the loss is told");
    assert!(lost < log.find("this instance leads no longer").unwrap(), "it is told when it is known: {log}");
    assert!(
        log.lines().filter(|line| line.contains("\"error\"")).all(|line| !line.contains("connections_closed")),
        "{log}"
    );
    assert_eq!(processor.http_get("/livez").await.0, 200, "a restart of the service would not help");

    set.member(0).restart().unwrap();
    set.wait_until_healthy().unwrap();
    workload.backlog(&test.database, 500).await;
    assert_nothing_lost(test, processor).await;
}
