//! A closing stands (spec 09, "A closing stands"): whatever is projected again, no offer that the
//! platform or its people closed is open again before its own job is changed.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::fields::{job_ids, text};
use crate::support::offers;
use crate::support::platform::{Closing, close, edit_job};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{checkpoint, put_back, settled, until_no_resync};

/// The jobs of each recruiter.
const JOBS: usize = 5;
const DAY: i64 = 86_400_000;
const DUAL_WRITE: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");

/// So many days after the last edit of the jobs. It is in the past, as every history is.
fn day(days: i64) -> DateTime {
    DateTime::from_millis(1_760_000_000_000 + days * DAY)
}

/// A recruiter with one job per way to close its offer, and one that stays open.
fn with_siblings() -> Document {
    let jobs = [("Expirée", 1), ("Limitée", 900), ("Pourvue", 900), ("Fermée", 900), ("Ouverte", 900)];
    let jobs = jobs.map(|(title, end)| {
        let dates = doc! { "job_creation_date": day(-9), "job_update_date": day(0), "job_expiration_date": day(end) };
        with(job(title), dates)
    });
    with(recruiter(jobs), doc! { "updatedAt": day(0) })
}

async fn statuses(test: &TestDatabase, recruiter: &Document) -> Vec<String> {
    let offers = offers::read(&test.database).await;
    job_ids(recruiter).iter().map(|job| text(&offers[job], "offer_status").to_owned()).collect()
}

fn closed() -> Vec<String> {
    Closing::ALL.iter().map(|closing| closing.status()).chain(["Active"]).map(ToOwned::to_owned).collect()
}

async fn command(test: &TestDatabase, arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let ended = Processor::command(arguments, test, settings).await;
    assert_eq!(ended.code, 0, "{arguments:?}\n{}\n{}", ended.stdout, ended.stderr);
    ended.stdout
}

