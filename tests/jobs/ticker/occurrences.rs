//! The ledger: no run is lost in silence, none is made twice, whoever leads (spec 05).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{DateTime, Document, doc, oid::ObjectId, rawdoc};
use stream_processor::inside::Followed;
use stream_processor::inside::Phase;
use stream_processor::inside::Statement;
use stream_processor::inside::TimedJob;
use stream_processor::inside::Validity;
use stream_processor::inside::Writer;
use stream_processor::inside::{ByHand, LedgerEntry, ledger};
use stream_processor::inside::{Fence, Transaction};
use stream_processor::inside::{Interruption, Unfinished};
use stream_processor::inside::{OfferWriteLock, WriteAccess};
use tokio::sync::watch;
use xtask::mongod::{Options, ReplicaSet};

use super::offer_jobs::{filled, pair};
use crate::support::database::TestDatabase;
use crate::support::failpoints::{mend, refuse, refuse_next};
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{end_lease, settled, state, until_no_resync};
use crate::support::ticking::{ON, Time, date, later, ledger, ran, text, time, told, until_run};
use crate::support::waiting::{PATIENCE, eventually};
use stream_processor::inside::JOB_RUNS;

pub(crate) const CANCEL: (&str, &[&str]) = ("cancel-expired-offers", &["15 0 * * *", "0 * * * *"]);
const CAP: &str = "cap-offer-expirations";
pub(crate) const BEGIN: &str = "2026-06-14T12:30:00Z";

/// A service whose ticker goes by `clock` and has begun to.
pub(crate) async fn ticking(test: &TestDatabase, clock: &Time, settings: &[(&str, &str)]) -> Processor {
    let processor = started_with(test, &[&[ON, clock.variable()], settings].concat()).await;
    eventually(PATIENCE, "the ticker has begun", async || {
        state(&test.database, "ticker").await?.get_document("through").ok()?.contains_key("verify").then_some(())
    })
    .await;
    // Until then not every offer is there.
    until_no_resync(&test.database).await;
    processor
}

