//! What is written rests on what a majority has, and on what was read at the position of the batch or later: a value that
//! a failover takes back never reaches an offer, and no cache outlives the stream that keeps it right.

use bson::{Bson, DateTime, Document, Timestamp, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::options::WriteConcern;
use mongodb::{Client, Database};
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, refuse_next, until_no_get_more};
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{ONE_STREAM, started_with, stopped};
use crate::support::state::{gaps, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const SIRET: &str = "98765432100012";

/// Deletion and copy fall into a gap, and the service knew the user from before it.
#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_user_who_was_anonymised_in_a_gap_does_not_come_back() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "majority_gap").await;
    let recruiter = delegated(&test).await;
    let mut processor = started_with(&test, &[ONE_STREAM]).await;
    until_no_resync(&test.database).await;
    touch(&test.database, &recruiter, "Une fois de plus, de mémoire").await;
    settled(&test.database).await;
    assert!(offer(&test, &recruiter).await.to_string().contains(PERSONAL));

    processor.signal(Signal::Stop);
    until_no_get_more(&test.database).await;
    let user = ObjectId::parse_str(text(&recruiter, "managed_by")).unwrap();
    let copy = doc! { "_id": user, "last_action_date": DateTime::now() };
    test.collection("anonymized_userswithaccounts").insert_one(copy).await.unwrap();
    test.collection("userswithaccounts").delete_one(doc! { "_id": user }).await.unwrap();
    // The stream begins again with the last operation: that must not be the deletion.
    test.collection("ticks").insert_one(doc! {}).await.unwrap();
    let lost = refuse_next(&test.database, 1, &["getMore"], None, doc! { "errorCode": 286 }).await;
    processor.signal(Signal::Continue);
    lost.happened(&test.database, "the history is lost").await;
    mend(&test.database).await;
    eventually(PATIENCE, "the gap is repaired", async || {
        let gaps = gaps(&test.database).await;
        gaps.iter().any(|gap| text(gap, "state") == "repaired").then_some(())
    })
    .await;

    for title in ["Après", "Encore après"] {
        touch(&test.database, &recruiter, title).await;
        settled(&test.database).await;
        let offer = offer(&test, &recruiter).await;
        assert_eq!(text(&offer, "offer_title"), title);
        for field in ["apply_email", "apply_phone", "cfa_apply_email", "cfa_apply_phone"] {
            let value = offer.get(field).unwrap().to_string();
            assert!(!value.contains(PERSONAL), "{field} shows the contact again after {title:?}");
        }
    }
    stopped(processor).await;
}

