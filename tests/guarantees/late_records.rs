//! What an instance that was paused writes late: under a successor it changes nothing, wherever it is kept (spec 00,
//! guarantee 4).

use std::time::Duration;

use bson::{DateTime, doc};
use stream_processor::clock;
use stream_processor::inside::Lease;
use stream_processor::inside::Validity;
use stream_processor::inside::VerificationReport;
use stream_processor::inside::stored;
use stream_processor::inside::{Failure, Unfinished};
use stream_processor::inside::{Writer, update_command};
use tokio::sync::watch;
use xtask::guarded::Signal;

use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const SHORT: Duration = Duration::from_secs(2);
const MONTH: i64 = 30 * 24 * 3_600_000;
const STATE: &str = "stream_processor_state";

/// By the clock that was ahead, its lease would not end for a month; the successor does not wait for that.
#[tokio::test]
async fn a_command_that_was_prepared_by_a_clock_a_month_ahead_changes_nothing_under_a_successor() {
    let test = TestDatabase::create("late_month").await;
    let held = Lease::acquire(&test.database, "holder", SHORT).await.unwrap().unwrap();
    let month = DateTime::from_millis(held.validity.ends_at.timestamp_millis() + MONTH);
    let jump = doc! { "$set": { "expires_at": month, "renewed_at": month } };
    test.collection(STATE).update_one(doc! { "_id": "lease" }, jump).await.unwrap();
    let write = async |ends_at: DateTime| {
        // What the holder knows when it is paused between this and the sending.
        let (_renewals, validity) =
            watch::channel(Validity { until: clock::instant() + SHORT, ends_at, cluster_end: None });
        let writer = Writer::under(&test.database, validity, SHORT);
        update_command::record(&writer, "things", doc! { "_id": 1 }, doc! { "$set": { "at": ends_at } }).await
    };
    let successor = eventually(PATIENCE, "another one takes the lease", async || {
        Lease::acquire(&test.database, "another", SHORT).await.unwrap()
    })
    .await;
    let late = write(month).await;
    assert!(matches!(late, Err(Unfinished::Failed(Failure::Overdue))), "{late:?}");
    assert_eq!(test.collection("things").count_documents(doc! {}).await.unwrap(), 0);
    write(successor.validity.ends_at).await.unwrap();
    assert_eq!(test.collection("things").count_documents(doc! {}).await.unwrap(), 1);
}

/// Who stops in the middle of a command gives back a lease that ends when the server no longer executes it.
#[tokio::test]
async fn a_lease_is_given_back_at_once_unless_a_command_has_no_answer() {
    let test = TestDatabase::create("late_release").await;
    let take = async |holder: &str| Lease::acquire(&test.database, holder, SHORT).await.unwrap();
    let lease = take("holder").await.unwrap();
    let (_renewals, validity) = watch::channel(lease.validity);
    let writer = lease.writer(&test.database, validity);
    let write = || update_command::record(&writer, "things", doc! { "_id": 1 }, doc! { "$inc": { "written": 1 } });
    write().await.unwrap();
    lease.release().await.unwrap();
    assert!(take("second").await.is_some());

    let lease = eventually(PATIENCE, "it is free again", async || take("holder").await).await;
    let (_renewals, validity) = watch::channel(lease.validity);
    let writer = lease.writer(&test.database, validity);
    {
        let mut given_up =
            Box::pin(update_command::record(&writer, "things", doc! { "_id": 1 }, doc! { "$set": { "late": true } }));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
    }
    lease.release().await.unwrap();
    assert!(take("second").await.is_none(), "the server may still execute it");
    let next = eventually(PATIENCE, "another one takes it", async || take("second").await).await;
    assert!(next.validity.ends_at > lease.validity.ends_at);
}

/// A step of the phase rests on the last verification.
#[tokio::test]
async fn a_verification_that_is_stored_late_does_not_replace_a_later_one() {
    let test = TestDatabase::create("late_verification").await;
    let now = DateTime::now().timestamp_millis();
    let report = |ended: i64, differences: u64| {
        let mut report = VerificationReport::new(DateTime::from_millis(now - 100_000), "dual-write".to_owned(), true);
        report.ended = DateTime::from_millis(now + ended);
        report.differences = differences;
        report
    };
    let differences = async || state(&test.database, "verification").await.unwrap().get_i64("differences").unwrap();
    // The first one was stored by a clock that was ahead: it is no later one.
    let told = [(MONTH, 7, 7), (-9_000, 0, 0), (-5_000, 3, 3), (-7_000, 0, 3), (-5_000, 3, 3), (-3_000, 0, 0)];
    for (ended, found, stands) in told {
        stored::store(&test.database, &report(ended, found)).await.unwrap();
        assert_eq!(differences().await, stands, "{ended}");
    }
    assert!(stored::load(&test.database).await.unwrap().last_success.is_some());
}

/// A command that only the successor can read, because it is of a newer version.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_a_successor_has_carried_out_is_not_put_aside_late() {
    let test = TestDatabase::create("late_aside").await;
    let mut paused = started_with(&test, &[("STREAM_PROCESSOR_FAILPOINT", "aside/1/STOP")]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let commands = test.collection("stream_processor_commands");
    let odd = doc! { "_id": 1, "order": { "name": "dance" }, "state": "requested", "requested_at": DateTime::now() };
    commands.insert_one(odd).await.unwrap();
    eventually(PATIENCE, "it is taken up", async || commands.find_one(doc! { "state": "running" }).await.unwrap())
        .await;
    let done = doc! { "state": "done", "term": 99_i64, "result": { "done": true, "details": {} } };
    commands.update_one(doc! { "_id": 1 }, doc! { "$set": done }).await.unwrap();
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    eventually(PATIENCE, "it goes on", async || {
        // Once more, if it was slow to stop.
        paused.signal(Signal::Continue);
        (!offers::read(&test.database).await.is_empty()).then_some(())
    })
    .await;
    let stands = commands.find_one(doc! { "_id": 1 }).await.unwrap().unwrap();
    assert_eq!(stands.get_str("state").unwrap(), "done", "{stands}");
    stopped(paused).await;
}
