//! A server that lives, greets, answers a ping, and does not answer one command: no error tells the service of it.

use bson::doc;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::failpoints::{freeze, mend};
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::started_with;
use crate::support::state::until_no_resync;
use crate::support::waiting::{PATIENCE, eventually};

/// Nothing else may end readiness.
const PATIENT: [(&str, &str); 2] =
    [("STREAM_PROCESSOR__HEALTH__MAX_RETRY", "1h"), ("STREAM_PROCESSOR__HEALTH__MAX_LAG", "1d")];
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
    assert!(reasons.contains("did not answer in time"), "{reasons}");
    assert_eq!(processor.http_get("/livez").await.0, 200, "the process is fine");
    assert!(test.database.run_command(doc! { "ping": 1 }).await.is_ok(), "ping is fine");
    let restarts = r#"stream_processor_stream_restarts_total{cause="stalled"}"#;
    assert!(processor.metric(restarts).await >= Some(1.0), "the cursor is given up");

    mend(&test.database).await;
    eventually(PATIENCE, "readiness returns", async || answers(200).await).await;
    assert_nothing_lost(test, processor).await;
}
