//! The jobs that put offers right, as commands without an instance: what they select to the millisecond, what they write
//! on both sides, that a dry run writes nothing and a second run finds nothing.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::ticking::{counts, date, later, ran, text, time, told};

/// Just before and at midnight in Paris, in summer and in winter; and two months from its day.
const MIDNIGHTS: [(&str, &str); 4] = [
    ("2026-06-14T21:59:59.999Z", "2026-08-13T22:00:00Z"),
    ("2026-06-14T22:00:00Z", "2026-08-14T22:00:00Z"),
    ("2026-12-14T22:59:59.999Z", "2027-02-13T23:00:00Z"),
    ("2026-12-14T23:00:00Z", "2027-02-14T23:00:00Z"),
];

/// A database with one recruiter, whose jobs have these fields, and their offers.
pub(crate) async fn filled(name: &str, jobs: impl IntoIterator<Item = Document>) -> (TestDatabase, Vec<ObjectId>) {
    let test = TestDatabase::create(name).await;
    let jobs: Vec<Document> = jobs.into_iter().map(|fields| with(job("Boulanger"), fields)).collect();
    let ids = jobs.iter().map(id).collect();
    test.collection("recruiters").insert_one(recruiter(jobs)).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    (test, ids)
}

/// An offer, and its job.
pub(crate) async fn pair(test: &TestDatabase, id: ObjectId) -> (Document, Document) {
    let offer = test.collection("jobs_partners").find_one(doc! { "_id": id }).await.unwrap().unwrap();
    let recruiter = test.collection("recruiters").find_one(doc! { "jobs._id": id }).await.unwrap().unwrap();
    let jobs = recruiter.get_array("jobs").unwrap();
    let job = jobs.iter().filter_map(Bson::as_document).find(|job| job.get_object_id("_id").ok() == Some(id));
    (offer, job.unwrap().clone())
}

