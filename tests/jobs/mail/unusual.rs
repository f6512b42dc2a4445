//! Texts and addresses that are rare and right, or that cannot be sent: each is its own message's affair, and an outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bson::{Document, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, expecting, filled, in_state, marked, outbox, recruiter_of, user};
use crate::support::recruiters::with;
use crate::support::ticking::{counts, text, told};

const FIELD: &str = "relance_mail_expiration_J7";
const RUN: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];

async fn run(test: &TestDatabase, server: &MailServer) -> (i32, Value) {
    run_with(test, server, &[]).await
}

async fn run_with(test: &TestDatabase, server: &MailServer, more: &[(&str, &str)]) -> (i32, Value) {
    let url = server.url();
    let settings = [&[("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__SMTP__RATE", "1000")], more].concat();
    let (code, mut lines) = told(&RUN, test, &settings).await;
    (code, lines.pop().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_xml_forbids_in_a_text_is_cleaned_away_and_the_message_is_sent() {
    let forbidden = "\u{1}\u{b}\u{1f}\u{7f}\u{fdd0}\u{fffe}\u{ffff}\u{10ffff}";
    let odd =
        with(user("odd@example.com"), doc! { "first_name": format!("Ca{forbidden}mille"), "last_name": "\u{ffff}" });
    let users = [odd, user("well@example.com")];
    let mut recruiters = users.each_ref().map(|user| recruiter_of(user, &["Boulanger"])).to_vec();
    let title = format!("Boulan\u{ffff}ger{forbidden} de nuit");
    recruiters[0] = recruiter_of(&users[0], &[&title]);
    for field in ["establishment_enseigne", "establishment_raison_sociale"] {
        recruiters[0].insert(field, format!("Au bon\u{fffe} pain{forbidden}"));
    }
    if let Ok(jobs) = recruiters[0].get_array_mut("jobs") {
        let job = jobs[0].as_document_mut().unwrap();
        job.insert("rome_appellation_label", format!("Pâtissier{forbidden}"));
    }
    let test = filled("mail_xml", &users, &recruiters).await;
    let server = MailServer::start(|_, _| None).await;
    let (code, summary) = run(&test, &server).await;
    assert_eq!((code, counts(&summary)), (0, [2, 2, 0]), "{summary}");
    assert_eq!((server.received().len(), marked(&test, FIELD).await), (2, (2, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rare_addresses_are_sent_to_and_one_that_the_server_cannot_take_is_an_outcome() {
    let rare = [
        ("jean@société.example", "jean@xn--socit-esab.example"),
        ("\"john doe\"@example.com", "\"john doe\"@example.com"),
        ("\"a>b\\\"c\"@example.com", "\"a>b\\\"c\"@example.com"),
        ("user@[127.0.0.1]", "user@[127.0.0.1]"),
        ("user@[IPv6:2001:db8::1]", "user@[IPv6:2001:db8::1]"),
        ("o'neil+x@EXAMPLE.com", "o'neil+x@EXAMPLE.com"),
    ];
    let unsendable = "zoé@example.com";
    let mut addresses: Vec<&str> = rare.iter().map(|(address, _)| *address).collect();
    addresses.push(unsendable);
    let test = expecting("mail_addresses", &addresses).await;
    let server = MailServer::start(|_, _| None).await;
    let from = ("STREAM_PROCESSOR__SMTP__FROM", "LBA <contact@société.example>");
    let (code, summary) = run_with(&test, &server, &[from]).await;
    assert_eq!((code, counts(&summary)), (1, [7, 6, 1]), "{summary}");
    assert_eq!(summary["error"].as_str(), None, "{summary}");
    for (_, sent) in rare {
        let received = server.received();
        let one = received.iter().find(|one| one.to == sent);
        let message = one.unwrap_or_else(|| panic!("{sent} got nothing"));
        assert!(message.message.is_ascii() && message.header("To").unwrap().contains(sent), "{sent}");
        assert!(message.header("Message-ID").unwrap().ends_with("@xn--socit-esab.example>"));
    }
    let entries = outbox(&test).await;
    let left: Vec<&Document> = entries.iter().filter(|entry| text(entry, "state") == Some("unsendable")).collect();
    assert_eq!((left.len(), text(left[0], "reason"), left[0].get_i32("refusals").ok()), (1, Some("address"), Some(1)));

    // Where the server knows such addresses it is sent.
    let modern = MailServer::offering("250-test\r\n250 SMTPUTF8", |_, _| None).await;
    let (code, summary) = run(&test, &modern).await;
    assert_eq!((code, counts(&summary), modern.received()[0].to.as_str()), (0, [1, 1, 0], unsendable));
}

/// After three runs nothing more is tried, and each of them says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_nobody_can_send_to_is_told_each_time_and_given_up_after_three_runs() {
    // As punycode its label is longer than 63 octets.
    let long = format!("jean@é{}.example", "a".repeat(58));
    let test = expecting("mail_unsendable", &[&long, "well@example.com"]).await;
    let server = MailServer::start(|_, _| None).await;
    for (night, found) in [[2, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1]].into_iter().enumerate() {
        let (code, summary) = run(&test, &server).await;
        assert_eq!((code, counts(&summary), summary["error"].as_str()), (1, found, None), "night {night}: {summary}");
    }
    let entries = outbox(&test).await;
    let refusals: Vec<i32> = entries.iter().filter_map(|entry| entry.get_i32("refusals").ok()).collect();
    assert_eq!((in_state(&test, "unsendable").await, refusals.iter().sum::<i32>()), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_is_put_off_is_sent_twice_in_a_run_at_most() {
    for words in ["451 try again", "452 4.3.1 full", "421 closing"] {
        let test = expecting("mail_content_451", &["somebody@example.com"]).await;
        let contents = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&contents);
        let server = MailServer::start(move |step, _| {
            (step == Step::Content).then(|| counted.fetch_add(1, Ordering::Relaxed));
            (step == Step::Content).then_some(Fault::Say(words))
        })
        .await;
        let (code, summary) = run(&test, &server).await;
        assert_eq!((code, summary["error"].as_str()), (1, Some("mail_deferred")), "{words}: {summary}");
        assert_eq!((contents.load(Ordering::Relaxed), in_state(&test, "deferred").await), (2, 1), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_a_message_is_longer_than_998_octets() {
    let long = [("ascii", "a".repeat(3000)), ("accents", "é".repeat(3000)), ("quoted", "a\"b".repeat(1000))];
    for (name, word) in long {
        let odd = with(user("odd@example.com"), doc! { "first_name": &word, "last_name": "Exemple" });
        let mut recruiter = recruiter_of(&odd, &[&word]);
        recruiter.insert("establishment_raison_sociale", &word);
        let test = filled(&format!("mail_long_{name}"), &[odd], &[recruiter]).await;
        let server = MailServer::start(|_, _| None).await;
        let from = format!("{} <contact@example.com>", "b".repeat(1200));
        let (code, summary) = run_with(&test, &server, &[("STREAM_PROCESSOR__SMTP__FROM", &from)]).await;
        assert_eq!((code, counts(&summary)), (0, [1, 1, 0]), "{name}: {summary}");
        let message = &server.received()[0].message;
        let longest = message.split("\r\n").map(str::len).max().unwrap();
        assert!(longest <= 998, "{name}: {longest}");
        assert!(message.contains("<odd@example.com>") && message.contains("<contact@example.com>"), "{name}");
    }
}