async fn touch(test: &TestDatabase, recruiter: &Document, fields: Document) {
    let update = doc! { "$set": fields };
    test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, update).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_stands_in_every_path_and_ends_with_an_edit_of_its_own_job() {
    for settings in [&[][..], &[DUAL_WRITE][..]] {
        let test = TestDatabase::create("closing_paths").await;
        let began = DateTime::now().try_to_rfc3339_string().unwrap();
        let processor = started_with(&test, settings).await;
        let recruiter = with_siblings();
        let jobs = job_ids(&recruiter);
        test.collection("recruiters").insert_one(&recruiter).await.unwrap();
        settled(&test.database).await;
        let before = checkpoint(&test.database).await;
        for (offer, closing) in jobs.iter().zip(Closing::ALL) {
            close(&test, *offer, closing, day(2)).await;
        }
        let capped = offers::read(&test.database).await[&jobs[1]].clone();
        // Each edit of a sibling moves the date of the recruiter.
        edit_job(&test, jobs[4], doc! { "job_description": "plus longue" }, day(3)).await;
        touch(&test, &recruiter, doc! { "establishment_raison_sociale": "NOUVELLE RAISON" }).await;
        settled(&test.database).await;
        assert_eq!(statuses(&test, &recruiter).await, closed(), "the stream");
        assert_other_fields_are_projected(&test, &jobs, settings.is_empty()).await;
        let counted = processor.metric("stream_processor_conflicts_total{winner=\"closing\"}").await;
        assert!(counted >= Some(4.0), "{counted:?}");

        for job in ["full-sync", "sync-recruiter-status", "retry-dead-letters", "repair-offer-data"] {
            command(&test, &["jobs", "run", job], settings).await;
        }
        let foreseen = command(&test, &["backfill", "--dry-run", "--json"], settings).await;
        assert!(!foreseen.contains("offer_status"), "{foreseen}");
        let replayed = command(&test, &["replay", "--from", &began, "--dry-run", "--json"], settings).await;
        for foreseen in [foreseen, replayed] {
            let foreseen: Value = serde_json::from_str(&foreseen).unwrap();
            assert_eq!(foreseen["closed_elsewhere"], 4, "{foreseen:#}");
        }
        command(&test, &["replay", "--from", &began], settings).await;
        assert_eq!(statuses(&test, &recruiter).await, closed(), "jobs and a replay");
        stopped(processor).await;
        command(&test, &["backfill", "--json"], settings).await;
        put_back(&test.database, before).await;
        let processor = started_with(&test, settings).await;
        settled(&test.database).await;
        until_no_resync(&test.database).await;
        let report: Value = serde_json::from_str(&command(&test, &["verify", "--json"], settings).await).unwrap();
        assert_eq!(statuses(&test, &recruiter).await, closed(), "a backfill and the stream once more");
        assert_eq!(
            (&report["differences"], &report["closed_elsewhere"]["count"]),
            (&0.into(), &4.into()),
            "{report:#}"
        );
        if !settings.is_empty() {
            let stands = &offers::read(&test.database).await[&jobs[1]];
            assert_eq!(*stands, capped, "the platform moved its date, so in dual-write it stands whole");
        }

        assert_an_edit_opens(&test, &recruiter).await;
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_filled_stays_filled_when_the_recruiter_is_archived() {
    for settings in [&[][..], &[DUAL_WRITE][..]] {
        let test = TestDatabase::create("closing_archived").await;
        let processor = started_with(&test, settings).await;
        let recruiter = with_siblings();
        test.collection("recruiters").insert_one(&recruiter).await.unwrap();
        settled(&test.database).await;
        let filled = job_ids(&recruiter)[2];
        close(&test, filled, Closing::Provided, day(2)).await;
        touch(&test, &recruiter, doc! { "status": "Archivé", "updatedAt": day(3) }).await;
        settled(&test.database).await;
        let closed = ["Cancelled", "Cancelled", "Filled", "Cancelled", "Cancelled"];
        assert_eq!(statuses(&test, &recruiter).await, closed, "the stream, {settings:?}");
        for arguments in [&["jobs", "run", "sync-recruiter-status"][..], &["backfill"]] {
            command(&test, arguments, settings).await;
        }
        assert_eq!(statuses(&test, &recruiter).await, closed, "a job and a backfill, {settings:?}");
        command(&test, &["verify"], settings).await;
        edit_job(&test, filled, doc! { "job_status": "Annulée" }, day(4)).await;
        settled(&test.database).await;
        assert_eq!(statuses(&test, &recruiter).await[2], "Cancelled", "its own job was edited later");
        stopped(processor).await;
    }
}

async fn assert_other_fields_are_projected(test: &TestDatabase, jobs: &[ObjectId], in_sync: bool) {
    let offers = offers::read(&test.database).await;
    for (number, job) in jobs.iter().enumerate() {
        // The offer that was capped is newer than its job: in `dual-write` nothing of it is written.
        let is_newer = !in_sync && number == 1;
        let is_projected = text(&offers[job], "workplace_legal_name") == "NOUVELLE RAISON";
        assert_eq!(is_projected, !is_newer, "job {number}");
    }
    let capped = offers[&jobs[1]].get_datetime("updated_at").unwrap();
    assert_eq!(capped, &day(2), "the date of the closing stays");
}

/// The last change of the job itself decides.
async fn assert_an_edit_opens(test: &TestDatabase, recruiter: &Document) {
    for (number, job) in job_ids(recruiter).iter().take(4).enumerate() {
        edit_job(test, *job, doc! { "job_description": "encore là" }, day(5)).await;
        settled(&test.database).await;
        let mut expected = closed();
        expected[..=number].fill("Active".to_owned());
        assert_eq!(statuses(test, recruiter).await, expected);
    }
    for offer in offers::read(&test.database).await.values() {
        let history = offer.get_array("offer_status_history").unwrap();
        let last = history.last().and_then(Bson::as_document);
        assert!(last.is_none_or(|last| text(last, "granted_by") == "stream-processor"), "{history:?}");
        assert_eq!(offers::history_faults(id(offer), offer), [""; 0]);
    }
}

/// An expired job whose offer the platform has closed is closed too: the next touch would publish it again.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_job_that_is_active_behind_a_closed_offer_is_closed_too() {
    let test = TestDatabase::create("closing_behind").await;
    let recruiter = with_siblings();
    let jobs = job_ids(&recruiter);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let all = doc! { "$set": { "jobs.$[].job_expiration_date": day(1) } };
    test.collection("recruiters").update_many(doc! {}, all).await.unwrap();
    command(&test, &["backfill"], &[]).await;
    for (offer, closing) in jobs.iter().zip(Closing::ALL) {
        close(&test, *offer, closing, day(2)).await;
    }
    for _ in 0..2 {
        command(&test, &["jobs", "run", "cancel-expired-offers"], &[]).await;
        let recruiter = test.collection("recruiters").find_one(doc! {}).await.unwrap().unwrap();
        let of_job = recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document);
        let statuses: Vec<&str> = of_job.map(|job| text(job, "job_status")).collect();
        assert_eq!(statuses, ["Annulée", "Annulée", "Pourvue", "Annulée", "Annulée"]);
    }
    command(&test, &["backfill"], &[]).await;
    let mut expected = closed();
    expected[4] = "Cancelled".to_owned();
    assert_eq!(statuses(&test, &recruiter).await, expected);
}

/// The expiry closes what has ended. With a later end, it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_closing_for_expiry_ends_with_a_prolongation_and_no_other_one_does() {
    let test = TestDatabase::create("closing_expiry").await;
    let processor = started(&test).await;
    let recruiter = with_siblings();
    let jobs = job_ids(&recruiter);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    for (offer, closing) in jobs.iter().zip(Closing::ALL) {
        close(&test, *offer, closing, day(2)).await;
    }
    // A prolongation by a script: no date of the job moves but its end.
    let prolonged = doc! { "jobs.$[].job_expiration_date": day(901) };
    touch(&test, &recruiter, prolonged).await;
    settled(&test.database).await;
    let mut expected = closed();
    expected[0] = "Active".to_owned();
    assert_eq!(statuses(&test, &recruiter).await, expected);
    stopped(processor).await;
}