/// Both collections agree: another backfill changes nothing.
pub(crate) async fn assert_settled(test: &TestDatabase) {
    let ended = Processor::command(&["backfill", "--json"], test, &[]).await;
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&told["created"], &told["changed"]), (&0.into(), &0.into()), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_cancelled_from_the_millisecond_after_its_expiration_on() {
    for (now, _) in MIDNIGHTS {
        let now = date(now);
        let expires = [-1, 0, 1].map(|offset| doc! { "job_expiration_date": later(now, offset) });
        let (test, ids) = filled("jobs_cancel", expires).await;
        let written = now.try_to_rfc3339_string().unwrap();
        let before = offers::read(&test.database).await;
        let rehearsed = ran("cancel-expired-offers", &["--now", &written, "--dry-run"], &test).await;
        assert_eq!((counts(&rehearsed), rehearsed["dry_run"].as_bool()), ([1, 1, 0], Some(true)));
        offers::assert_same(&before, &offers::read(&test.database).await);

        assert_eq!(counts(&ran("cancel-expired-offers", &["--now", &written], &test).await), [1, 1, 0]);
        let (offer, job) = pair(&test, ids[0]).await;
        let entry = doc! {
            "status": "Cancelled", "reason": "offre expirée", "date": now, "granted_by": "stream-processor",
        };
        assert_eq!(offer.get_array("offer_status_history").unwrap(), &[Bson::from(entry)]);
        assert_eq!((text(&offer, "offer_status"), time(&offer, "updated_at")), (Some("Cancelled"), Some(now)));
        assert_eq!((text(&job, "job_status"), time(&job, "job_update_date")), (Some("Annulée"), Some(now)));
        let updated = doc! { "updatedAt": now, "jobs.0._id": ids[0] };
        assert_eq!(test.collection("recruiters").count_documents(updated).await.unwrap(), 1);
        for id in &ids[1..] {
            let (offer, job) = pair(&test, *id).await;
            assert_eq!((text(&offer, "offer_status"), text(&job, "job_status")), (Some("Active"), Some("Active")));
        }
        assert_eq!(counts(&ran("cancel-expired-offers", &["--now", &written], &test).await), [0, 0, 0]);
        assert_settled(&test).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiration_is_capped_at_the_beginning_of_the_day_in_two_months() {
    for (now, latest) in MIDNIGHTS {
        let latest = date(latest);
        let expires = [0, 1, 1_000_000_000].map(|offset| doc! { "job_expiration_date": later(latest, offset) });
        let (test, ids) = filled("jobs_cap", expires).await;
        assert_eq!(counts(&ran("cap-offer-expirations", &["--now", now], &test).await), [2, 2, 0], "{now}");
        for id in ids {
            let (offer, job) = pair(&test, id).await;
            assert_eq!(time(&offer, "offer_expiration"), Some(latest), "{now}");
            assert_eq!(time(&job, "job_expiration_date"), Some(latest), "{now}");
        }
        assert_eq!(counts(&ran("cap-offer-expirations", &["--now", now], &test).await), [0, 0, 0]);
        assert_settled(&test).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_offer_without_a_start_begins_when_it_was_written() {
    let creation = date("2026-03-29T00:59:59.999Z");
    let jobs = [
        doc! { "job_creation_date": creation },
        doc! { "job_creation_date": null },
        doc! { "job_status": "Annulée" },
        doc! { "job_start_date": creation, "job_creation_date": DateTime::MIN },
    ];
    let (test, ids) = filled("jobs_start", jobs).await;
    assert_eq!(counts(&ran("fill-missing-start-dates", &["--dry-run"], &test).await), [2, 2, 0]);
    assert_eq!(counts(&ran("fill-missing-start-dates", &[], &test).await), [2, 2, 0]);
    let expected = [Some(creation), Some(ids[1].timestamp()), None, Some(creation)];
    for (id, expected) in ids.into_iter().zip(expected) {
        let (offer, job) = pair(&test, id).await;
        assert_eq!(time(&offer, "contract_start"), expected);
        assert_eq!(time(&job, "job_start_date"), expected);
    }
    assert_eq!(counts(&ran("fill-missing-start-dates", &[], &test).await), [0, 0, 0]);
    assert_settled(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_safe_is_repaired_on_both_sides_and_the_rest_is_told_by_id_and_field() {
    let delegations = |date: Bson| doc! { "delegations": [{ "siret_code": "1", "cfa_read_company_detail_at": date }] };
    let jobs = [
        doc! { "job_rythm": "1 jours / 4 jours" },
        doc! { "job_rythm": "" },
        delegations("2026-03-01T10:00:00Z".into()),
        doc! { "offer_title_custom": "Ab" },
        doc! { "job_type": ["CDI"], "job_rythm": "Non renseigné" },
        doc! {},
    ];
    let (test, ids) = filled("jobs_repair", jobs).await;
    // As an application may have written it: a projection makes dates of such texts by itself.
    let as_text = doc! { "$set": delegations("2026-03-01T10:00:00Z".into()) };
    test.collection("jobs_partners").update_one(doc! { "_id": ids[2] }, as_text).await.unwrap();
    let (code, mut lines) = told(&["jobs", "run", "repair-offer-data", "--json"], &test, &[]).await;
    let last = lines.pop().unwrap();
    assert_eq!((code, counts(&last)), (0, [5, 4, 0]), "{last}");
    assert_eq!(last["skipped"]["no_safe_repair"], 1);
    let broken: Vec<(&str, &serde_json::Value)> = lines
        .iter()
        .filter(|line| line["what"] == "broken")
        .map(|line| (line["id"].as_str().unwrap(), &line["fields"][0]))
        .collect();
    let (title, kind) = (ids[3].to_hex(), ids[4].to_hex());
    let expected = [(title.as_str(), &"offer_title".into()), (kind.as_str(), &"contract_type".into())];
    assert!(broken.len() == 2 && expected.iter().all(|line| broken.contains(line)), "{broken:?}");
    for (id, rythm) in [(ids[0], "1 jour / 4 jours"), (ids[1], "Indifférent"), (ids[4], "Indifférent")] {
        let (offer, job) = pair(&test, id).await;
        assert_eq!((text(&offer, "contract_rythm"), text(&job, "job_rythm")), (Some(rythm), Some(rythm)));
    }
    let (offer, job) = pair(&test, ids[2]).await;
    let repaired = delegations(date("2026-03-01T10:00:00Z").into());
    for document in [offer, job] {
        assert_eq!(document.get("delegations"), repaired.get("delegations"));
    }
    assert_eq!(counts(&ran("repair-offer-data", &[], &test).await)[1], 0);
    assert_settled(&test).await;
}

/// One that the server refuses costs the others nothing, and nothing of it is half done.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_the_server_refuses_to_change_costs_its_neighbours_nothing() {
    let now = date("2026-06-14T12:00:00Z");
    let expired = doc! { "job_expiration_date": later(now, -1) };
    let (test, ids) = filled("jobs_refused", [expired.clone(), expired.clone(), expired]).await;
    let validator = doc! { "$or": [{ "_id": { "$ne": ids[1] } }, { "offer_status": "Active" }] };
    test.database.run_command(doc! { "collMod": "jobs_partners", "validator": validator }).await.unwrap();
    let arguments = ["jobs", "run", "cancel-expired-offers", "--json", "--now", "2026-06-14T12:00:00Z"];
    let (code, lines) = told(&arguments, &test, &[]).await;
    let last = lines.last().unwrap();
    assert_eq!((code, counts(last)), (1, [3, 2, 1]), "{last}");
    let refused: Vec<&serde_json::Value> =
        lines.iter().filter(|line| line["what"] == "refused_by_validation").collect();
    assert_eq!((refused.len(), refused[0]["id"].as_str()), (1, Some(ids[1].to_hex().as_str())));
    let (offer, job) = pair(&test, ids[1]).await;
    assert_eq!((text(&offer, "offer_status"), text(&job, "job_status")), (Some("Active"), Some("Active")));
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_of_other_partners_are_left_alone_whatever_is_wrong_with_them() {
    let now = date("2026-06-14T12:00:00Z");
    let (test, _) = filled("jobs_partners_only", [doc! {}]).await;
    let foreign = doc! {
        "_id": ObjectId::new(), "partner_label": "another", "partner_job_id": "1", "offer_status": "Active",
        "offer_expiration": later(now, -1), "contract_start": null, "contract_rythm": "", "offer_title": "x",
        "apply_email": PERSONAL, "created_at": now,
    };
    let late =
        with(foreign.clone(), doc! { "_id": ObjectId::new(), "offer_expiration": later(now, 1_000_000_000_000) });
    test.collection("jobs_partners").insert_many([&foreign, &late]).await.unwrap();
    for job in ["cancel-expired-offers", "cap-offer-expirations", "fill-missing-start-dates", "repair-offer-data"] {
        ran(job, &["--now", "2026-06-14T12:00:00Z"], &test).await;
    }
    let all = offers::read(&test.database).await;
    for offer in [foreign, late] {
        assert_eq!(all[&id(&offer)], offer);
    }
}
