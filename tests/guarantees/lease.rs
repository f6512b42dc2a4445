//! One writer (spec 00, guarantee 4): an instance that was paused changes nothing under its successor. Told by the
//! server's profiler, not by the instances.

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use resume_tokens::{MongoStore, OldWorkerTokens, Store};
use stream_processor::config::OnHistoryLost;
use stream_processor::inside::Metrics;
use stream_processor::inside::Phase;
use stream_processor::inside::Writer;
use stream_processor::inside::{Interruption, Unfinished};
use stream_processor::inside::{PositionStores, Watch, start};
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, passing, refuse};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{BRISK, started_with, stopped};
use crate::support::state::{gaps, settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const LEASE: (&str, &str) = ("STREAM_PROCESSOR__LEASE__DURATION", "2s");
const SECOND: &str = "second";

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_changes_nothing_once_another_one_leads() {
    let test = TestDatabase::create("lease_paused").await;
    let recruiters: Vec<Document> = (0..200).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    note_all(&test).await;
    let mut instances = [named(&test, "first").await, named(&test, SECOND).await];
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    for round in 0..6 {
        let paused = eventually(PATIENCE, "one leads", async || {
            for place in [0, 1] {
                if leads(&instances[place]).await == Some(1.0) {
                    return Some(place);
                }
            }
            None
        })
        .await;
        let (other, name) = (1 - paused, ["first", SECOND][paused]);
        // In the middle of its work: a batch of events on all recruiters.
        let touched = instances[paused].metric("stream_processor_jobs_projected_total").await.unwrap_or_default();
        write(&test, round).await;
        eventually(PATIENCE, "it works on the batch", async || {
            let projected = instances[paused].metric("stream_processor_jobs_projected_total").await;
            projected.filter(|projected| *projected > touched)
        })
        .await;
        instances[paused].signal(Signal::Stop);
        eventually(PATIENCE, "the other one leads", async || {
            leads(&instances[other]).await.filter(|leads| *leads == 1.0)
        })
        .await;
        let lost = *state(&test.database, "lease").await.unwrap().get_datetime("acquired_at").unwrap();
        write(&test, round + 100).await;
        instances[paused].signal(Signal::Continue);
        eventually(PATIENCE, "it stands by", async || leads(&instances[paused]).await.filter(|leads| *leads == 0.0))
            .await;
        write(&test, round + 200).await;
        settled(&test.database).await;
        let changes = changes(&test, name, lost).await;
        assert!(changes.is_empty(), "round {round}: {name} wrote after {lost}: {changes:#?}");
        let title = format!("Titre {}", round + 200);
        for offer in offers::read(&test.database).await.values() {
            assert_eq!(offer.get_str("offer_title").unwrap(), title);
        }
    }
    for mut instance in instances {
        instance.sigterm();
        assert_eq!(instance.until_ended().await.code, 0);
    }
}

/// What it recorded then would stand: the successor's checkpoint has taken the place of the one, and the successor has
/// finished the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_before_it_records_its_start_records_nothing_once_another_one_leads() {
    for point in ["beginning", "resync"] {
        let test = TestDatabase::create(&format!("lease_paused_{point}")).await;
        test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
        let stops = format!("{point}/1/STOP");
        let stops = [("STREAM_PROCESSOR_FAILPOINT", stops.as_str()), LEASE];
        let mut paused = Processor::start(&test, &[&BRISK[..], &stops].concat());
        eventually(PATIENCE, "it has the lease", async || state(&test.database, "lease").await).await;
        let successor = started_with(&test, &[LEASE]).await;
        eventually(PATIENCE, "the other one leads", async || leads(&successor).await.filter(|leads| *leads == 1.0))
            .await;
        settled(&test.database).await;
        until_no_resync(&test.database).await;

        let gap = doc! { "_id": "later", "state": "open" };
        test.collection("stream_processor_gaps").insert_one(&gap).await.unwrap();
        until_it_stands_by(&mut paused).await;
        let gaps = gaps(&test.database).await;
        assert_eq!(gaps, [gap], "the resync that is refused has taken no gap");
        for recorded in ["beginning", "resync"] {
            assert_eq!(state(&test.database, recorded).await, None, "paused at {point}");
        }
        stopped(successor).await;
    }
}

