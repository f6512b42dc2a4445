//! A server that lives, greets, answers a ping, and does not answer one command: no error tells the service of it.

use bson::doc;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::failpoints::{freeze, mend, refuse_next};
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::started_with;
use crate::support::state::until_no_resync;
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::workload::Workload;

/// Nothing else may end readiness.
const PATIENT: [(&str, &str); 2] =
    [("STREAM_PROCESSOR__HEALTH__MAX_RETRY", "1h"), ("STREAM_PROCESSOR__HEALTH__MAX_LAG", "1d")];
/// Longer than any test, in milliseconds.
const FOR_EVER: i32 = 3_600_000;
/// Longer than a stream is waited for, in milliseconds. The server ends a failpoint only when nobody waits in it any more.
const FOR_LONG: i32 = 12_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_stream_ends_readiness_though_process_and_ping_are_fine_and_is_opened_again() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_frozen").await;
    let processor = started_with(&test, &PATIENT).await;
    until_no_resync(&test.database).await;

    let answers = async |wanted: u16| processor.try_get("/readyz").await.filter(|(status, _)| *status == wanted);
    freeze(&test.database, &["getMore"], FOR_LONG).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let (_, reasons) = eventually(PATIENCE, "readiness ends", async || answers(503).await).await;
    // Whichever is noticed first: that the canary does not come back, or that there is no answer.
    assert!(reasons.contains("canary") || reasons.contains("did not answer in time"), "{reasons}");
    assert_eq!(processor.http_get("/livez").await.0, 200, "the process is fine");
    assert!(test.database.run_command(doc! { "ping": 1 }).await.is_ok(), "ping is fine");
    let restarts = r#"stream_processor_stream_restarts_total{cause="stalled"}"#;
    eventually(PATIENCE, "the cursor is given up", async || {
        processor.metric(restarts).await.filter(|restarts| *restarts >= 1.0)
    })
    .await;

    mend(&test.database).await;
    eventually(PATIENCE, "readiness returns", async || answers(200).await).await;
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_or_write_that_is_never_answered_is_given_up_and_done_again() {
    futures::join!(gives_up("find", "jobs_partners"), gives_up("update", "stream_processor_links"));
}

async fn gives_up(command: &str, collection: &str) {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "faults_silent").await;
    let mut workload = Workload::insert(&test.database, 3, 100).await;
    let processor: Processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    let silence = doc! { "blockConnection": true, "blockTimeMS": FOR_EVER };
    let silence = refuse_next(&test.database, 1, &[command], Some(collection), silence).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    silence.happened(&test.database, command).await;
    workload.backlog(&test.database, 1_000).await;
    assert_nothing_lost(test, processor).await;
}