pub(crate) fn outcomes(runs: &[Document]) -> Vec<(&str, DateTime, i64)> {
    let occurrences = |run: &Document| run.get_i64("occurrences").unwrap_or(1);
    let outcome = |run| (text(run, "outcome").unwrap(), time(run, "scheduled_for").unwrap(), occurrences(run));
    runs.iter().map(outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_due_while_nothing_ran_is_made_up_for_once_if_it_is_young_and_told_in_any_case() {
    let test = TestDatabase::create("ticker_catch_up").await;
    let clock = Time::at(BEGIN);
    let young = [
        ("STREAM_PROCESSOR__TICKER__JOBS__CAP_OFFER_EXPIRATIONS__CATCH_UP", "8h"),
        ("STREAM_PROCESSOR__TICKER__JOBS__CAP_OFFER_EXPIRATIONS__ENABLED", "true"),
    ];
    stopped(ticking(&test, &clock, &young).await).await;
    assert_eq!(ledger(&test, CANCEL.0).await, [], "what was due before the first start, nobody has missed");

    let now = date("2026-06-16T07:30:00Z");
    clock.set(now);
    let processor = ticking(&test, &clock, &young).await;
    until_run(&test, &[CANCEL], now).await;
    let runs = ledger(&test, CANCEL.0).await;
    // 43 full hours, and two nights at a quarter past midnight in Paris.
    let expected = [("missed", date("2026-06-14T13:00:00Z"), 44), ("done", date("2026-06-16T07:00:00Z"), 1)];
    assert_eq!(outcomes(&runs), expected);
    assert_eq!((time(&runs[1], "started"), time(&runs[1], "finished")), (Some(now), Some(now)));
    assert_eq!(outcomes(&ledger(&test, CAP).await), [("missed", date("2026-06-14T22:30:00Z"), 2)], "too old");

    // An hour that passes at once is no outage: the run before took its time.
    let later = later(now, 3 * 3_600_000);
    clock.set(later);
    until_run(&test, &[CANCEL], later).await;
    let expected = [("skipped", date("2026-06-16T08:00:00Z"), 2), ("done", date("2026-06-16T10:00:00Z"), 1)];
    assert_eq!(outcomes(&ledger(&test, CANCEL.0).await)[2..], expected);
    let metric = processor.metric("stream_processor_job_runs_total{job=\"cancel-expired-offers\",outcome=\"done\"}");
    assert_eq!(metric.await, Some(2.0));
    let success = "stream_processor_job_last_success_timestamp_seconds{job=\"cancel-expired-offers\"}";
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century are exact")]
    let expected = (later.timestamp_millis() / 1000) as f64;
    assert_eq!(processor.metric(success).await, Some(expected));
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_owes_is_known_even_if_it_was_never_done() {
    let due = |job: &str| format!("stream_processor_job_due_timestamp_seconds{{job={job:?}}}");
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century are exact")]
    let seconds = |text: &str| Some((date(text).timestamp_millis() / 1000) as f64);
    let test = TestDatabase::create("ticker_owes").await;
    // Later than the step to the first phase, which has the time of the server.
    let clock = Time::at("2036-06-14T12:30:00Z");
    let processor = ticking(&test, &clock, &[]).await;
    eventually(PATIENCE, "a first start owes what is to come", async || {
        (processor.metric(&due(CANCEL.0)).await == seconds("2036-06-14T13:00:00Z")).then_some(())
    })
    .await;
    assert_eq!(processor.metric(&due(CAP)).await, None, "a job that is off owes nothing");
    stopped(processor).await;

    // The ledger has the occurrence of two days ago, and it was not done: it was too old to be made up for.
    clock.set(date("2036-06-16T12:30:00Z"));
    let old = [("STREAM_PROCESSOR__TICKER__JOBS__VERIFY__CATCH_UP", "1h")];
    let processor = ticking(&test, &clock, &old).await;
    let owed = seconds("2036-06-15T02:30:00Z");
    eventually(PATIENCE, "the job owes its first occurrence, and the other one is done", async || {
        let done = processor.metric(&due(CANCEL.0)).await == seconds("2036-06-16T13:00:00Z");
        (processor.metric(&due("verify")).await == owed && done).then_some(())
    })
    .await;
    stopped(processor).await;
    // By now the ledger is complete up to a later time, but its first entry is still owed.
    let processor = ticking(&test, &clock, &old).await;
    eventually(PATIENCE, "the next leader knows it too", async || {
        (processor.metric(&due("verify")).await == owed).then_some(())
    })
    .await;
    ran("verify", &[], &test).await;
    eventually(PATIENCE, "a run by hand settles it", async || {
        (processor.metric(&due("verify")).await == seconds("2036-06-17T02:30:00Z")).then_some(())
    })
    .await;
    for phase in ["dual-write", "shadow", "retired"] {
        let reason = ["phase", "set", phase, "--force", "--reason", "a test"];
        let set = Processor::command(&reason, &test, &[]).await;
        assert_eq!(set.code, 0, "{}{}", set.stdout, set.stderr);
    }
    eventually(PATIENCE, "retired has no use for it", async || {
        processor.metric(&due("verify")).await.is_some_and(f64::is_nan).then_some(())
    })
    .await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_in_the_middle_of_a_job_leaves_it_to_the_next_one_which_finishes_it_once() {
    for (point, times) in [("job-claimed", 1), ("job-changed", 2), ("job-done", 1)] {
        let test = TestDatabase::create("ticker_killed").await;
        let clock = Time::at(BEGIN);
        let expired = doc! { "job_expiration_date": date(BEGIN) };
        let recruiters: Vec<Document> =
            (0..25).map(|_| recruiter((0..10).map(|_| with(job("Boulanger"), expired.clone())))).collect();
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        let order = format!("{point}/{times}/KILL");
        let mut dies = ticking(&test, &clock, &[("STREAM_PROCESSOR_FAILPOINT", &order)]).await;
        settled(&test.database).await;
        let now = date("2026-06-14T13:00:00Z");
        clock.set(now);
        assert_eq!(dies.until_ended().await.code, 137, "{point}");
        let left = ledger(&test, CANCEL.0).await;
        assert_eq!((left.len(), text(&left[0], "state")), (1, Some("claimed")));
        end_lease(&test.database).await;

        let processor = ticking(&test, &clock, &[]).await;
        until_run(&test, &[CANCEL], now).await;
        settled(&test.database).await;
        let runs = ledger(&test, CANCEL.0).await;
        assert_eq!(outcomes(&runs), [("done", now, 1)], "{point}");
        assert_eq!(runs[0].get_i32("attempts").unwrap(), 2);
        let cancelled = doc! { "offer_status": "Cancelled", "offer_status_history": { "$size": 1 } };
        assert_eq!(test.collection("jobs_partners").count_documents(cancelled).await.unwrap(), 250, "{point}");
        let active = doc! { "jobs.job_status": "Active" };
        assert_eq!(test.collection("recruiters").count_documents(active).await.unwrap(), 0);
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_goes_through_the_leader_and_stands_in_the_history() {
    let expired = doc! { "job_expiration_date": date(BEGIN) };
    let (test, ids) = filled("ticker_by_hand", [expired]).await;
    let clock = Time::at("2026-06-14T12:30:00.001Z");
    let processor = ticking(&test, &clock, &[]).await;
    let run = ran(CANCEL.0, &[], &test).await;
    assert_eq!((&run["outcome"], &run["changed"]), (&"done".into(), &1.into()));
    let (offer, _) = pair(&test, ids[0]).await;
    assert_eq!(time(&offer, "updated_at"), Some(date("2026-06-14T12:30:00.001Z")), "the leader's time");
    let (code, history) = told(&["jobs", "history", "--json", "--limit", "1"], &test, &[]).await;
    assert_eq!((code, &history[0]["job"], &history[0]["by_hand"]), (0, &CANCEL.0.into(), &true.into()));
    assert_eq!(history[0]["lines"][0]["id"], ids[0].to_hex());
    let (code, jobs) = told(&["jobs", "list", "--json"], &test, &[ON, clock.variable()]).await;
    let listed = jobs[0]["jobs"].as_array().unwrap().iter().find(|job| job["job"] == CANCEL.0).unwrap().clone();
    assert_eq!((code, &listed["next"], &listed["last"]["changed"]), (0, &"2026-06-14T13:00:00Z".into(), &1.into()));
    for (arguments, code) in [
        (["jobs", "run", "no-such-job"].as_slice(), 2),
        (&["jobs", "run", "verify", "--now", "tomorrow"], 2),
        (&["jobs", "list"], 0),
        (&["jobs", "history"], 0),
    ] {
        let ended = Processor::command(arguments, &test, &[]).await;
        assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    }
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_recorded_as_failed_and_what_passes_is_waited_for() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "ticker_failed").await;
    let expired = doc! { "job_expiration_date": date(BEGIN) };
    let jobs = [(); 3].map(|()| with(job("Boulanger"), expired.clone()));
    test.collection("recruiters").insert_one(recruiter(jobs)).await.unwrap();
    let clock = Time::at(BEGIN);
    let processor = ticking(&test, &clock, &[]).await;
    settled(&test.database).await;
    refuse(&test.database, "find", "jobs_partners", doc! { "errorCode": 2 }).await;
    let now = date("2026-06-14T13:00:00Z");
    clock.set(now);
    until_run(&test, &[CANCEL], now).await;
    let failed = ledger(&test, CANCEL.0).await;
    assert_eq!(outcomes(&failed), [("failed", now, 1)]);
    assert_eq!(text(&failed[0], "error"), Some("a read failed: BadValue (code 2)"));
    mend(&test.database).await;

    let transient = doc! { "errorCode": 112, "errorLabels": ["TransientTransactionError"] };
    let refusals = refuse_next(&test.database, 2, &["commitTransaction"], None, transient).await;
    let now = date("2026-06-14T14:00:00Z");
    clock.set(now);
    until_run(&test, &[CANCEL], now).await;
    assert_eq!(refusals.so_far(&test.database).await, 2);
    let runs = ledger(&test, CANCEL.0).await;
    assert_eq!((text(&runs[1], "outcome"), runs[1].get_i64("changed").unwrap()), (Some("done"), 3));
    stopped(processor).await;
}

/// Its transaction is ended by the successor, and no other one of it begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_s_transaction_changes_nothing_under_its_successor() {
    let test = TestDatabase::create("ticker_paused").await;
    test.collection("jobs_partners").insert_one(doc! { "_id": 1 }).await.unwrap();
    let first = hold(&test, 1).await;
    let statement = || {
        let body = rawdoc! { "q": { "_id": 1 }, "u": { "$set": { "written": true } } };
        vec![Statement { id: None, body }]
    };
    let mut begun = Transaction::begin(&test.database, Some(&first.fence)).await.unwrap();
    begun.update("jobs_partners", statement()).await.unwrap();

    // It does not wait for the minute after which the server would end it.
    let second = hold(&test, 2).await;
    assert!(begun.commit().await.is_err());
    assert!(is_lost(&Transaction::begin(&test.database, Some(&first.fence)).await));
    assert!(is_lost(&Fence::take_over(Writer::free(&test.database), 1).await));
    nothing_is_entered_late(&test, (&first.fence, &second.fence)).await;
    let written = doc! { "written": true };
    assert_eq!(test.collection("jobs_partners").count_documents(written.clone()).await.unwrap(), 0);
    let mut begun = Transaction::begin(&test.database, Some(&second.fence)).await.unwrap();
    begun.update("jobs_partners", statement()).await.unwrap();
    begun.commit().await.unwrap();
    assert_eq!(test.collection("jobs_partners").count_documents(written).await.unwrap(), 1);
}

async fn hold(test: &TestDatabase, term: i64) -> WriteAccess {
    let until = Validity { until: Instant::now() + Duration::from_secs(60), ends_at: DateTime::MAX, cluster_end: None };
    WriteAccess {
        fence: Fence::take_over(Writer::free(&test.database), term).await.unwrap().0,
        validity: watch::channel(until).1,
        phase: watch::channel(Followed { phase: Phase::Sync, revision: 1 }).1,
        offer_write_lock: OfferWriteLock::default(),
        wake: Arc::default(),
        run: String::new(),
        pace: Default::default(),
        stored_at: None,
    }
}

fn is_lost<T>(outcome: &Result<T, Unfinished>) -> bool {
    matches!(outcome, Err(Unfinished::Interrupted(Interruption::LeaseLost)))
}

async fn nothing_is_entered_late(test: &TestDatabase, (late, next): (&Fence, &Fence)) {
    let now = date(BEGIN);
    let entries = [LedgerEntry::Due(now)];
    let run = ByHand { name: CAP, command: ObjectId::new(), now, now_is_given: false, started: now };
    let entered = async || test.collection(JOB_RUNS).count_documents(doc! {}).await.unwrap();
    assert!(is_lost(&ledger::enter(late, TimedJob::CapOfferExpirations, now, &entries).await));
    assert_eq!(entered().await, 0);
    ledger::enter(next, TimedJob::CapOfferExpirations, now, &entries).await.unwrap();
    ledger::enter(next, TimedJob::CapOfferExpirations, now, &entries).await.unwrap();
    assert_eq!(entered().await, 1, "after a crash they are entered again, and are the same");
    ledger::begin(&test.database, next.term, &run).await.unwrap();
    assert!(is_lost(&ledger::begin(&test.database, late.term, &run).await));
    ledger::begin(&test.database, next.term + 1, &run).await.unwrap();
    assert_eq!(entered().await, 2);
}
