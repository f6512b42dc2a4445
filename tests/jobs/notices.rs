//! Notices to a webhook (spec 05): a line per run that changed or failed something, from an instance and from a command,
//! without personal data; and nobody waits for them.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::doc;

use crate::support::database::TestDatabase;
use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, filled, recruiter_of, user};
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::until_no_resync;
use crate::support::ticking::{counts, date, later, told};
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::web_server::{Answer, WebServer};

const EXPIRED: [&str; 6] = ["jobs", "run", "cancel-expired-offers", "--json", "--now", "2026-07-01T00:00:00Z"];
const REMIND: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];

fn lines(server: &WebServer) -> Vec<String> {
    let line = |body: &str| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1);
        body["text"].as_str().unwrap().to_owned()
    };
    server.asked().iter().map(|asked| line(&asked.body)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_changed_or_failed_something_is_told_and_another_one_is_not() {
    let somebody = user("somebody@example.com");
    let test = filled("notices_lines", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger"])]).await;
    let server = WebServer::start(|_, before| match before {
        0 => Answer::Say(500, String::new()),
        _ => Answer::Say(200, "ok".to_owned()),
    })
    .await;
    let hook = format!("{}/hook/secret", server.url());
    // It lets nobody in: the run fails.
    let closed = MailServer::start(|step, _| (step == Step::Greeting).then_some(Fault::Say("554 closed"))).await;
    let closed = closed.url();
    let hooked = ("STREAM_PROCESSOR__NOTICES__WEBHOOK_URL", hook.as_str());
    let unreachable = [hooked, ("SMTP_URL", closed.as_str())];
    let (code, _) = told(&REMIND, &test, &unreachable).await;
    assert_eq!(code, 1);
    let events = test.collection("stream_processor_events");
    let named = doc! { "kind": "job_failed", "job": "remind-expiring-offers-j7", "failed": 1_i64,
    "error": "mail_server_refuses: 554 at greeting" };
    assert_eq!(events.count_documents(named).await.unwrap(), 1, "the timeline tells it too");
    for changed in [1, 0] {
        let (_, run) = told(&EXPIRED, &test, &[hooked]).await;
        assert_eq!(counts(run.last().unwrap()), [changed, changed, 0]);
    }
    let failed = "[development] remind-expiring-offers-j7: 1 matched, 0 changed, 1 failed; failed: \
                  mail_server_refuses: 554 at greeting";
    let changed = "[development] cancel-expired-offers: 1 matched, 1 changed, 0 failed";
    // The first answer was 500.
    let (all, origin) = (lines(&server), format!(" (database {}, replica set ", test.database.name()));
    let told: Vec<&str> = all.iter().filter_map(|line| Some(line.split_once(&origin)?.0)).collect();
    assert_eq!(told, [failed, failed, changed]);
    assert!(all.iter().all(|line| line.contains(", instance ") && line.contains(", version ")), "{all:?}");
    assert!(lines(&server).iter().all(|line| !line.contains(PERSONAL) && !line.contains('@')));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_goes_on_while_the_webhook_says_nothing() {
    let somebody = user("somebody@example.com");
    let test =
        filled("notices_silence", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger", "Vendeur"])]).await;
    let silent = Arc::new(AtomicBool::new(true));
    let is_silent = Arc::clone(&silent);
    let server = WebServer::start(move |_, _| {
        if is_silent.load(Ordering::Relaxed) { Answer::Stall } else { Answer::Say(200, String::new()) }
    })
    .await;
    let hook = server.url();
    let instance = started_with(&test, &[("STREAM_PROCESSOR__NOTICES__WEBHOOK_URL", hook.as_str())]).await;
    let (_, run) = told(&EXPIRED, &test, &[]).await;
    assert_eq!(counts(run.last().unwrap()), [2, 2, 0]);
    // While the first notice hangs, another run is done and told of.
    let offers = test.collection("jobs_partners");
    let active = doc! { "$set": { "offer_status": "Active", "offer_expiration": later(date(NOW), -1) } };
    offers.update_one(doc! { "offer_title": "Vendeur" }, active).await.unwrap();
    let (_, run) = told(&["jobs", "run", "cap-offer-expirations", "--json"], &test, &[]).await;
    assert_eq!(run.last().unwrap()["outcome"], "done");
    silent.store(false, Ordering::Relaxed);
    eventually(PATIENCE, "the notice arrives", async || {
        lines(&server).iter().any(|line| line.contains("cancel-expired-offers: 2 matched, 2 changed")).then_some(())
    })
    .await;
    drop(instance);
}

/// Also by a command without an instance. What a person typed, and what happens every day, is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_worth_it_are_told_and_those_of_every_day_are_not() {
    let test = TestDatabase::create("notices_events").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let server = WebServer::start(|_, before| match before {
        0 => Answer::Say(500, String::new()),
        _ => Answer::Say(200, String::new()),
    })
    .await;
    let hook = server.url();
    let hooked = [("STREAM_PROCESSOR__NOTICES__WEBHOOK_URL", hook.as_str())];
    let reason = ["--reason", PERSONAL];
    let instance = started_with(&test, &hooked).await;
    until_no_resync(&test.database).await;
    for command in [&["phase", "set", "dual-write", "--force"][..], &["verify"], &["pause"], &["resume"]] {
        let reason = if command[0] == "verify" { &[][..] } else { &reason };
        // These commands have no webhook: the instance tells what they did.
        let ended = Processor::command(&[command, reason].concat(), &test, &[]).await;
        assert_eq!(ended.code, 0, "{command:?}: {}", ended.stderr);
    }
    stopped(instance).await;
    // An unanswered write keeps the lease for a while.
    eventually(PATIENCE, "the position is reset", async || {
        let reset = [&["tokens", "reset", "--force"][..], &reason].concat();
        (Processor::command(&reset, &test, &hooked).await.code == 0).then_some(())
    })
    .await;

    let told = lines(&server);
    let of = |kind: &str| told.iter().filter(|line| line.starts_with(&format!("[development] {kind}: "))).count();
    for kind in ["resync_began", "resync_ended", "phase_step", "paused", "resumed", "position_moved"] {
        assert!(of(kind) >= 1, "{kind}: {told:#?}");
    }
    for kind in ["leadership", "verified", "command_ended"] {
        assert_eq!(of(kind), 0, "{kind}: {told:#?}");
    }
    let step = told.iter().find(|line| line.contains("phase_step")).unwrap();
    assert!(
        step.contains("The phase changed. from: sync, to: dual-write, forced: ") && step.contains("(database "),
        "{step}"
    );
    assert!(told.iter().all(|line| !line.contains(PERSONAL) && !line.contains('@')), "{told:#?}");
}
