//! Where the jobs write in each phase (spec 04, "The table", column "ticker writes"), and that the change event which comes back
//! writes nothing.

use bson::{DateTime, Document, doc};

use super::offer_jobs::{filled, pair};
use crate::support::database::TestDatabase;
use crate::support::fields::job_ids;
use crate::support::platform::{Closing, close};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync, writes};
use crate::support::ticking::{counts, date, later, ran, text, told};
use crate::support::waiting::cluster_time_now;

const NOW: &str = "2026-06-14T12:00:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_writes_on_both_sides_comes_back_and_writes_nothing() {
    for phase in ["sync", "dual-write"] {
        let test = TestDatabase::create("jobs_echo").await;
        enter(&test, phase).await;
        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        let now = date(NOW);
        let jobs = [
            doc! { "job_expiration_date": later(now, -1), "job_start_date": now },
            doc! { "job_expiration_date": later(now, 9_000_000_000), "job_rythm": "" },
        ];
        let recruiters: Vec<Document> =
            (0..20).map(|_| recruiter(jobs.iter().map(|fields| with(job("Boulanger"), fields.clone())))).collect();
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        settled(&test.database).await;
        let begin = cluster_time_now(&test.database).await;
        for (job, changed) in [
            ("cancel-expired-offers", 20),
            ("cap-offer-expirations", 20),
            ("fill-missing-start-dates", 20),
            ("repair-offer-data", 20),
            ("sync-recruiter-status", 0),
        ] {
            assert_eq!(counts(&ran(job, &["--now", NOW], &test).await)[1], changed, "{phase} {job}");
        }
        settled(&test.database).await;
        let written: usize = writes(&test.database, "jobs_partners", begin).await.iter().map(operations).sum();
        assert_eq!(written, 80, "{phase}: each offer once per job that changed it, and never by the stream");
        stopped(processor).await;
    }
}

/// A job moves the dates of both sides. The offer stays the newer one, so what an application wrote to it stands.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_wrote_to_an_offer_stands_after_a_job_has_changed_it() {
    let test = TestDatabase::create("jobs_application").await;
    enter(&test, "dual-write").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let now = date(NOW);
    let jobs =
        [doc! { "job_expiration_date": later(now, -1) }, doc! { "job_expiration_date": later(now, 9_000_000_000) }];
    let jobs = jobs.map(|fields| with(with(job("Boulanger"), fields), doc! { "job_update_date": later(now, -9_000) }));
    let recruiter = recruiter(jobs);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    let edit = doc! { "offer_description": "par une application", "updated_at": later(now, -5_000) };
    test.collection("jobs_partners").update_many(doc! {}, doc! { "$set": edit }).await.unwrap();
    for job in ["cancel-expired-offers", "cap-offer-expirations"] {
        assert_eq!(counts(&ran(job, &["--now", NOW], &test).await)[1], 1, "{job}");
    }
    settled(&test.database).await;
    test.collection("recruiters").update_one(doc! {}, doc! { "$set": { "phone": "0102030405" } }).await.unwrap();
    settled(&test.database).await;
    for (place, status) in ["Cancelled", "Active"].into_iter().enumerate() {
        let (offer, _) = pair(&test, job_ids(&recruiter)[place]).await;
        let shown = (text(&offer, "offer_status"), text(&offer, "offer_description"));
        assert_eq!(shown, (Some(status), Some("par une application")));
    }
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}

/// The writes to `jobs_partners` of one entry of the oplog.
pub(crate) fn operations(entry: &Document) -> usize {
    let inner = entry.get_document("o").and_then(|o| o.get_array("applyOps"));
    let is_offer = |operation: &bson::Bson| {
        operation.as_document().is_some_and(|operation| operation.get_str("ns").unwrap().ends_with(".jobs_partners"))
    };
    inner.map_or(1, |inner| inner.iter().filter(|operation| is_offer(operation)).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_shadow_on_jobs_write_only_offers_and_leave_recruiters_to_the_mirror() {
    let now = date(NOW);
    for (phase, backup) in [("shadow", "false"), ("shadow", "true"), ("retired", "true")] {
        let (test, ids) = filled("jobs_shadow", [doc! { "job_expiration_date": later(now, -1) }]).await;
        enter(&test, phase).await;
        let settings = [("STREAM_PROCESSOR__PHASE__KEEP_RECRUITERS_BACKUP", backup)];
        let arguments = ["jobs", "run", "cancel-expired-offers", "--json", "--now", NOW];
        let (code, lines) = told(&arguments, &test, &settings).await;
        assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]));
        let (offer, job) = pair(&test, ids[0]).await;
        assert_eq!(text(&offer, "offer_status"), Some("Cancelled"));
        assert_eq!(text(&job, "job_status"), Some("Active"), "{phase} {backup}");
    }
}

