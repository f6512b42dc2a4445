//! Whom a refusal is about (docs/jobs.md, "E-mail"): one that is about us ends the run and uses nothing up; one that is about
//! a recipient is counted against that recipient alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, expecting, in_state, marked, outbox};
use crate::support::processor::Processor;
use crate::support::runs::started_with;
use crate::support::ticking::{ON, Time, counts, date, text, told};
use crate::support::waiting::{PATIENCE, eventually};

const FIELD: &str = "relance_mail_expiration_J7";
const RUN: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];

fn settings<'a>(url: &'a str, connections: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("SMTP_URL", url),
        ("STREAM_PROCESSOR__SMTP__CONNECTIONS", connections),
        ("STREAM_PROCESSOR__SMTP__RATE", "1000"),
        ("STREAM_PROCESSOR__SMTP__SEND_TIMEOUT", "300ms"),
    ]
}

async fn run(test: &TestDatabase, server: &MailServer) -> (i32, Value) {
    run_with(test, server, "1").await
}

async fn run_with(test: &TestDatabase, server: &MailServer, connections: &str) -> (i32, Value) {
    let url = server.url();
    let (code, mut lines) = told(&RUN, test, &settings(&url, connections)).await;
    (code, lines.pop().unwrap())
}

fn addresses(count: usize, domains: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}@{}.example.com", number % domains)).collect()
}

/// The run tells the code and the stage of the reply, and nothing else of it.
fn assert_refused(summary: &Value, step: Step, words: &str) {
    let stage = match step {
        Step::Greeting | Step::Hello => "greeting",
        Step::Login => "login",
        Step::Sender => "sender",
        Step::Recipient => "recipient",
        Step::Data => "data",
        Step::Middle | Step::Content => "content",
    };
    let (code, detail) = words.split_once(' ').unwrap();
    let detail = detail.split(' ').next().filter(|word| word.split('.').count() == 3);
    let detail = detail.map_or(String::new(), |detail| format!(" {detail}"));
    assert_eq!(summary["error"], format!("mail_server_refuses: {code}{detail} at {stage}"), "{words}");
}

