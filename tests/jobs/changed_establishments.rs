//! What `refresh-pending-establishments` (4.6) changes, beside other writers and in each phase; the directory's answers are
//! the subject of `company_directory`.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use serde_json::json;

use super::company_directory::{
    JOB, NOW, PENDING, PENDING_BY_NAME, found, is_geocoding, pending, run, run_with, services, settings, siret,
    with_status,
};
use super::ticker::both_sides::{enter, operations};
use super::ticker::offer_jobs::{assert_settled, pair};
use crate::support::database::TestDatabase;
use crate::support::platform::{Closing, close};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, with};
use crate::support::runs::stopped;
use crate::support::state::{settled, until_no_resync, writes};
use crate::support::ticking::{counts, date, ran, text, time};
use crate::support::waiting::cluster_time_now;

/// The statuses of the jobs. The offer of the fifth job is closed by the platform, and the last job is another
/// recruiter's.
const STATUSES: [&str; 6] = ["Active", "Pourvue", "Annulée", "En attente", "Active", "Statut inconnu"];

/// The platform goes on beside the job: it closes an offer.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_job_writes_is_what_the_changed_recruiter_projects_to() {
    for (phase, spelling) in [("sync", PENDING), ("dual-write", PENDING_BY_NAME)] {
        let test = TestDatabase::create("directory_echo").await;
        enter(&test, phase).await;
        let server = services(|asked, _| found(if siret(asked).starts_with('2') { "F" } else { "A" })).await;
        let settings = settings(&server);
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let processor = Processor::start_ready(&test, &settings).await;
        until_no_resync(&test.database).await;
        let jobs = STATUSES.map(|status| with(job("Boulanger"), doc! { "job_status": status }));
        let ids = jobs.clone().map(|job| id(&job));
        let [of_first @ .., unknown] = jobs;
        // A recruiter that was changed in between; an old document, whose town stands outside of the address.
        let changed = doc! { "status": spelling, "updatedAt": DateTime::from_millis(1_750_000_000_000) };
        let old = with(changed.clone(), doc! { "establishment_location": "Villeurbanne" });
        let refused = [job("Vendeur"), with(job("Vendeur"), doc! { "job_status": "Annulée" })];
        let recruiters = [
            pending("11111111111111", of_first, old),
            pending("22222222222222", refused, changed.clone()),
            pending("33333333333333", [unknown], changed),
        ];
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        settled(&test.database).await;
        close(&test, ids[4], Closing::Provided, date("2026-06-01T12:00:00Z")).await;
        let begin = cluster_time_now(&test.database).await;
        let done = ran(JOB, &["--now", NOW], &test).await;
        assert_eq!(counts(&done), [8, 7, 0], "{phase}: {done}");
        assert_eq!(done["skipped"], json!({ "unknown_job_status": 1 }), "{phase}");
        settled(&test.database).await;

        let written: usize = writes(&test.database, "jobs_partners", begin).await.iter().map(operations).sum();
        assert_eq!(written, 7, "{phase}: each offer once, by the job, and never by the stream");
        let verified = Processor::command(&["verify"], &test, &[]).await;
        assert_eq!(verified.code, 0, "{phase}: {}", verified.stdout);
        assert_first(&test, id(&recruiters[0]), &ids[..5]).await;
        let (offer, _) = pair(&test, ids[5]).await;
        let statuses = (text(&offer, "recruiter_status"), text(&offer, "offer_status"));
        assert_eq!(statuses, (Some(spelling), Some("Cancelled")), "{phase}");
        stopped(processor).await;
    }
}