/// A writer that adds an entry and changes neither status nor date, between our comparison and our write.
#[tokio::test(flavor = "multi_thread")]
async fn a_closing_that_comes_between_the_comparison_and_the_write_stands() {
    let test = TestDatabase::create("closing_race").await;
    let recruiters: Vec<Document> = (0..30).map(|_| with_siblings()).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let jobs: Vec<ObjectId> = recruiters.iter().flat_map(job_ids).collect();
    for round in 1..=6_i64 {
        // Our own cancelling, so that the next touch reopens.
        for (status, at) in [("Annulée", 10 * round), ("Active", 10 * round + 1)] {
            let all = doc! { "$set": { "jobs.$[].job_status": status, "jobs.$[].job_update_date": day(at) } };
            test.collection("recruiters").update_many(doc! {}, all).await.unwrap();
        }
        for job in &jobs {
            close(&test, *job, Closing::Script, day(10 * round + 2)).await;
        }
        settled(&test.database).await;
        for (id, offer) in offers::read(&test.database).await {
            assert_eq!(text(&offer, "offer_status"), "Cancelled", "{id} in round {round}");
        }
    }
    stopped(processor).await;
}

/// What is known of one job: when it was last edited, and when the platform last closed its offer.
#[derive(Debug, Clone, Copy)]
struct Known {
    edited: i64,
    closed: Option<i64>,
}

/// The platform's writers, events, resyncs, backfills, replays and jobs in any order. Time is a counter, so that no two
/// changes have the same date.
#[tokio::test(flavor = "multi_thread")]
async fn in_any_order_no_closing_is_undone_without_a_later_change_of_its_job() {
    for seed in 0..4_u64 {
        let settings: &[(&str, &str)] = if seed % 2 == 0 { &[] } else { &[DUAL_WRITE] };
        let test = TestDatabase::create("closing_random").await;
        let began = DateTime::now().try_to_rfc3339_string().unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        let mut processor = started_with(&test, settings).await;
        let recruiters: Vec<Document> = (0..4).map(|_| with_siblings()).collect();
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        settled(&test.database).await;
        let jobs: Vec<ObjectId> = recruiters.iter().flat_map(job_ids).collect();
        let mut known = vec![Known { edited: 0, closed: None }; jobs.len()];
        for now in 2..140_i64 {
            let number = random.random_range(0..jobs.len());
            let recruiter = &recruiters[random.random_range(0..recruiters.len())];
            match random.random_range(0..100) {
                0..30 => {
                    let closing = Closing::ALL[random.random_range(0..Closing::ALL.len())];
                    // Only the first job of each recruiter has come to its end.
                    let is_over = number % JOBS == 0;
                    let closing = if closing == Closing::Expired && !is_over { Closing::Capped } else { closing };
                    close(&test, jobs[number], closing, day(now)).await;
                    known[number].closed = Some(now);
                }
                30..60 => {
                    let text = format!("{now}");
                    edit_job(&test, jobs[number], doc! { "job_description": text }, day(now)).await;
                    known[number].edited = now;
                }
                60..80 => touch(&test, recruiter, doc! { "opco": now.to_string(), "updatedAt": day(now) }).await,
                80..84 => {
                    touch(&test, recruiter, doc! { "status": "Archivé", "updatedAt": day(now) }).await;
                    settled(&test.database).await;
                    touch(&test, recruiter, doc! { "status": "Actif", "updatedAt": day(now) }).await;
                }
                84..87 => drop(command(&test, &["backfill"], settings).await),
                87..89 => drop(command(&test, &["replay", "--from", &began], settings).await),
                89..91 => {
                    let job = ["full-sync", "sync-recruiter-status"][random.random_range(0..2)];
                    command(&test, &["jobs", "run", job], settings).await;
                }
                91..93 => {
                    stopped(processor).await;
                    processor = started_with(&test, settings).await;
                }
                _ => {
                    settled(&test.database).await;
                    assert_no_closing_is_undone(&test, seed, &jobs, &known).await;
                }
            }
        }
        settled(&test.database).await;
        assert_no_closing_is_undone(&test, seed, &jobs, &known).await;
        command(&test, &["verify"], settings).await;
        stopped(processor).await;
    }
}

async fn assert_no_closing_is_undone(test: &TestDatabase, seed: u64, jobs: &[ObjectId], known: &[Known]) {
    let offers = offers::read(&test.database).await;
    for (job, known) in jobs.iter().zip(known) {
        let is_open = text(&offers[job], "offer_status") == "Active";
        let must_be_closed = known.closed.is_some_and(|closed| closed > known.edited);
        assert_eq!(
            is_open,
            !must_be_closed,
            "seed {seed}: {job} with {known:?}: {:?}",
            offers[job].get("offer_status_history")
        );
    }
}