async fn filled(name: &str, addresses: &[String]) -> TestDatabase {
    expecting(name, &addresses.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Four nights of it: had each one counted, nobody would ever be written to.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_about_us_uses_nothing_up_and_the_first_night_without_it_all_are_mailed() {
    let cases: [(&str, Step, &'static str, usize, &str); 12] = [
        ("banner", Step::Greeting, "554 go away", 1, "2"),
        ("hello", Step::Hello, "550 who are you", 1, "2"),
        ("sender_530", Step::Sender, "530 5.7.0 authentication required", 1, "2"),
        ("sender_550", Step::Sender, "550 no", 20, "1"),
        ("recipient_530", Step::Recipient, "530 authentication required", 20, "1"),
        ("recipient_554", Step::Recipient, "554 relay access denied", 1, "4"),
        ("recipient_550", Step::Recipient, "550 5.7.1 not you", 20, "1"),
        ("mailbox", Step::Recipient, "550 5.1.1 user unknown in local recipient table", 20, "1"),
        ("of_sender", Step::Recipient, "550 5.1.8 sender's domain unknown", 20, "1"),
        ("data_550", Step::Data, "550 no", 1, "1"),
        ("data_554", Step::Data, "554 no valid recipients", 20, "4"),
        ("content", Step::Content, "550 5.7.1 spf", 20, "1"),
    ];
    for (name, step, words, domains, connections) in cases {
        let test = filled(&format!("mail_refused_{name}"), &addresses(20, domains)).await;
        let refuses = Arc::new(AtomicBool::new(true));
        let script = Arc::clone(&refuses);
        let server =
            MailServer::start(move |at, _| (at == step && script.load(Ordering::Relaxed)).then_some(Fault::Say(words)))
                .await;
        for night in 0..4 {
            let (code, summary) = run_with(&test, &server, connections).await;
            let told = (code, summary["outcome"].as_str());
            assert_eq!(told, (1, Some("failed")), "{name}, night {night}: {summary}");
            assert_refused(&summary, step, words);
            let entries = outbox(&test).await;
            assert!(entries.iter().all(|entry| text(entry, "state") == Some("deferred")), "{name}: {entries:?}");
            let used_up = entries.iter().any(|entry| entry.get_i32("refusals").is_ok_and(|refusals| refusals > 0));
            assert!(!used_up, "{name}: {entries:?}");
            assert_eq!(marked(&test, FIELD).await, (0, 0), "{name}");
        }
        refuses.store(false, Ordering::Relaxed);
        let (code, summary) = run_with(&test, &server, connections).await;
        assert_eq!((code, counts(&summary)), (0, [20, 20, 0]), "{name}: {summary}");
        assert_eq!((server.received().len(), in_state(&test, "sent").await), (20, 20), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_counted_once_another_message_came_farther_and_only_then() {
    let names = ["a@gone.example", "b@gone.example", "well@example.com", "c@gone.example", "d@gone.example"];
    let test = expecting("mail_refused_some", &names).await;
    let takes = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&takes);
    let server = MailServer::start(move |step, to| match step {
        Step::Recipient if to.ends_with("gone.example") => Some(Fault::Say("550 no such user")),
        Step::Recipient if !script.load(Ordering::Relaxed) => Some(Fault::Say("550 too many messages")),
        _ => None,
    })
    .await;
    let (code, summary) = run(&test, &server).await;
    let error = "mail_server_refuses: 550 at recipient";
    assert_eq!((code, counts(&summary), summary["error"].as_str()), (1, [5, 0, 5], Some(error)));
    assert_eq!(in_state(&test, "deferred").await, 5);
    takes.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let (code, summary) = run(&test, &server).await;
        assert_eq!((code, summary["failed"].as_u64()), (1, Some(4)), "{summary}");
    }
    let refused: Vec<i32> = outbox(&test).await.iter().filter_map(|entry| entry.get_i32("refusals").ok()).collect();
    // Among themselves, as in the second and the third of these runs, all are refused alike.
    assert_eq!((server.received().len(), refused), (1, vec![1, 1, 0, 1, 1]));
}

/// Enough was sent for today, says the server, to whoever is next.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_more_in_the_middle_of_a_run_counts_it_against_nobody() {
    let test = filled("mail_refused_quota", &addresses(40, 40)).await;
    let quota = Arc::new(AtomicUsize::new(12));
    let script = Arc::clone(&quota);
    let server = MailServer::start(move |step, _| {
        let spent = || script.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        (step == Step::Recipient && spent()).then_some(Fault::Say("550 enough for today"))
    })
    .await;
    let (code, summary) = run(&test, &server).await;
    assert_eq!(
        (code, summary["error"].as_str(), server.received().len()),
        (1, Some("mail_server_refuses: 550 at recipient"), 12),
        "{summary}"
    );
    assert_eq!((in_state(&test, "sent").await, in_state(&test, "refused").await), (12, 0));
    quota.store(100, Ordering::Relaxed);
    let (code, summary) = run(&test, &server).await;
    assert_eq!((code, counts(&summary), server.received().len()), (0, [28, 28, 0], 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_recipient_alone_is_refused_for_itself_where_the_reply_names_the_mailbox() {
    for (name, step, words, state) in [
        ("enhanced", Step::Recipient, "550 5.1.1 no such user", "refused"),
        ("plain", Step::Recipient, "550 no such user", "refused"),
        ("policy", Step::Recipient, "550 5.7.1 relaying denied", "deferred"),
        ("other", Step::Recipient, "554 no", "deferred"),
        ("data", Step::Data, "550 no", "deferred"),
    ] {
        let test = expecting(&format!("mail_alone_{name}"), &["somebody@example.com"]).await;
        let server = MailServer::start(move |at, _| (at == step).then_some(Fault::Say(words))).await;
        let (code, summary) = run(&test, &server).await;
        let entries = outbox(&test).await;
        assert_eq!((code, entries.len(), text(&entries[0], "state")), (1, 1, Some(state)), "{name}");
        let stage = if step == Step::Data { "data" } else { "recipient" };
        assert_eq!(text(&entries[0], "stage"), Some(stage), "{name}");
        assert_eq!(summary["error"].as_str().is_some(), state == "deferred", "{name}: {summary}");
    }
}

/// The next run is made within the hour, and the metric says that these were put off.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_about_us_is_told_and_the_run_is_made_again() {
    let test = filled("mail_refused_told", &addresses(3, 3)).await;
    let server = MailServer::start(|step, _| (step == Step::Recipient).then_some(Fault::Say("554 relay denied"))).await;
    let (url, clock) = (server.url(), Time::at("2026-06-14T07:19:59Z"));
    let processor = started_with(&test, &[&settings(&url, "1")[..], &[ON, clock.variable()]].concat()).await;
    eventually(PATIENCE, "the ticker has begun", async || {
        let state =
            test.collection("stream_processor_state").find_one(bson::doc! { "_id": "ticker" }).await.unwrap()?;
        state.get_document("through").ok()?.get_datetime("remind-expiring-offers-j7").ok().copied()
    })
    .await;
    clock.set(date(NOW));
    let (runs, error) = (test.collection("stream_processor_job_runs"), "mail_server_refuses: 554 at recipient");
    eventually(PATIENCE, "the run is put off", async || {
        let run = bson::doc! { "job": "remind-expiring-offers-j7", "put_off_until": { "$type": "date" } };
        runs.find_one(run).await.unwrap().filter(|run| text(run, "error") == Some(error))
    })
    .await;
    let metric =
        |outcome: &str| format!("stream_processor_emails_total{{outcome=\"{outcome}\",template=\"remind-J7\"}}");
    let told = (processor.metric(&metric("deferred")).await, processor.metric(&metric("refused")).await);
    assert_eq!(told, (Some(3.0), Some(0.0)));
    assert!(processor.stderr().contains("refuses all our messages"), "it is in the log");
    let events = test.collection("stream_processor_events");
    let event = eventually(PATIENCE, "the event of the timeline", async || {
        events.find_one(bson::doc! { "kind": "job_failed" }).await.unwrap()
    })
    .await;
    assert_eq!(text(&event, "error"), Some(error));
    let history = Processor::command(&["jobs", "history"], &test, &[]).await;
    assert!(history.stdout.contains(error) && !history.stdout.contains("user-"), "{}", history.stdout);
    let lines = processor.stderr();
    let line = lines.lines().find(|line| line.contains("a job failed")).unwrap();
    assert!(line.contains(error), "{line}");
}
