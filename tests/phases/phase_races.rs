//! A step of the phase by a leader that has lost the lease: what it commits late changes nothing (spec 00, guarantee 4).

use bson::{Document, doc};
use futures::TryStreamExt as _;
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::refuse_next;
use crate::support::processor::Processor;
use crate::support::proxy::Proxy;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{BRISK, started_with, stopped};
use crate::support::state::{settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const LEASE: (&str, &str) = ("STREAM_PROCESSOR__LEASE__DURATION", "2s");
const INITIAL: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");

/// How long the server holds the commit up.
const HELD: i32 = 25_000;
/// The same, where the leader itself repeats the step.
const GIVEN_UP: i32 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_commit_is_held_up_does_not_land_under_a_successor_that_refuses_it() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "phase_late_commit").await;
    let mut first = ready_to_step(&test).await;
    let held = doc! { "blockConnection": true, "blockTimeMS": HELD };
    let commit = refuse_next(&test.database, 1, &["commitTransaction"], None, held).await;
    let mut asks = Processor::spawn(&["phase", "set", "shadow"], &test, &[]);
    commit.happened(&test.database, "the commit is held up").await;
    first.signal(Signal::Stop);
    // What the step rested on does not hold any more.
    let dead_letter = doc! { "_id": "recruiters/x", "reason": "missing_cfa" };
    test.collection("stream_processor_dead_letters").insert_one(dead_letter).await.unwrap();
    let second = Processor::start_ready(&test, &[&BRISK[..], &[LEASE, INITIAL]].concat()).await;
    let told = asks.until_ended().await;
    assert_eq!(told.code, 1, "{}{}", told.stdout, told.stderr);
    assert!(told.stderr.contains("dead letters"), "{}", told.stderr);
    eventually(PATIENCE, "the server has let the commit go", async || commits(&test).await.is_empty().then_some(()))
        .await;
    first.signal(Signal::Continue);
    eventually(PATIENCE, "it knows that it has lost the lease", async || {
        (first.stdout() + &first.stderr()).contains("the lease was lost").then_some(())
    })
    .await;
    let phase = state(&test.database, "phase").await.unwrap();
    assert_eq!(phase.get_str("phase").unwrap(), "dual-write", "{phase}");
    assert_eq!(phase.get_array("history").unwrap().len(), 1, "{phase}");
    for instance in [first, second] {
        stopped(instance).await;
    }
}

/// The leader gets no answer to its commit and repeats the command. Meanwhile the step is no longer allowed.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_step_is_not_made_later_by_a_commit_of_the_same_leader_that_was_given_up() {
    let mut set = ReplicaSet::start(&Options::default()).unwrap();
    let mut test = TestDatabase::create_on(&set.uri(), "phase_given_up").await;
    let proxy = Proxy::start(&set.member(0).host()).await;
    let near = std::mem::replace(&mut test.uri, proxy.uri());
    let leader = ready_to_step(&test).await;
    test.uri = near;

    // The driver repeats a commit once, when its connection breaks.
    let held = doc! { "blockConnection": true, "blockTimeMS": GIVEN_UP };
    let commit = refuse_next(&test.database, 2, &["commitTransaction"], None, held).await;
    let mut asks = Processor::spawn(&["phase", "set", "shadow"], &test, &[]);
    commit.have_happened(1, &test.database, "the commit is held up").await;
    let dead_letter = doc! { "_id": "recruiters/x", "reason": "missing_cfa" };
    test.collection("stream_processor_dead_letters").insert_one(dead_letter).await.unwrap();
    proxy.cut().await;
    commit.happened(&test.database, "its repetition is held up").await;
    proxy.cut().await;
    let told = asks.until_ended().await;
    assert_eq!(told.code, 1, "{}{}", told.stdout, told.stderr);
    assert!(told.stderr.contains("dead letters"), "{}", told.stderr);
    assert!(!commits(&test).await.is_empty(), "the commit is still on its way");
    eventually(PATIENCE, "the server has let the commit go", async || commits(&test).await.is_empty().then_some(()))
        .await;
    let phase = state(&test.database, "phase").await.unwrap();
    assert_eq!(phase.get_str("phase").unwrap(), "dual-write", "{phase}");
    assert_eq!(phase.get_array("history").unwrap().len(), 1, "{phase}");
    stopped(leader).await;
}

/// A leader in `dual-write` that may step to `shadow`.
async fn ready_to_step(test: &TestDatabase) -> Processor {
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let leader = started_with(test, &[LEASE, INITIAL]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert_eq!(Processor::command(&["verify"], test, &[]).await.code, 0);
    eventually(PATIENCE, "its lag is known", async || {
        state(&test.database, "lease").await?.get_f64("lag_seconds").ok().filter(|lag| *lag < 4.0)
    })
    .await;
    leader
}

async fn commits(test: &TestDatabase) -> Vec<Document> {
    let admin = test.database.client().database("admin");
    let running = [doc! { "$currentOp": {} }, doc! { "$match": { "command.commitTransaction": { "$exists": true } } }];
    admin.aggregate(running).await.unwrap().try_collect().await.unwrap()
}