/// As long as the successor has saved no checkpoint, no newer term is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_before_it_saves_its_checkpoint_saves_none_once_another_one_leads() {
    let test = TestDatabase::create("lease_paused_saving").await;
    let stops = ("STREAM_PROCESSOR_FAILPOINT", "saving/1/STOP");
    let mut paused = Processor::start(&test, &[&BRISK[..], &[stops, LEASE]].concat());
    eventually(PATIENCE, "it has the lease", async || state(&test.database, "lease").await).await;
    // Longer than the test takes: it keeps the lease while it is stopped.
    let keeps = ("STREAM_PROCESSOR__LEASE__DURATION", "10m");
    let mut successor = Processor::start(&test, &[&BRISK[..], &[stops, keeps]].concat());
    eventually(PATIENCE, "the other one is about to save, too", async || {
        let lease = state(&test.database, "lease").await.unwrap();
        let minutes =
            lease.get_datetime("expires_at").unwrap().timestamp_millis() > DateTime::now().timestamp_millis() + 60_000;
        let gone_on =
            state(&test.database, "beginning").await.is_some_and(|it| it.get_i64("term").is_ok_and(|term| term == 2));
        (minutes && gone_on).then_some(())
    })
    .await;
    until_it_stands_by(&mut paused).await;
    assert_eq!(state(&test.database, "checkpoint").await, None);
    eventually(PATIENCE, "the other one goes on", async || {
        // Stopped at some instant from now on, if not before.
        successor.signal(Signal::Continue);
        state(&test.database, "checkpoint").await
    })
    .await;
    settled(&test.database).await;
    stopped(successor).await;
}

/// A newer term in the way is a lost lease, too: clocks of two primaries may differ.
#[tokio::test]
async fn the_start_of_a_newer_term_is_not_recorded_over() {
    let test = TestDatabase::create("lease_newer_start").await;
    let newer = doc! { "_id": "beginning", "term": 2_i64, "cluster_time": bson::Timestamp { time: 1, increment: 1 } };
    test.collection("stream_processor_state").insert_one(&newer).await.unwrap();
    let writer = Writer::free(&test.database);
    let store = Store::MongoDb(MongoStore::new(test.database.clone()));
    let stores = PositionStores { store: &store, old_worker: &OldWorkerTokens::new(test.database.clone()) };
    let metrics = Metrics::new().unwrap();
    let watch = Watch { phase: Phase::Sync, keeps_backup: true };
    let begun = start(&writer, stores, OnHistoryLost::Halt, &metrics, 1, watch).await;
    assert!(matches!(begun, Err(Unfinished::Interrupted(Interruption::LeaseLost))), "{begun:?}");
    assert_eq!(state(&test.database, "beginning").await, Some(newer));
}