/// The stream has not brought it yet: what the job would do rests on an offer that is about to change.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_whose_job_was_prolonged_meanwhile_is_not_cancelled() {
    let now = date(NOW);
    for (phase, offer_is_newer, cancelled) in
        [("sync", true, false), ("dual-write", false, false), ("dual-write", true, true)]
    {
        let (test, ids) = filled("jobs_prolonged", [doc! { "job_expiration_date": later(now, -1) }]).await;
        enter(&test, phase).await;
        let update_date = later(now, if offer_is_newer { -2_000 } else { 0 });
        let prolonged = doc! { "jobs.0.job_expiration_date": later(now, 1), "jobs.0.job_update_date": update_date };
        test.collection("recruiters").update_one(doc! {}, doc! { "$set": prolonged }).await.unwrap();
        let touched = doc! { "$set": { "updated_at": later(now, -1_000) } };
        test.collection("jobs_partners").update_one(doc! {}, touched).await.unwrap();
        let run = ran("cancel-expired-offers", &["--now", NOW], &test).await;
        assert_eq!(counts(&run), [1, u64::from(cancelled), 0], "{phase} {offer_is_newer}");
        assert_eq!(run["skipped"]["not_settled"].as_u64().is_some(), !cancelled);
        let (offer, job) = pair(&test, ids[0]).await;
        assert_eq!(text(&offer, "offer_status") == Some("Cancelled"), cancelled);
        assert_eq!(text(&job, "job_status") == Some("Annulée"), cancelled);
    }
}

/// The job expired long ago, was opened again without a later end, and the platform closed its offer a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_active_behind_an_offer_closed_since_the_last_run_is_cancelled_however_long_ago_it_expired() {
    let now = DateTime::now();
    let expired = doc! { "job_expiration_date": later(now, -40 * 24 * 3_600_000) };
    let (test, ids) = filled("jobs_expired_twice", [expired]).await;
    assert_eq!(counts(&ran("cancel-expired-offers", &[], &test).await), [1, 1, 0]);
    let opened = doc! { "jobs.0.job_status": "Active" };
    test.collection("recruiters").update_one(doc! {}, doc! { "$set": opened }).await.unwrap();
    close(&test, ids[0], Closing::Expired, later(now, 3_600_000)).await;
    assert_eq!(counts(&ran("cancel-expired-offers", &[], &test).await), [1, 1, 0]);
    assert_eq!(text(&pair(&test, ids[0]).await.1, "job_status"), Some("Annulée"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recruiter_s_status_reaches_the_offers_that_it_has_passed_by() {
    let (test, ids) = filled("jobs_status", [doc! {}, doc! { "job_status": "Pourvue" }]).await;
    test.collection("recruiters").update_one(doc! {}, doc! { "$set": { "status": "Archivé" } }).await.unwrap();
    let dry = ran("sync-recruiter-status", &["--dry-run"], &test).await;
    assert_eq!(counts(&dry), [2, 2, 0]);
    assert_eq!(counts(&ran("sync-recruiter-status", &[], &test).await), [2, 2, 0]);
    for id in &ids {
        let (offer, _) = pair(&test, *id).await;
        assert_eq!(
            (text(&offer, "recruiter_status"), text(&offer, "offer_status")),
            (Some("Archivé"), Some("Cancelled"))
        );
    }
    assert_eq!(counts(&ran("sync-recruiter-status", &[], &test).await), [0, 0, 0]);
    super::offer_jobs::assert_settled(&test).await;
    enter(&test, "shadow").await;
    let (code, lines) = told(&["jobs", "run", "sync-recruiter-status", "--json"], &test, &[]).await;
    assert_eq!((code, &lines.last().unwrap()["outcome"]), (1, &"skipped".into()));
}

/// An offer without a recruiter that holds its job: an application may have created it in `jobs_partners` alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_no_recruiter_holds_is_changed_all_the_same() {
    let now = date(NOW);
    let (test, _) = filled("jobs_alone", [doc! {}]).await;
    enter(&test, "dual-write").await;
    let alone = doc! {
        "_id": bson::oid::ObjectId::new(), "partner_label": "RECRUTEURS_LBA", "partner_job_id": "alone",
        "offer_status": "Active", "offer_expiration": later(now, -1), "updated_at": DateTime::MIN,
    };
    test.collection("jobs_partners").insert_one(&alone).await.unwrap();
    assert_eq!(counts(&ran("cancel-expired-offers", &["--now", NOW], &test).await), [1, 1, 0]);
    let found = test.collection("jobs_partners").find_one(doc! { "_id": id(&alone) }).await.unwrap().unwrap();
    assert_eq!(text(&found, "offer_status"), Some("Cancelled"));
}

/// Puts a database without an instance into a phase.
pub(crate) async fn enter(test: &TestDatabase, phase: &str) {
    let step = doc! { "$set": { "phase": phase, "since": DateTime::MIN }, "$inc": { "revision": 1_i64 } };
    let state = test.collection("stream_processor_state");
    state.update_one(doc! { "_id": "phase" }, step).upsert(true).await.unwrap();
    let shown = Processor::command(&["phase", "show", "--json"], test, &[]).await;
    assert!(shown.stdout.contains(phase), "{}", shown.stderr);
}
