//! Nobody waits behind an address that takes nothing: a run is not ended by one domain, and whoever was put off last time
//! comes last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bson::{Document, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, expecting, filled, marked, recruiter_of, user};
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::ticking::{counts, date, later, told};

const FIELD: &str = "relance_mail_expiration_J7";
const RUN: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];

/// One message at a time, so that the order is known.
async fn run_of(arguments: &[&str], test: &TestDatabase, server: &MailServer) -> (i32, Value) {
    run_with(arguments, test, server, "1").await
}

async fn run_with(arguments: &[&str], test: &TestDatabase, server: &MailServer, connections: &str) -> (i32, Value) {
    let url = server.url();
    let at_a_time = ("STREAM_PROCESSOR__SMTP__CONNECTIONS", connections);
    let settings = [("SMTP_URL", url.as_str()), at_a_time, ("STREAM_PROCESSOR__SMTP__RATE", "1000")];
    let (code, mut lines) = told(arguments, test, &settings).await;
    (code, lines.pop().unwrap())
}

async fn run(test: &TestDatabase, server: &MailServer) -> (i32, Value) {
    run_of(&RUN, test, server).await
}

/// A server that puts off whoever is `full` at this step, and remembers whom it was asked about.
async fn with_full(step: Step, asked: &Arc<Mutex<Vec<String>>>) -> MailServer {
    let asked = Arc::clone(asked);
    MailServer::start(move |at, to| {
        if at != step {
            return None;
        }
        asked.lock().unwrap().push(to.to_owned());
        to.starts_with("full").then_some(Fault::Say("452 4.2.2 mailbox full"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_addresses_of_one_domain_that_are_put_off_keep_nobody_else_from_being_mailed() {
    let full = (0..16).map(|number| format!("full-{number}@slow.example"));
    let well =
        (0..60).map(|number| format!("well-{number}@{}", if number % 2 == 0 { "slow.example" } else { "example.com" }));
    let addresses: Vec<String> = full.chain(well).collect();
    let test = expecting("mail_line_domain", &addresses.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let asked = Arc::default();
    let server = with_full(Step::Recipient, &asked).await;
    // Each of the first three is asked for a quarter of a minute.
    let (code, summary) = run_with(&RUN, &test, &server, "16").await;
    assert_eq!((code, counts(&summary), summary["error"].as_str()), (1, [76, 60, 16], Some("mail_deferred")));
    assert_eq!((server.received().len(), marked(&test, FIELD).await), (60, (60, 60)));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_were_put_off_last_night_come_last_tonight() {
    // Their ids are in this order.
    let addresses: Vec<String> = (0..16).map(|number| format!("full@{number}.example")).collect();
    let more: Vec<String> = (0..60).map(|number| format!("well-{number}@example.com")).collect();
    let all: Vec<&str> = addresses.iter().chain(&more).map(String::as_str).collect();
    let test = expecting("mail_line_nights", &all).await;
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = with_full(Step::Content, &asked).await;
    let (code, summary) = run(&test, &server).await;
    let error = "mail_server_refuses: 452 4.2.2 at content";
    assert_eq!((code, summary["error"].as_str()), (1, Some(error)), "ten domains in a row: {summary}");
    asked.lock().unwrap().clear();

    // Another day, and other offers of the same users.
    let tomorrow = "2026-06-15T07:20:00Z";
    let expires = later(date(tomorrow), (6 * 24 + 12) * 3_600_000);
    let recruiters = test.collection("recruiters");
    let users: Vec<Document> = futures::TryStreamExt::try_collect(
        test.collection("userswithaccounts").find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap(),
    )
    .await
    .unwrap();
    let new = |user: &Document| {
        let job = with(job("Vendeur"), doc! { "job_expiration_date": expires });
        with(recruiter([job]), doc! { "managed_by": id(user).to_hex() })
    };
    recruiters.insert_many(users.iter().map(new)).await.unwrap();
    assert_eq!(crate::support::processor::Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let (_, summary) = run_of(&[&RUN[..5], &[tomorrow]].concat(), &test, &server).await;
    let sent = server.received().iter().filter(|one| one.to.starts_with("well")).count();
    assert!(sent >= 60, "{sent} {summary}");
    let asked = asked.lock().unwrap();
    let first_full = asked.iter().position(|to| to.starts_with("full@0."));
    let last_well = asked.iter().rposition(|to| to.starts_with("well"));
    assert!(first_full.is_none() || first_full > last_well, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn among_those_who_were_put_off_whoever_was_tried_longest_ago_comes_first() {
    let addresses: Vec<String> = (0..24).map(|number| format!("full@{number:02}.example")).collect();
    let test = expecting("mail_line_turns", &addresses.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = with_full(Step::Content, &asked).await;
    for _ in 0..3 {
        run(&test, &server).await;
    }
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for address in asked.lock().unwrap().iter() {
        *times.entry(address.clone()).or_default() += 1;
    }
    assert_eq!(times.len(), 24, "everybody had a turn: {times:?}");
}

/// A connection that ends whenever one address is named says nothing of the server.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_at_which_the_server_hangs_up_does_not_end_the_run() {
    let users = ["bad@example.com", "well@example.com"].map(user);
    let recruiters = users.each_ref().map(|user| recruiter_of(user, &["Boulanger"]));
    let test = filled("mail_line_cut", &users, &recruiters).await;
    let server =
        MailServer::start(|step, to| (step == Step::Recipient && to.starts_with("bad")).then_some(Fault::Cut)).await;
    let (code, summary) = run(&test, &server).await;
    assert_eq!((code, counts(&summary), summary["error"].as_str()), (1, [2, 1, 1], Some("mail_deferred")), "{summary}");
}

/// An address that was put off for one offer is not asked about its other ones in the same run, nor first in the next.
#[tokio::test(flavor = "multi_thread")]
async fn introductions_to_those_who_were_put_off_come_last_too() {
    let now = "2026-06-14T23:55:00Z";
    let users: Vec<Document> = (0..12).map(|number| user(&format!("full@{number}.example"))).collect();
    let well = user("well@example.com");
    let aged = |title: &str| with(job(title), doc! { "job_creation_date": later(date(now), -10 * 24 * 3_600_000) });
    let of = |user: &Document| {
        with(recruiter([aged("Boulanger"), aged("Vendeur")]), doc! { "managed_by": id(user).to_hex() })
    };
    let recruiters: Vec<Document> = users.iter().chain([&well]).map(of).collect();
    let users: Vec<Document> = users.into_iter().chain([well]).collect();
    let test = filled("mail_line_introductions", &users, &recruiters).await;
    let course = doc! {
        "rome_codes": ["D1102", "D1104"],
        "lieu_formation_geopoint": { "type": "Point", "coordinates": [2.35, 48.85] },
        "etablissement_formateur_courriel": "cfa@example.com",
        "certifie_qualite": true,
    };
    test.collection("formationcatalogues").insert_one(course).await.unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = with_full(Step::Content, &asked).await;
    let introduce = ["jobs", "run", "send-introductions", "--json", "--now", now];
    run_of(&introduce, &test, &server).await;
    asked.lock().unwrap().clear();
    run_of(&introduce, &test, &server).await;
    assert_eq!(server.received().len(), 2, "both offers of the one whose server takes messages");
    assert_eq!(marked(&test, "mer_sent").await, (2, 2));
}