/// The first read of a batch sees a write that no majority has, then the primary dies and the driver repeats the second
/// read on its successor.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_failover_takes_back_is_never_written() {
    let mut set = ReplicaSet::start(&Options { members: 3, ..Options::default() }).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "majority_rollback").await;
    let recruiter = recruiter([job("Avant")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    // Without a majority nobody can renew the lease, so it must outlast the preparation on a busy machine.
    let mut processor = started_with(&test, &[("STREAM_PROCESSOR__LEASE__DURATION", "10m")]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    let (primary, others) = members(&mut set).await;
    // A service that was stopped for long on a busy machine opens its stream anew, and then waits for a majority before it reads.
    let mut attempts = 0;
    while !reads_what_no_majority_has(&test, &mut set, &mut processor, &recruiter, (primary, &others)).await {
        attempts += 1;
        assert!(attempts < 5, "the service never read between the two writes");
        failpoint(&set.member(primary).host(), doc! { "configureFailPoint": "failCommand", "mode": "off" }).await;
        replicate(&mut set, &others, true).await;
        settled(&test.database).await;
    }
    set.member(primary).kill();
    replicate(&mut set, &others, true).await;
    set.wait_until_healthy().unwrap();
    set.member(primary).restart().unwrap();
    set.wait_until_healthy().unwrap();

    settled(&test.database).await;
    let recruiters = test.collection("recruiters");
    let stands = recruiters.find_one(doc! { "_id": id(&recruiter) }).await.unwrap().unwrap();
    let title = stands.get_array("jobs").unwrap()[0].as_document().unwrap().get_str("offer_title_custom").unwrap();
    assert_eq!(title, "Acquitté", "the failover took the other value back");
    assert_eq!(text(&offer(&test, &recruiter).await, "offer_title"), "Acquitté");
    stopped(processor).await;
}

/// Writes a value that a majority has and one that only the primary has, and lets the service read its first collection, but not
/// the offers. False where it did not come to that.
async fn reads_what_no_majority_has(
    test: &TestDatabase,
    set: &mut ReplicaSet,
    processor: &mut Processor,
    recruiter: &Document,
    (primary, others): (usize, &[usize]),
) -> bool {
    processor.signal(Signal::Stop);
    touch(&test.database, recruiter, "Acquitté").await;
    replicate(set, others, false).await;
    let alone = WriteConcern::builder().w(mongodb::options::Acknowledgment::Nodes(1)).build();
    let title = doc! { "$set": { "jobs.0.offer_title_custom": "Jamais acquitté" } };
    let recruiters = test.collection("recruiters");
    recruiters.update_one(doc! { "_id": id(recruiter) }, title).write_concern(alone).await.unwrap();
    let frozen = doc! {
        "failCommands": ["find"], "namespace": format!("{}.jobs_partners", test.name()), "appName": "stream-processor",
        "blockConnection": true, "blockTimeMS": 3_600_000,
    };
    let freeze = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": frozen };
    let host = set.member(primary).host();
    let entered = failpoint(&host, freeze).await.get_i32("count").unwrap();
    processor.signal(Signal::Continue);
    let wait =
        doc! { "waitForFailPoint": "failCommand", "timesEntered": i64::from(entered) + 1, "maxTimeMS": 15_000_i64 };
    member(&host).await.run_command(wait).await.is_ok()
}

/// Lets these members follow the primary, or keeps them from it.
async fn replicate(set: &mut ReplicaSet, members: &[usize], on: bool) {
    let mode = if on { "off" } else { "alwaysOn" };
    for index in members {
        failpoint(&set.member(*index).host(), doc! { "configureFailPoint": "stopReplProducer", "mode": mode }).await;
    }
}

/// Told by the server's profiler: every read of a document is one of a majority, and none may be older than the event
/// that led to it.
#[tokio::test(flavor = "multi_thread")]
async fn every_read_is_of_a_majority_and_none_is_older_than_its_event() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "majority_reads").await;
    let recruiter = delegated(&test).await;
    let jobs = [
        ("STREAM_PROCESSOR__TICKER__ENABLED", "true"),
        ("STREAM_PROCESSOR__TICKER__JOBS__CANCEL_EXPIRED_OFFERS__CRON", "* * * * * *"),
    ];
    let processor = started_with(&test, &jobs).await;
    until_no_resync(&test.database).await;
    test.database.run_command(doc! { "profile": 2 }).await.unwrap();
    let before = cluster_time_now(&test.database).await;
    touch(&test.database, &recruiter, "Après").await;
    settled(&test.database).await;
    eventually(PATIENCE, "the job has run", async || {
        let runs = doc! { "outcome": "done", "scheduled_for": { "$gte": DateTime::from_millis(i64::from(before.time) * 1_000) } };
        test.collection("stream_processor_job_runs").find_one(runs).await.unwrap()
    })
    .await;
    stopped(processor).await;
    test.database.run_command(doc! { "profile": 0 }).await.unwrap();

    let reads = doc! { "appName": "stream-processor", "op": { "$in": ["query", "command"] },
    "$or": [{ "command.find": { "$exists": true } }, { "command.aggregate": { "$exists": true } }] };
    let reads: Vec<Document> =
        test.collection("system.profile").find(reads).await.unwrap().try_collect().await.unwrap();
    let of = |name: &str| reads.iter().filter(|read| read.get_str("ns").is_ok_and(|ns| ns.ends_with(name))).count();
    for collection in [".recruiters", ".jobs_partners"] {
        assert!(of(collection) > 0, "{collection} is read");
    }
    for read in &reads {
        let command = read.get_document("command").unwrap();
        // What is written by an aggregation reads its own list.
        if command
            .get_array("pipeline")
            .is_ok_and(|stages| stages.iter().any(|stage| stage.as_document().unwrap().contains_key("$merge")))
        {
            continue;
        }
        let concern = command.get_document("readConcern").cloned().unwrap_or_default();
        let level = concern.get_str("level").unwrap_or("local");
        assert!(["majority", "snapshot"].contains(&level), "{level}: {command}");
        let name = read.get_str("ns").unwrap().rsplit('.').next().unwrap();
        let is_source = ["recruiters", "jobs_partners", "userswithaccounts", "cfas"].contains(&name);
        if is_source && command.contains_key("find") && level == "majority" {
            let after = concern.get_timestamp("afterClusterTime").ok();
            assert!(after.is_some(), "of any time: {command}");
        }
    }
    let touched = reads.iter().filter_map(|read| {
        let command = read.get_document("command").unwrap();
        let of_touch = command.get_str("find").is_ok_and(|name| name == "recruiters")
            && command.get_document("filter").unwrap().contains_key("_id");
        of_touch.then(|| command.get_document("readConcern").unwrap().get_timestamp("afterClusterTime").unwrap())
    });
    let latest: Timestamp = touched.max().unwrap();
    assert!(latest > before, "the recruiter is read at {latest}, its event came after {before}");
}