/// Where renewals fail, writing ends before the lease does, and not only when somebody else has taken it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_renew_its_lease_writes_nothing_after_its_end() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "lease_ends").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    note_all(&test).await;
    let processor = started_with(&test, &[LEASE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    // Renewals, and asking for the lease.
    refuse(&test.database, "findAndModify", "stream_processor_state", passing()).await;
    eventually(PATIENCE, "it gives up", async || leads(&processor).await.filter(|leads| *leads == 0.0)).await;
    let ended = *state(&test.database, "lease").await.unwrap().get_datetime("expires_at").unwrap();
    write(&test, 1).await;
    eventually(PATIENCE, "it asks for the lease again", async || {
        let told = processor.stdout() + &processor.stderr();
        told.contains("the lease could not be requested; retrying").then_some(())
    })
    .await;
    let changes = changes(&test, "stream-processor", ended).await;
    assert!(changes.is_empty(), "it wrote without a lease: {changes:#?}");
    mend(&test.database).await;
    settled(&test.database).await;
    let told = processor.stdout() + &processor.stderr();
    assert!(told.contains("the lease can be requested again"), "the end of the failure is told: {told}");
    assert_eq!(offers::read(&test.database).await.values().next().unwrap().get_str("offer_title").unwrap(), "Titre 1");
}

/// Lets an instance that stopped go on, and waits until it knows that it leads no more.
async fn until_it_stands_by(paused: &mut Processor) {
    eventually(PATIENCE, "it stands by", async || {
        // Once more, if it was slow to stop.
        paused.signal(Signal::Continue);
        leads(paused).await.filter(|leads| *leads == 0.0)
    })
    .await;
}

/// Lets the server note every command on the database, with who sent it.
async fn note_all(test: &TestDatabase) {
    let notes = doc! { "create": "system.profile", "capped": true, "size": 256 * 1024 * 1024 };
    test.database.run_command(notes).await.unwrap();
    test.database.run_command(doc! { "profile": 2 }).await.unwrap();
}

/// An instance whose connections carry this name.
/// A command that took the lease first would keep the standby from the stream until the command ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_beside_an_instance_that_stands_by_is_carried_out_by_that_instance() {
    let test = TestDatabase::create("lease_standby").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let mut leader = named(&test, "first").await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let standby = named(&test, SECOND).await;
    let signs = test.collection("stream_processor_instances");
    eventually(PATIENCE, "it stands by", async || signs.find_one(doc! { "role": "standby" }).await.unwrap()).await;
    leader.sigkill();
    leader.until_ended().await;
    let ended = Processor::command(&["backfill"], &test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(leads(&standby).await, Some(1.0), "{}", ended.stderr);
    let terms = state(&test.database, "lease").await.unwrap().get_i64("term").unwrap();
    assert_eq!(terms, 2, "nobody else led in between: {}", ended.stderr);
    stopped(standby).await;
}

/// The command holds the lease and reads no stream, so a wait for the position of the stream would be in vain.
#[tokio::test(flavor = "multi_thread")]
async fn a_verification_by_a_command_without_a_leader_does_not_wait_for_the_stream() {
    let test = TestDatabase::create("lease_verification").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    write(&test, 1).await;
    test.database.run_command(doc! { "profile": 2 }).await.unwrap();
    let ended = Processor::command(&["jobs", "run", "verify", "--json"], &test, &[]).await;
    assert_eq!(ended.code, 1, "{}\n{}", ended.stdout, ended.stderr);
    let asked = doc! { "ns": format!("{}.stream_processor_state", test.name()), "command.filter._id": "checkpoint" };
    let asked = test.collection("system.profile").count_documents(asked).await.unwrap();
    assert!(asked < 20, "it asked {asked} times how far the stream is");
}

async fn named(test: &TestDatabase, name: &str) -> Processor {
    let separator = if test.uri.contains('?') { '&' } else { '?' };
    let uri = format!("{}{separator}appName={name}", test.uri);
    Processor::start_ready(test, &[&BRISK[..], &[LEASE, ("MONGODB_URI", &uri)]].concat()).await
}

async fn leads(processor: &Processor) -> Option<f64> {
    processor.metric("stream_processor_leader").await
}

async fn write(test: &TestDatabase, round: usize) {
    let title = doc! { "$set": { "jobs.0.offer_title_custom": format!("Titre {round}") } };
    test.collection("recruiters").update_many(doc! {}, title).await.unwrap();
}

/// What the profiler noted of this instance's commands since `time` that changed a document.
async fn changes(test: &TestDatabase, name: &str, time: DateTime) -> Vec<Document> {
    let changed =
        ["nModified", "ninserted", "ndeleted", "nUpserted", "upsert"].map(|count| doc! { count: { "$gt": 0 } });
    // But for the lease itself: it is given back, by its holder and under its term. And but for the sign of life of the
    // instance, which every instance writes.
    let (others, signs) = (doc! { "$ne": "lease" }, format!("{}.stream_processor_instances", test.name()));
    let filter = doc! {
        "appName": name, "ts": { "$gt": time }, "$or": changed.to_vec(), "command.q._id": others,
        "ns": { "$ne": signs },
    };
    let shown =
        doc! { "ts": 1, "op": 1, "ns": 1, "nModified": 1, "ninserted": 1, "ndeleted": 1, "command.q": 1, "_id": 0 };
    let noted = test.collection("system.profile").find(filter).projection(shown).await.unwrap();
    noted.try_collect().await.unwrap()
}
