//! `remind-expiring-offers` (4.1): one e-mail per user about all their offers of the window, in every phase, once.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, filled, marked, outbox, recruiter_of, user};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::started_with;
use crate::support::ticking::{ON, Time, counts, date, later, text, told};
use crate::support::waiting::{PATIENCE, eventually};
use xtask::golden::TargetModel;

const J7: &str = "relance_mail_expiration_J7";
const J1: &str = "relance_mail_expiration_J1";
const DAY: i64 = 24 * 3_600_000;

fn run<'a>(job: &'a str, now: &'a str) -> [&'a str; 6] {
    ["jobs", "run", job, "--json", "--now", now]
}

fn settings(url: &str) -> [(&str, &str); 2] {
    [("SMTP_URL", url), ("STREAM_PROCESSOR__SMTP__RATE", "1000")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_gets_one_message_about_all_their_offers_of_the_window_and_both_sides_remember_it() {
    // Midnight in Paris, in summer and in winter.
    for now in ["2026-06-14T22:00:00Z", "2026-12-14T23:00:00Z"] {
        for (name, field, first) in [("remind-expiring-offers-j7", J7, 6 * DAY), ("remind-expiring-offers-j1", J1, 0)] {
            let somebody = user("somebody@example.com");
            let expiring = |offset: i64| {
                with(job(&format!("Offre {offset}")), doc! { "job_expiration_date": later(date(now), offset) })
            };
            let edges = [first - 1, first, first + DAY, first + DAY + 1];
            let of = |jobs: Vec<Document>| with(recruiter(jobs), doc! { "managed_by": id(&somebody).to_hex() });
            let reminded = with(expiring(first + 1), doc! { field: date(NOW) });
            let two = [of(edges.map(expiring).to_vec()), of(vec![expiring(first + 2), reminded])];
            let test = filled("reminders_window", from_ref(&somebody), &two).await;
            let server = MailServer::start(|_, _| None).await;
            let url = server.url();
            let dry_run = [&run(name, now)[..], &["--dry-run"]].concat();
            let (code, lines) = told(&dry_run, &test, &settings(&url)).await;
            assert_eq!((code, counts(lines.last().unwrap())), (0, [3, 3, 0]));
            assert_eq!((server.received().len(), marked(&test, field).await), (0, (1, 1)), "a dry run does nothing");
            assert!(outbox(&test).await.is_empty());

            let (code, lines) = told(&run(name, now), &test, &settings(&url)).await;
            assert_eq!((code, counts(lines.last().unwrap())), (0, [3, 3, 0]), "{name} {now}");
            let received = server.received();
            let [message] = received.as_slice() else { panic!("one message, not {}", received.len()) };
            assert_eq!(message.to, "somebody@example.com");
            // The first offer expires six days later, or in this moment, at midnight.
            let distance = if field == J7 { "dans 6 jours" } else { "aujourd'hui" };
            let subject = format!("Votre offre expire {distance}");
            assert_eq!(message.header("Subject"), Some(subject));
            assert_eq!(marked(&test, field).await, (4, 4));
            let (code, lines) = told(&run(name, now), &test, &settings(&url)).await;
            assert_eq!((code, counts(lines.last().unwrap()), server.received().len()), (0, [0, 0, 0], 1));
            crate::jobs::ticker::offer_jobs::assert_settled(&test).await;
        }
    }
}

/// The stream has not brought it yet, or the offer has a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_reminded_of_an_offer_whose_job_says_otherwise() {
    let somebody = user("somebody@example.com");
    let expiring = || with(job("Boulanger"), doc! { "job_expiration_date": later(date(NOW), 6 * DAY + 1_000) });
    let managed = with(recruiter([(); 3].map(|()| expiring())), doc! { "managed_by": id(&somebody).to_hex() });
    let archived = with(recruiter([expiring()]), doc! { "managed_by": id(&somebody).to_hex() });
    let test = filled("reminders_unsettled", from_ref(&somebody), &[managed.clone(), archived.clone()]).await;
    let change = async |recruiter: &Document, fields: Document| {
        let update = doc! { "$set": fields };
        test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, update).await.unwrap();
    };
    let old_server = doc! { "jobs.0.relance_mail_expiration_J7": date(NOW), "jobs.1.job_status": "Pourvue" };
    change(&managed, old_server).await;
    change(&archived, doc! { "status": "Archivé" }).await;
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    let (code, lines) = told(&run("remind-expiring-offers-j7", NOW), &test, &settings(&url)).await;
    let last = lines.last().unwrap();
    assert_eq!((code, counts(last), &last["skipped"]["not_settled"]), (0, [4, 1, 0], &3.into()), "{last}");
    assert_eq!((server.received().len(), marked(&test, J7).await), (1, (1, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_cannot_be_reminded_of_are_counted_and_left_alone_and_nothing_personal_is_told() {
    let (well, mute) = (user("well@example.com"), user("no address"));
    let stranger = doc! { "_id": ObjectId::new() };
    let mut recruiters: Vec<Document> =
        [&well, &mute, &stranger].map(|user| recruiter_of(user, &["Boulanger"])).to_vec();
    recruiters.push(with(recruiter_of(&well, &["Vendeur"]), doc! { "managed_by": "nobody" }));
    // Some live documents hold an ObjectId.
    recruiters.push(with(recruiter_of(&well, &["Cuisinier"]), doc! { "managed_by": id(&well) }));
    let test = filled("reminders_left", &[well, mute], &recruiters).await;
    let others = doc! { "partner_label": "other", "managed_by": "x", "offer_status": "Active", "partner_job_id": "1" };
    test.collection("jobs_partners").insert_one(others).await.unwrap();
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    let ended = Processor::command(&run("remind-expiring-offers-j7", NOW), &test, &settings(&url)).await;
    assert_eq!(ended.code, 0);
    let summary: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(counts(&summary), [5, 2, 0], "{summary}");
    assert_eq!(summary["skipped"], serde_json::json!({ "no_user": 2, "no_address": 1 }));
    assert_eq!(server.received().len(), 1);
    assert_eq!(marked(&test, J7).await, (2, 2));
    for told in [ended.stdout, ended.stderr] {
        assert!(!told.contains(PERSONAL) && !told.contains("@example"), "{told}");
    }
    let commands = test.collection("stream_processor_commands").find(doc! {}).await.unwrap();
    let commands: Vec<Document> = commands.try_collect().await.unwrap();
    let commands = format!("{commands:?}");
    assert!(!commands.contains("@example") && commands.contains("no_address"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_came_after_the_message_of_the_day_gets_its_own() {
    let somebody = user("somebody@example.com");
    let test = filled("reminders_later", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger"])]).await;
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    for (now, received) in [(NOW, 1), ("2026-06-14T10:00:00Z", 2), ("2026-06-15T10:00:00Z", 3)] {
        let (code, lines) = told(&run("remind-expiring-offers-j7", now), &test, &settings(&url)).await;
        assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]), "{now}");
        assert_eq!(server.received().len(), received, "{now}");
        // Out of sight of the run before, in sight of the next one.
        let expires = later(date(now), 7 * DAY + if received == 1 { 60_000 } else { 12 * 3_600_000 });
        let job = with(job("Vendeur"), doc! { "job_expiration_date": expires });
        let new = with(recruiter([job]), doc! { "managed_by": id(&somebody).to_hex() });
        test.collection("recruiters").insert_one(new).await.unwrap();
        assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    }
    let ids: Vec<String> = outbox(&test).await.iter().map(|entry| text(entry, "_id").unwrap().to_owned()).collect();
    let base = format!("remind-J7/{}", id(&somebody));
    assert_eq!(ids, ["2026-06-14", "2026-06-14/2", "2026-06-15"].map(|day| format!("{base}/{day}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_only_the_offers_remember_it() {
    let somebody = user("somebody@example.com");
    let test = filled("reminders_shadow", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger"])]).await;
    crate::jobs::ticker::both_sides::enter(&test, "shadow").await;
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    let (code, lines) = told(&run("remind-expiring-offers-j7", NOW), &test, &settings(&url)).await;
    assert_eq!((code, counts(lines.last().unwrap()), server.received().len()), (0, [1, 1, 0], 1));
    assert_eq!(marked(&test, J7).await, (1, 0));
    let left = offers::read(&test.database).await;
    assert!(left.values().all(|offer| offer.get(J1) == Some(&Bson::Null)));
}

/// By an instance, as its clock says; the metrics tell what became of each.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_sends_when_it_is_due_and_counts_what_became_of_each_message() {
    let users = ["well@example.com", "gone@example.com"].map(user);
    let recruiters = users.each_ref().map(|user| recruiter_of(user, &["Boulanger"]));
    let test = filled("reminders_instance", &users, &recruiters).await;
    let server = MailServer::start(|step, to| {
        (step == Step::Recipient && to.starts_with("gone")).then_some(Fault::Say("550 no such user"))
    })
    .await;
    let url = server.url();
    let clock = Time::at("2026-06-14T07:19:59Z");
    let processor = started_with(&test, &[&settings(&url)[..], &[ON, clock.variable()]].concat()).await;
    let metric =
        |outcome: &str| format!("stream_processor_emails_total{{outcome=\"{outcome}\",template=\"remind-J7\"}}");
    assert_eq!(processor.metric(&metric("sent")).await, Some(0.0), "there from the start");
    // The ledger begins with the instance.
    eventually(PATIENCE, "the ticker has begun", async || {
        let state = test.collection("stream_processor_state").find_one(doc! { "_id": "ticker" }).await.unwrap()?;
        state.get_document("through").ok()?.get_datetime("remind-expiring-offers-j7").ok().copied()
    })
    .await;
    clock.set(date(NOW));
    eventually(PATIENCE, "both are dealt with", async || {
        let told = (processor.metric(&metric("sent")).await, processor.metric(&metric("refused")).await);
        (told == (Some(1.0), Some(1.0))).then_some(())
    })
    .await;
    eventually(PATIENCE, "it is remembered", async || (marked(&test, J7).await == (1, 1)).then_some(())).await;
    assert_eq!(server.received().len(), 1);
}

/// What expires tomorrow has no other day.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_found_the_mail_server_down_is_made_again_within_the_day() {
    let somebody = user("somebody@example.com");
    let expiring = with(job("Boulanger"), doc! { "job_expiration_date": later(date(NOW), DAY / 2) });
    let of = with(recruiter([expiring]), doc! { "managed_by": id(&somebody).to_hex() });
    let test = filled("reminders_again", from_ref(&somebody), &[of]).await;
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let server = MailServer::start(move |step, _| {
        (step == Step::Greeting && is_down.load(Ordering::Relaxed)).then_some(Fault::Say("554 not today"))
    })
    .await;
    let url = server.url();
    let clock = Time::at("2026-06-14T07:24:59Z");
    let _processor = started_with(&test, &[&settings(&url)[..], &[ON, clock.variable()]].concat()).await;
    let runs = test.collection("stream_processor_job_runs");
    let of_job = async |state: &str| {
        let run = doc! { "job": "remind-expiring-offers-j1", "state": state };
        runs.find_one(run).await.unwrap()
    };
    eventually(PATIENCE, "the ticker has begun", async || {
        let state = test.collection("stream_processor_state").find_one(doc! { "_id": "ticker" }).await.unwrap()?;
        state.get_document("through").ok()?.get_datetime("remind-expiring-offers-j1").ok().copied()
    })
    .await;
    let due = date("2026-06-14T07:25:00Z");
    clock.set(due);
    let put_off = eventually(PATIENCE, "the run is put off", async || {
        of_job("due").await.filter(|run| text(run, "error") == Some("mail_server_refuses: 554 at greeting"))
    })
    .await;
    assert_eq!(put_off.get_datetime("put_off_until").unwrap(), &later(due, 15 * 60_000));
    down.store(false, Ordering::Relaxed);
    clock.set(later(due, 15 * 60_000));
    let ended = eventually(PATIENCE, "the run has ended", async || of_job("ended").await).await;
    assert_eq!((text(&ended, "outcome"), ended.get("attempts").and_then(Bson::as_i32)), (Some("done"), Some(2)));
    assert_eq!((server.received().len(), marked(&test, J1).await), (1, (1, 1)));
    let message_id = server.received()[0].header("Message-ID").unwrap();
    assert!(message_id.ends_with(".2026-06-14@example.com>"), "{message_id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_mark_cannot_be_stored_the_outbox_remembers_and_nobody_is_reminded_twice() {
    let somebody = user("somebody@example.com");
    let expires = doc! { "job_expiration_date": later(date(NOW), 7 * DAY) };
    let held = with(recruiter([with(job("Boulanger"), expires)]), doc! { "managed_by": id(&somebody).to_hex() });
    let test = filled("reminders_without_mark", from_ref(&somebody), from_ref(&held)).await;
    // From here on the offers have no place for the mark.
    let mut validator = xtask::golden::target_validator(TargetModel::Planned).unwrap();
    let schema = validator.get_document_mut("$jsonSchema").unwrap();
    schema.get_document_mut("properties").unwrap().remove(J7);
    let put = doc! { "collMod": "jobs_partners", "validator": validator, "validationAction": "error" };
    test.database.run_command(put).await.unwrap();
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    for (days, sent) in [(0, 1), (0, 1), (1, 1)] {
        let now = later(date(NOW), days * DAY).try_to_rfc3339_string().unwrap();
        let (code, lines) = told(&run("remind-expiring-offers-j7", &now), &test, &settings(&url)).await;
        assert_eq!((code, server.received().len()), (0, sent), "{lines:?}");
        // As if nothing but the outbox knew of it: an application may take the mark of the job away.
        let unmarked = doc! { "$set": { "jobs.$[].relance_mail_expiration_J7": Bson::Null } };
        test.collection("recruiters").update_many(doc! {}, unmarked).await.unwrap();
    }
    let offer = offers::read(&test.database).await.into_values().next().unwrap();
    assert!(!offer.contains_key(J7));

    let mut without_manager = xtask::golden::target_validator(TargetModel::Planned).unwrap();
    let schema = without_manager.get_document_mut("$jsonSchema").unwrap();
    schema.get_document_mut("properties").unwrap().remove("managed_by");
    let put = doc! { "collMod": "jobs_partners", "validator": without_manager, "validationAction": "error" };
    test.database.run_command(put).await.unwrap();
    let ended = Processor::command(&run("remind-expiring-offers-j7", NOW), &test, &settings(&url)).await;
    let said = ended.stdout + &ended.stderr;
    assert!(ended.code == 1 && said.contains("field managed_by is not in the target's schema"), "{said}");
}
