//! While an instance leads in a phase in which both sides are written, a sample of what was touched is compared a few
//! seconds later (spec 06, "Verification"): what differs is told by a metric and the log until it is right again.

use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::golden::{self, operations};
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, caught_up_to, cluster_time_now, eventually};

const SAMPLED: &str = "stream_processor_verify_sampled_recruiters_total";
const LAST_SUCCESS: &str = "stream_processor_verify_last_success_timestamp_seconds";
const DIFFER: &str = "offers differ from their recruiters";
const AGREE: &str = "all known differences of this kind are resolved";
const EVERY_SECOND: (&str, &str) = ("STREAM_PROCESSOR__VERIFY__SAMPLE_INTERVAL", "1s");
const LARGE: (&str, &str) = ("STREAM_PROCESSOR__VERIFY__SAMPLE_SIZE", "1000");
const DUAL_WRITE: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");
const SYNC: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "sync");

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_differs_after_a_touch_is_told_by_kind_until_it_is_right_again() {
    let test = TestDatabase::create("continuous_differs").await;
    let processor = started_with(&test, &[EVERY_SECOND, DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    let mut spoiled = Vec::new();
    let differing = ["differing_field", "missing_offer"];
    eventually(PATIENCE, "both kinds are told", async || {
        // A sample may be looked at before the offers are spoiled; then others have to do.
        let pair = [(); 2].map(|()| recruiter([job("Boulanger")]));
        test.collection("recruiters").insert_many(&pair).await.unwrap();
        settled(&test.database).await;
        let offers = test.collection("jobs_partners");
        let title = doc! { "$set": { "offer_title": PERSONAL } };
        offers.update_one(of(&pair[0]), title).await.unwrap();
        offers.delete_one(of(&pair[1])).await.unwrap();
        spoiled.extend(pair);
        let told = [divergent(&processor, differing[0]).await?, divergent(&processor, differing[1]).await?];
        told.iter().all(|offers| *offers >= 1.0).then_some(())
    })
    .await;
    assert_eq!(divergent(&processor, "orphan").await, Some(0.0));

    let label = doc! { "$set": { "naf_label": "repaired" } };
    test.collection("recruiters").update_many(doc! {}, label).await.unwrap();
    for kind in differing {
        eventually(PATIENCE, "none is told any more", async || {
            (divergent(&processor, kind).await == Some(0.0)).then_some(())
        })
        .await;
    }
    let (_, metrics) = processor.http_get("/metrics").await;
    let ended = stopped(processor).await;
    for kind in differing {
        let lines = |message: &str| {
            let about = |line: &&str| line.contains(message) && line.contains(&format!("\"kind\":\"{kind}\""));
            ended.stderr.lines().filter(about).map(str::to_owned).collect::<Vec<_>>()
        };
        let (differ, agree) = (lines(DIFFER), lines(AGREE));
        assert_eq!((differ.len(), agree.len()), (1, 1), "a line for each change:\n{}", ended.stderr);
        let names = |recruiter: &Document| differ[0].contains(&first_job(recruiter).to_hex());
        assert!(spoiled.iter().any(names), "{}", differ[0]);
    }
    assert!(!ended.stderr.contains(PERSONAL) && !metrics.contains(PERSONAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_different_while_everything_changes_all_the_time() {
    let test = TestDatabase::with_planned_schema("continuous_busy").await;
    golden::load_references(&test.database).await;
    golden::load_recruiters(&test.database).await;
    let processor = started_with(&test, &[EVERY_SECOND, LARGE, DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    let mut operations = operations().into_iter();
    let mut rounds = 0;
    let mut round_before = cluster_time_now(&test.database).await;
    // In one sample there are at most the recruiters that there are: this takes two.
    while operations.len() > 0 || processor.metric(SAMPLED).await.unwrap() < 500.0 {
        for operation in operations.by_ref().take(250) {
            operation.apply(&test.database).await;
        }
        rounds += 1;
        let label = doc! { "$set": { "naf_label": rounds.to_string() } };
        test.collection("recruiters").update_many(doc! {}, label).await.unwrap();
        // The changes of this round are still to come, and no more than these.
        caught_up_to(&test.database, round_before).await;
        round_before = cluster_time_now(&test.database).await;
        let (_, metrics) = processor.http_get("/metrics").await;
        let told = metrics.lines().filter(|line| line.starts_with("stream_processor_divergent_offers{"));
        assert!(told.clone().all(|line| line.ends_with(" 0")), "{:?}", told.collect::<Vec<_>>());
    }
    let ended = stopped(processor).await;
    assert!(!ended.stderr.contains(DIFFER), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sync_or_switched_off_no_recruiter_is_compared_by_itself() {
    let off = ("STREAM_PROCESSOR__VERIFY__CONTINUOUS", "false");
    for settings in [[EVERY_SECOND, SYNC], [DUAL_WRITE, off]] {
        let settings = [settings.as_slice(), &[EVERY_SECOND]].concat();
        let test = TestDatabase::create("continuous_off").await;
        let processor = started_with(&test, &settings).await;
        test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
        settled(&test.database).await;
        // The round that shows this would have compared the recruiter before.
        store_success(&test).await;
        until_last_success_is_shown(&test, &processor).await;
        assert_eq!(processor.metric(SAMPLED).await, Some(0.0));
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_shows_the_last_full_verification_whoever_did_it() {
    let test = TestDatabase::create("continuous_full").await;
    let processor = started_with(&test, &[EVERY_SECOND]).await;
    let standby = Processor::start_ready(&test, &[EVERY_SECOND]).await;
    let recruiters = ["Boulanger", "Vendeur"].map(|title| recruiter([job(title)]));
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    settled(&test.database).await;
    assert_eq!(processor.metric(LAST_SUCCESS).await, Some(0.0), "there was none");
    assert!(standby.metric(LAST_SUCCESS).await.unwrap().is_nan(), "a standby does not know");

    store_success(&test).await;
    let success = until_last_success_is_shown(&test, &processor).await;

    let offers = test.collection("jobs_partners");
    offers.update_many(doc! {}, doc! { "$set": { "offer_title": "x", "workplace_size": "y" } }).await.unwrap();
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 1);
    eventually(PATIENCE, "what it found is shown, by offers", async || {
        (divergent(&processor, "differing_field").await == Some(2.0)).then_some(())
    })
    .await;
    assert_eq!(processor.metric(LAST_SUCCESS).await, Some(success), "this one found something");
    assert_eq!(divergent(&standby, "differing_field").await, None);

    for recruiter in &recruiters {
        let label = doc! { "$set": { "naf_label": "repaired" } };
        test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, label).await.unwrap();
    }
    settled(&test.database).await;
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    eventually(PATIENCE, "nothing differs any more", async || {
        (divergent(&processor, "differing_field").await == Some(0.0)).then_some(())
    })
    .await;
    assert!(processor.metric(LAST_SUCCESS).await.unwrap() > success);
    stopped(processor).await;
    stopped(standby).await;
}

fn of(recruiter: &Document) -> Document {
    doc! { "_id": first_job(recruiter) }
}

async fn divergent(processor: &Processor, kind: &str) -> Option<f64> {
    processor.metric(&format!("stream_processor_divergent_offers{{kind=\"{kind}\"}}")).await
}

/// Has a full verification find nothing.
async fn store_success(test: &TestDatabase) {
    let verified = Processor::command(&["verify"], test, &[]).await;
    assert_eq!(verified.code, 0, "{}\n{}", verified.stdout, verified.stderr);
}

/// Waits until the metric tells what the database does about the last verification without a difference.
async fn until_last_success_is_shown(test: &TestDatabase, processor: &Processor) -> f64 {
    let stored = state(&test.database, "verification").await.unwrap();
    let stored = stored.get_datetime("last_success").unwrap();
    let seconds = stored.timestamp_millis().div_euclid(1000) as f64;
    eventually(PATIENCE, "the leader shows it", async || {
        processor.metric(LAST_SUCCESS).await.filter(|shown| (*shown - seconds).abs() < 0.5)
    })
    .await
}

/// The last full verification counted them; this process has compared none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_whose_offers_are_not_known_is_told_without_ids() {
    let test = TestDatabase::create("continuous_unknown").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    test.collection("recruiters").delete_many(doc! {}).await.unwrap();
    let step = ["phase", "set", "dual-write", "--force", "--reason", "a test"];
    assert_eq!(Processor::command(&step, &test, &[]).await.code, 0);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 1);
    // Another recruiter, so that the database is a right one.
    test.collection("recruiters").insert_one(recruiter([job("Vendeur")])).await.unwrap();
    let processor = started_with(&test, &[EVERY_SECOND, DUAL_WRITE]).await;
    let line = eventually(PATIENCE, DIFFER, async || {
        processor.stderr().lines().find(|line| line.contains(DIFFER)).map(str::to_owned)
    })
    .await;
    assert!(line.contains("\"offers\":1") && !line.contains("ids"), "{line}");
    stopped(processor).await;
}
