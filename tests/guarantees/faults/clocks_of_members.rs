//! A replica set whose members' clocks are apart: the end of a lease never moves back, and a command that was given an
//! earlier one changes nothing under a successor.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use mongodb::Client;
use stream_processor::inside::{Failure, Lease, Unfinished, Validity, Writer, update_command};
use tokio::sync::watch;
use xtask::guarded::{Signal, TemporaryFolder};
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::runs::{shifted_clock, started_with};
use crate::support::state::{settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::workload::Workload;

const HOUR: i64 = 3_600;
const SHORT: Duration = Duration::from_secs(2);
/// The lease of the service in a test that is not about its loss. A busy machine may keep the service from a renewal for seconds.
const HELD: Duration = Duration::from_secs(6);
const HELD_LEASE: (&str, &str) = ("STREAM_PROCESSOR__LEASE__DURATION", "6s");

/// A set whose first member is so many seconds ahead.
fn set(folder: &TemporaryFolder, ahead: i64) -> ReplicaSet {
    let preload = vec![shifted_clock(folder.path(), ahead)];
    ReplicaSet::start(&Options { members: 3, preload, ..Options::default() }).unwrap()
}

/// Makes this member the primary.
async fn lead(test: &TestDatabase, set: &mut ReplicaSet, member: usize) {
    let host = set.member(member).host();
    let direct = Client::with_uri_str(format!("mongodb://{host}/?directConnection=true")).await.unwrap();
    eventually(PATIENCE, "the member is the primary", async || {
        drop(direct.database("admin").run_command(doc! { "replSetStepUp": 1 }).await);
        let hello = test.database.run_command(doc! { "hello": 1 }).await.ok()?;
        (hello.get_str("me").ok()? == host).then_some(())
    })
    .await;
}

async fn lease(test: &TestDatabase) -> Document {
    eventually(PATIENCE, "the lease can be read", async || {
        test.collection("stream_processor_state").find_one(doc! { "_id": "lease" }).await.ok()?
    })
    .await
}

fn time(lease: &Document, field: &str) -> DateTime {
    *lease.get_datetime(field).unwrap()
}

async fn server_time(test: &TestDatabase) -> DateTime {
    let hello = test.database.run_command(doc! { "hello": 1 }).await.unwrap();
    *hello.get_datetime("localTime").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_never_shortened_by_a_primary_whose_clock_is_an_hour_behind() {
    let folder = TemporaryFolder::create("stream-processor-clock-").unwrap();
    let mut set = set(&folder, HOUR);
    let test = TestDatabase::create_on(&set.uri(), "faults_member_clocks").await;
    lead(&test, &mut set, 0).await;
    let mut workload = Workload::insert(&test.database, 37, 50).await;
    let mut leader = started_with(&test, &[HELD_LEASE]).await;
    until_no_resync(&test.database).await;
    let before = time(&lease(&test).await, "expires_at");
    let off = before.timestamp_millis() - DateTime::now().timestamp_millis();
    assert!(off > HOUR * 1_000 / 2, "the server's clock is the one that it was given: {off} ms");

    lead(&test, &mut set, 1).await;
    eventually(PATIENCE, "the lease is prolonged by the other clock", async || {
        (time(&lease(&test).await, "renewed_at") < before).then_some(())
    })
    .await;
    workload.backlog(&test.database, 200).await;
    settled(&test.database).await;
    let after = lease(&test).await;
    assert!(time(&after, "expires_at") >= before, "{after}");
    assert_eq!(after.get_i64("term").unwrap(), 1, "nobody else took it");

    // A command that was given the earlier end may still begin: nobody takes the lease before.
    leader.signal(Signal::Stop);
    let renewed = time(&lease(&test).await, "renewed_at");
    eventually(PATIENCE, "as long as a lease by this clock has passed", async || {
        let now = server_time(&test).await.timestamp_millis();
        (now > renewed.timestamp_millis() + 6_000).then_some(())
    })
    .await;
    assert!(Lease::acquire(&test.database, "another", HELD).await.unwrap().is_none());

    // By the clock that is ahead it has ended, for the commands too.
    lead(&test, &mut set, 0).await;
    let taken = eventually(PATIENCE, "another one takes it", async || {
        Lease::acquire(&test.database, "another", HELD).await.unwrap_or_default()
    })
    .await;
    assert_eq!(taken.term, 2);
    leader.signal(Signal::Continue);
    eventually(PATIENCE, "it leads again, when that one does not go on", async || {
        (lease(&test).await.get_i64("term").unwrap() == 3).then_some(())
    })
    .await;
    assert_nothing_lost(test, leader).await;
}

/// By the clock of the new primary the lease of the old leader still has time left.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_an_ended_lease_does_not_begin_on_a_primary_whose_clock_is_far_behind() {
    const LONG: Duration = Duration::from_secs(6);
    let folder = TemporaryFolder::create("stream-processor-clock-").unwrap();
    let mut set = set(&folder, -11);
    let test = TestDatabase::create_on(&set.uri(), "faults_clock_behind").await;
    lead(&test, &mut set, 1).await;
    let held = Lease::acquire(&test.database, "holder", LONG).await.unwrap().unwrap();
    // What the holder knows when it is paused between its look at the lease and the sending.
    let write = async |validity: Validity| {
        let validity = Validity { until: std::time::Instant::now() + LONG, ..validity };
        let (_renewals, validity) = watch::channel(validity);
        let writer = Writer::under(&test.database, validity, LONG);
        update_command::record(&writer, "things", doc! { "_id": 1 }, doc! { "$inc": { "written": 1 } }).await
    };
    write(held.validity).await.unwrap();
    let successor = eventually(PATIENCE, "another one takes the lease", async || {
        Lease::acquire(&test.database, "another", LONG).await.unwrap()
    })
    .await;
    assert_eq!(successor.term, 2);
    lead(&test, &mut set, 0).await;
    let late = write(held.validity).await;
    assert!(matches!(late, Err(Unfinished::Failed(Failure::Overdue))), "{late:?}");
    // The clock alone would let it begin.
    write(Validity { cluster_end: None, ..held.validity }).await.unwrap();
    let things = test.collection("things").find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(things.get_i32("written").unwrap(), 2);
}

/// A clock that was a month ahead must not keep everybody from leading for a month.
#[tokio::test]
async fn a_lease_that_ends_in_a_month_is_left_to_who_prolongs_it_and_taken_from_who_does_not() {
    let test = TestDatabase::create("lease_month").await;
    let mut held = Lease::acquire(&test.database, "holder", SHORT).await.unwrap().unwrap();
    let month = DateTime::from_millis(server_time(&test).await.timestamp_millis() + 30 * 24 * HOUR * 1_000);
    let jump = doc! { "$set": { "expires_at": month, "renewed_at": month } };
    test.collection("stream_processor_state").update_one(doc! { "_id": "lease" }, jump).await.unwrap();
    assert!(Lease::acquire(&test.database, "another", SHORT).await.unwrap().is_none());
    held.renew(None).await.unwrap();
    assert_eq!(time(&lease(&test).await, "expires_at"), month, "never shortened");
    let soon = server_time(&test).await.timestamp_millis() + 3_000;
    assert!(held.validity.ends_at.timestamp_millis() < soon, "a command is given the true end");
    assert!(Lease::acquire(&test.database, "another", SHORT).await.unwrap().is_none(), "it lives");
    let taken = eventually(PATIENCE, "it is taken, as nobody prolongs it", async || {
        Lease::acquire(&test.database, "another", SHORT).await.unwrap()
    })
    .await;
    assert_eq!(taken.term, 2);
    let stored = time(&lease(&test).await, "expires_at").timestamp_millis();
    assert!(stored < server_time(&test).await.timestamp_millis() + 3_000, "the month is over");
    assert!(held.renew(None).await.is_err());
    assert!(state(&test.database, "lease").await.is_some());
}