/// A recruiter whose offer carries the contact of a CFA's user.
async fn delegated(test: &TestDatabase) -> Document {
    let user =
        doc! { "_id": ObjectId::new(), "email": format!("{PERSONAL}@example.com"), "phone": format!("07 {PERSONAL}") };
    test.collection("userswithaccounts").insert_one(&user).await.unwrap();
    test.collection("cfas").insert_one(doc! { "siret": SIRET, "raison_sociale": "CFA d'essai" }).await.unwrap();
    let by_cfa = doc! { "is_delegated": true, "cfa_delegated_siret": SIRET, "managed_by": id(&user).to_hex() };
    let recruiter = with(recruiter([job("Avant")]), by_cfa);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    recruiter
}

async fn touch(database: &Database, recruiter: &Document, title: &str) {
    let update = doc! { "$set": { "jobs.0.offer_title_custom": title } };
    database.collection::<Document>("recruiters").update_one(doc! { "_id": id(recruiter) }, update).await.unwrap();
}

async fn offer(test: &TestDatabase, recruiter: &Document) -> Document {
    offers::read(&test.database).await.remove(&first_job(recruiter)).unwrap()
}

/// The index of the primary, and those of the others.
async fn members(set: &mut ReplicaSet) -> (usize, Vec<usize>) {
    let mut primary = None;
    for index in 0..3 {
        let hello = failpoint(&set.member(index).host(), doc! { "hello": 1 }).await;
        if hello.get_bool("isWritablePrimary").unwrap() {
            primary = Some(index);
        }
    }
    let primary = primary.unwrap();
    (primary, (0..3).filter(|index| *index != primary).collect())
}

/// Sends a command to one member.
async fn failpoint(host: &str, command: Document) -> Document {
    let answer = member(host).await.run_command(command).await.unwrap();
    assert_eq!(answer.get("ok").and_then(Bson::as_f64), Some(1.0));
    answer
}

async fn member(host: &str) -> Database {
    let client = Client::with_uri_str(format!("mongodb://{host}/?directConnection=true")).await.unwrap();
    client.database("admin")
}
