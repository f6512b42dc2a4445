//! Clocks that are wrong for a while: what they left in the ledger silences nothing once they are right again, and a
//! machine's own clock decides nothing.

use bson::{DateTime, doc};
use xtask::guarded::TemporaryFolder;

use super::occurrences::{BEGIN, CANCEL, outcomes, ticking};
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{shifted_clock, started_with, stopped};
use crate::support::state::{settled, state, until_no_resync};
use crate::support::ticking::{ON, Time, date, later, ledger, text, time, told, until_run};
use crate::support::waiting::{PATIENCE, eventually};

const DAY: i64 = 24 * 3_600_000;
const MONTH: i64 = 30 * DAY;

async fn through(test: &TestDatabase) -> DateTime {
    let ticker = state(&test.database, "ticker").await.unwrap();
    *ticker.get_document("through").unwrap().get_datetime(CANCEL.0).unwrap()
}

/// Waits until nothing of the ledger is later than `now`.
async fn until_taken_back(test: &TestDatabase, now: DateTime) {
    let runs = test.collection("stream_processor_job_runs");
    eventually(PATIENCE, "what was entered for times to come is taken back", async || {
        let ahead = runs.count_documents(doc! { "scheduled_for": { "$gt": now } }).await.unwrap();
        (ahead == 0 && through(test).await <= now).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_a_month_ahead_for_four_seconds_silences_no_job_with_or_without_a_restart() {
    for restarts in [false, true] {
        let test = TestDatabase::create("ticker_month_ahead").await;
        let clock = Time::at(BEGIN);
        let processor = ticking(&test, &clock, &[]).await;
        // One run at its time, before.
        let before = date("2026-06-14T13:00:00Z");
        clock.set(before);
        until_run(&test, &[CANCEL], before).await;
        let ahead = later(date("2026-06-14T13:10:00Z"), MONTH);
        clock.set(ahead);
        until_run(&test, &[CANCEL], ahead).await;
        assert!(through(&test).await > later(before, DAY));
        let right = date("2026-06-14T13:10:04Z");
        let processor = if restarts {
            stopped(processor).await;
            clock.set(right);
            started_with(&test, &[ON, clock.variable()]).await
        } else {
            clock.set(right);
            processor
        };
        until_taken_back(&test, right).await;
        assert_eq!(through(&test).await, before, "the last one that was due before");
        let success = "stream_processor_job_last_success_timestamp_seconds{job=\"cancel-expired-offers\"}";
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century are exact")]
        let expected = (before.timestamp_millis() / 1_000) as f64;
        assert_eq!(processor.metric(success).await, Some(expected), "no alert is silenced for a month");
        let printed = processor.stdout() + &processor.stderr();
        assert!(printed.contains("a clock was ahead"), "{printed}");

        // What is due next runs: the next hour, and the one for which something was entered by the wrong clock.
        for now in ["2026-06-14T14:00:00Z", "2026-06-14T15:00:00Z"] {
            clock.set(date(now));
            until_run(&test, &[CANCEL], date(now)).await;
            let runs = ledger(&test, CANCEL.0).await;
            let last = runs.iter().rfind(|run| !run.contains_key("entered_for")).unwrap();
            assert_eq!((text(last, "outcome"), time(last, "now")), (Some("done"), Some(date(now))), "{last}");
        }
        let ahead = later(date("2026-06-14T13:00:00Z"), MONTH);
        clock.set(ahead);
        until_run(&test, &[CANCEL], ahead).await;
        // What ran by the wrong clock stays in the history, under the time at which it was taken back.
        let (_, history) = told(&["jobs", "history", "--job", CANCEL.0, "--json"], &test, &[]).await;
        let moved = history.iter().filter(|run| run["error"].as_str().is_some_and(|error| error.contains("ahead")));
        let moved: Vec<_> = moved.map(|run| (run["outcome"].clone(), run["scheduled_for"].clone())).collect();
        let at = serde_json::Value::from("2026-06-14T13:10:04Z");
        assert_eq!(moved.len(), 2, "{history:#?}");
        assert!(moved.contains(&("done".into(), at.clone())) && moved.contains(&("skipped".into(), at)), "{moved:?}");
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_an_hour_and_comes_forward_again_silences_no_job() {
    let test = TestDatabase::create("ticker_back").await;
    let clock = Time::at(BEGIN);
    let processor = ticking(&test, &clock, &[]).await;
    for now in ["2026-06-14T13:00:00Z", "2026-06-14T14:00:00Z"] {
        clock.set(date(now));
        until_run(&test, &[CANCEL], date(now)).await;
    }
    // A little is waited out.
    clock.set(date("2026-06-14T13:59:30Z"));
    let back = date("2026-06-14T12:59:00Z");
    clock.set(back);
    until_taken_back(&test, back).await;
    for now in ["2026-06-14T13:00:00Z", "2026-06-14T14:00:00Z", "2026-06-14T15:00:00Z"] {
        clock.set(date(now));
        until_run(&test, &[CANCEL], date(now)).await;
    }
    let runs = ledger(&test, CANCEL.0).await;
    let own: Vec<_> = runs.into_iter().filter(|run| !run.contains_key("entered_for")).collect();
    let hours = [13, 14, 15].map(|hour| ("done", date(&format!("2026-06-14T{hour}:00:00Z")), 1));
    assert_eq!(outcomes(&own), hours);
    stopped(processor).await;
}

/// What 1.0.0 left behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_that_was_ahead_left_behind_is_told_by_doctor_and_taken_back_by_who_leads() {
    let test = TestDatabase::create("ticker_left").await;
    let ahead = later(DateTime::now(), MONTH);
    let left = doc! { "_id": "ticker", "term": 1_i64, "through": { CANCEL.0: ahead, "verify": ahead } };
    test.collection("stream_processor_state").insert_one(left).await.unwrap();
    let found = Processor::command(&["doctor"], &test, &[]).await.stdout;
    assert!(found.contains("which is in the future"), "{found}");
    let often = ("STREAM_PROCESSOR__TICKER__JOBS__CANCEL_EXPIRED_OFFERS__CRON", "* * * * * *");
    let processor = started_with(&test, &[ON, often]).await;
    eventually(PATIENCE, "it runs", async || {
        ledger(&test, CANCEL.0).await.iter().any(|run| text(run, "outcome") == Some("done")).then_some(())
    })
    .await;
    assert!(through(&test).await < later(DateTime::now(), DAY));
    stopped(processor).await;
}

/// The ledger, commands, dead letters, a resync and the verification: their times are the server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_clock_is_a_month_off_stores_no_time_of_its_own_where_it_decides() {
    for shift in [MONTH, -MONTH] {
        let test = TestDatabase::create("ticker_own_clock").await;
        let unknown = with(job("Boulanger"), doc! { "job_status": "?" });
        test.collection("recruiters").insert_one(recruiter([unknown])).await.unwrap();
        let folder = TemporaryFolder::create("stream-processor-clock-").unwrap();
        let library = shifted_clock(folder.path(), shift / 1_000);
        let preload = ("LD_PRELOAD", library.as_str());
        let often = ("STREAM_PROCESSOR__TICKER__JOBS__CANCEL_EXPIRED_OFFERS__CRON", "* * * * * *");
        let processor = started_with(&test, &[ON, often, preload]).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        assert_eq!(Processor::command(&["verify"], &test, &[preload]).await.code, 0);
        assert_eq!(Processor::command(&["dead-letters", "retry"], &test, &[preload]).await.code, 1, "one stands");
        eventually(PATIENCE, "a job runs", async || {
            ledger(&test, CANCEL.0).await.iter().any(|run| text(run, "outcome") == Some("done")).then_some(())
        })
        .await;
        let verification = state(&test.database, "verification").await.unwrap();
        let phase = state(&test.database, "phase").await.unwrap();
        let one = async |collection: &str| test.collection(collection).find_one(doc! {}).await.unwrap().unwrap();
        let dead_letter = one("stream_processor_dead_letters").await;
        let command = one("stream_processor_commands").await;
        let run = one("stream_processor_job_runs").await;
        let stored = [
            ("through", Some(through(&test).await)),
            ("verification began", time(&verification, "began")),
            ("verification ended", time(&verification, "ended")),
            ("phase", time(&phase, "since")),
            ("dead letter", time(&dead_letter, "next_retry")),
            ("command", time(&command, "requested_at")),
            ("command's end", time(&command, "finished_at")),
            ("run", time(&run, "finished")),
        ];
        for (what, stored) in stored {
            let off = stored.unwrap().timestamp_millis() - DateTime::now().timestamp_millis();
            assert!(off.abs() < DAY, "{what} is {off} ms off");
        }
        stopped(processor).await;
    }
}
