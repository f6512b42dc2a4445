//! What a mail server may do to a message, and what becomes of it: replies 421, 450 and 550, silence, a cut in the middle of
//! the content.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bson::Document;

use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, filled, marked, outbox, recruiter_of, user};
use crate::support::recruiters::id;
use crate::support::ticking::{counts, text, told};

const FIELD: &str = "relance_mail_expiration_J7";
const RUN: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];

/// One message at a time, so that the order is known.
fn settings(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("SMTP_URL", url),
        ("STREAM_PROCESSOR__SMTP__CONNECTIONS", "1"),
        ("STREAM_PROCESSOR__SMTP__RATE", "1000"),
        ("STREAM_PROCESSOR__SMTP__SEND_TIMEOUT", "300ms"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_what_does_not_is_recorded_and_the_others_get_theirs() {
    let names = ["busy", "closing", "cut", "full", "gone", "gone", "silent", "well"];
    let users: Vec<Document> = names.iter().map(|name| user(&format!("{name}@example.com"))).collect();
    let recruiters: Vec<Document> = users.iter().map(|user| recruiter_of(user, &["Boulanger"])).collect();
    let test = filled("mail_faults", &users, &recruiters).await;
    let asked_for_gone = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked_for_gone);
    let (busy, full) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let [closing, cut, silent] = [(); 3].map(|()| AtomicBool::new(true));
    let first = |flag: &AtomicBool, fault| flag.swap(false, Ordering::Relaxed).then_some(fault);
    let server = MailServer::start(move |step, to| match (step, to) {
        (Step::Recipient, "busy@example.com") => {
            (busy.fetch_add(1, Ordering::Relaxed) < 3).then_some(Fault::Say("450 busy"))
        }
        (Step::Recipient, "closing@example.com") => first(&closing, Fault::Say("421 closing")),
        (Step::Middle, "cut@example.com") => first(&cut, Fault::Cut),
        (Step::Content, "full@example.com") => {
            (full.fetch_add(1, Ordering::Relaxed) < 1).then_some(Fault::Say("452 full"))
        }
        (Step::Recipient, "gone@example.com") => {
            counted.fetch_add(1, Ordering::Relaxed);
            Some(Fault::Say("550 no such user"))
        }
        (Step::Content, "silent@example.com") => first(&silent, Fault::TakeAndStall),
        _ => None,
    })
    .await;
    let url = server.url();
    let (code, lines) = told(&RUN, &test, &settings(&url)).await;
    assert_eq!((code, counts(lines.last().unwrap())), (1, [8, 6, 2]), "{lines:?}");
    let received = server.received();
    let to = |name: &str| received.iter().filter(|one| one.to == format!("{name}@example.com")).collect::<Vec<_>>();
    for name in ["busy", "closing", "cut", "full", "well"] {
        assert_eq!(to(name).len(), 1, "{name}");
    }
    let silent = to("silent");
    assert_eq!(silent.len(), 2, "nobody can know that the first one was taken");
    assert_eq!(silent[0].header("Message-ID"), silent[1].header("Message-ID"));
    assert_eq!(asked_for_gone.load(Ordering::Relaxed), 1, "an address that was refused is not tried again in the run");
    assert_eq!(marked(&test, FIELD).await, (6, 6));
    let states: Vec<Document> = outbox(&test).await;
    assert_eq!(states.iter().filter(|entry| text(entry, "state") == Some("sent")).count(), 6);
    let refused: Vec<_> = states.iter().filter(|entry| text(entry, "state") == Some("refused")).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].get_i32("code").unwrap(), 550);

    // A second run sends nothing again, and tries what was refused.
    let (_, lines) = told(&RUN, &test, &settings(&url)).await;
    assert_eq!(counts(lines.last().unwrap()), [2, 0, 2]);
    assert_eq!(server.received().len(), received.len());
    assert_eq!(asked_for_gone.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_the_run_fails_early_and_the_next_one_sends_all() {
    let users: Vec<Document> = (0..20).map(|number| user(&format!("user-{number}@example.com"))).collect();
    let recruiters: Vec<Document> = users.iter().map(|user| recruiter_of(user, &["Boulanger"])).collect();
    let test = filled("mail_down", &users, &recruiters).await;
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let server = MailServer::start(move |step, _| {
        (step == Step::Greeting && is_down.load(Ordering::Relaxed)).then_some(Fault::Cut)
    })
    .await;
    let url = server.url();
    let (code, lines) = told(&RUN, &test, &settings(&url)).await;
    let summary = lines.last().unwrap();
    assert_eq!(
        (code, summary["outcome"].as_str(), summary["error"].as_str()),
        (1, Some("failed"), Some("mail_server_down: no connection"))
    );
    assert_eq!(marked(&test, FIELD).await, (0, 0));
    let tries = server.connections();
    assert!(tries <= 8, "one message is enough to know: {tries}");
    down.store(false, Ordering::Relaxed);
    let (code, lines) = told(&RUN, &test, &settings(&url)).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [20, 20, 0]));
    assert_eq!((server.received().len(), server.connections()), (20, tries + 1), "one connection is enough");
    assert_eq!(marked(&test, FIELD).await, (20, 20));
}

/// Two answers that never come: whether these copies were taken, nobody knows, and there is no third one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_twice_may_have_been_taken_is_not_sent_again() {
    let somebody = user("somebody@example.com");
    let test = filled("mail_unconfirmed", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger"])]).await;
    let server = MailServer::start(|step, _| (step == Step::Content).then_some(Fault::TakeAndStall)).await;
    let url = server.url();
    for _ in 0..2 {
        let (code, lines) = told(&RUN, &test, &settings(&url)).await;
        assert_eq!((code, counts(lines.last().unwrap())), (1, [1, 0, 1]));
        assert_eq!(server.received().len(), 2);
    }
    let entries = outbox(&test).await;
    assert_eq!(text(&entries[0], "_id").unwrap(), format!("remind-J7/{}/2026-06-14", id(&somebody)));
    assert_eq!((text(&entries[0], "state"), entries[0].get_i32("copies").unwrap()), (Some("sending"), 2));
    assert_eq!(entries.len(), 1);
    let message_id = format!("<remind-J7.{}.2026-06-14@example.com>", id(&somebody));
    assert!(server.received().iter().all(|one| one.header("Message-ID").as_deref() == Some(&message_id)));
    let known: Vec<&String> = entries[0].keys().collect();
    assert_eq!(known, ["_id", "at", "copies", "message_id", "offers", "run", "state"], "nothing about the person");
}

/// A server that offers no STARTTLS, or one behind somebody who takes the offer away, gets neither message nor login.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_starttls_gets_nothing_where_it_is_required() {
    let somebody = user("somebody@example.com");
    let test = filled("mail_no_starttls", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger"])]).await;
    let server = MailServer::start(|_, _| None).await;
    let url = format!("{}/?tls=required", server.url());
    let (code, lines) = told(&RUN, &test, &settings(&url)).await;
    assert_eq!((code, lines.last().unwrap()["outcome"].as_str()), (1, Some("failed")));
    assert_eq!((server.received().len(), marked(&test, FIELD).await), (0, (0, 0)));
}