/// The establishment that is active: its offers, and the recruiter.
async fn assert_first(test: &TestDatabase, recruiter: ObjectId, offers: &[ObjectId]) {
    for (offer, status) in offers.iter().zip(["Active", "Filled", "Cancelled", "Cancelled", "Filled"]) {
        let (offer, _) = pair(test, *offer).await;
        assert_eq!(text(&offer, "offer_status"), Some(status));
        assert_verified(&offer);
    }
    let recruiter = test.collection("recruiters").find_one(doc! { "_id": recruiter }).await.unwrap().unwrap();
    assert_eq!(time(&recruiter, "updatedAt"), Some(date(NOW)));
    assert_eq!(time(&recruiter, "establishment_creation_date"), Some(date("2010-01-01T00:00:00Z")));
    assert_eq!(text(&recruiter, "geo_coordinates"), Some("45.76,4.83"));
    let jobs = recruiter.get_array("jobs").unwrap().iter().map(|job| text(job.as_document().unwrap(), "job_status"));
    assert_eq!(jobs.map(Option::unwrap).collect::<Vec<_>>(), STATUSES[..5], "no job changes its status");
}

/// All that the directory and the geocoding service know, in an offer.
fn assert_verified(offer: &Document) {
    for (field, value) in [
        ("recruiter_status", "Actif"),
        ("workplace_legal_name", "EXEMPLE SAS"),
        ("workplace_address_label", "7 RUE DES ESSAIS 69001 LYON"),
        ("workplace_address_zipcode", "69001"),
        ("workplace_address_city", "LYON"),
        ("workplace_naf_code", "10.71C"),
        ("workplace_naf_label", "Boulangerie et boulangerie-pâtisserie"),
        ("workplace_size", "20-49"),
    ] {
        assert_eq!(text(offer, field), Some(value), "{field}");
    }
    let point = doc! { "type": "Point", "coordinates": [4.83, 45.76] };
    assert_eq!(offer.get_document("workplace_geopoint").unwrap(), &point);
}

/// From `shadow` on, offers alone are written.
#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_a_job_that_is_known_not_to_be_active_is_not_opened() {
    let test = TestDatabase::create("directory_shadow").await;
    let jobs =
        ["Active", "En attente", "Statut inconnu"].map(|status| with(job("Boulanger"), doc! { "job_status": status }));
    let ids: Vec<ObjectId> = jobs.iter().map(id).collect();
    test.collection("recruiters").insert_one(pending("11111111111111", jobs, doc! {})).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    enter(&test, "shadow").await;
    let server = services(|_, _| found("A")).await;
    let (code, done) = run(&test, &server, &[]).await;
    assert_eq!((code, counts(&done)), (0, [3, 3, 0]), "{done}");
    for (offer, status) in ids.into_iter().zip(["Active", "Cancelled", "Cancelled"]) {
        let (offer, _) = pair(&test, offer).await;
        assert_eq!(text(&offer, "offer_status"), Some(status));
        assert_verified(&offer);
    }
    assert_eq!(with_status(&test, PENDING).await, (1, 0), "`recruiters` is not written");
}

/// The point that stands counts while the address is the same.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_geocoding_service_an_establishment_waits_unless_its_point_is_known() {
    let test = TestDatabase::create("directory_points").await;
    let same = doc! { "address": "7 RUE DES ESSAIS 69001 LYON" };
    let recruiters =
        [pending("11111111111111", [job("Boulanger")], same), pending("22222222222222", [job("Boulanger")], doc! {})];
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let server = services(|_, _| found("A")).await;
    let off = ("STREAM_PROCESSOR__DIRECTORY__GEOCODING_URL", "");
    let (code, done) = run_with(&test, &server, &[], &[off]).await;
    assert_eq!((code, counts(&done), &done["skipped"]), (0, [2, 1, 0], &json!({ "no_geopoint": 1 })), "{done}");
    assert!(!server.asked().iter().any(is_geocoding));
    assert_settled(&test).await;
    // A service that knows the address has the last word.
    let (code, done) = run(&test, &server, &[]).await;
    assert_eq!((code, counts(&done)), (0, [1, 1, 0]), "{done}");
    assert_settled(&test).await;
}
