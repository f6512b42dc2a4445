//! Recruiters whose user exists nowhere (4.13): who is one, and what others do meanwhile.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use xtask::guarded::Signal;

use super::both_sides::enter;
use super::persons::{ANONYMISED, NOW, TWO_YEARS_BEFORE, count, user};
use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::platform::edit_job;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, settled, until_no_resync};
use crate::support::ticking::{counts, date, later, ran, text, time, told};
use crate::support::waiting::{PATIENCE, eventually};

const JOB: &str = "anonymize-inactive-users";

/// A recruiter of long ago with two jobs and this `managed_by`, whose every date is the last one of an untouched one.
fn untouched(managed_by: impl Into<Bson>) -> Document {
    let limit = date(TWO_YEARS_BEFORE);
    let dates = doc! { "job_creation_date": limit, "job_update_date": limit, "job_expiration_date": limit };
    let recruiter = recruiter(["Boulanger", "Vendeur"].map(|title| with(job(title), dates.clone())));
    let mut bytes = id(&recruiter).bytes();
    bytes[..4].copy_from_slice(&1_690_000_000_u32.to_be_bytes());
    let old =
        doc! { "_id": ObjectId::from_bytes(bytes), "managed_by": managed_by, "createdAt": limit, "updatedAt": limit };
    with(recruiter, old)
}

/// Of one whom nobody knows.
fn orphan() -> Document {
    untouched(ObjectId::new().to_hex())
}

async fn filled(name: &str, recruiters: &[Document]) -> TestDatabase {
    let test = TestDatabase::create(name).await;
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    test
}

fn jobs(recruiter: &Document) -> Vec<ObjectId> {
    recruiter.get_array("jobs").unwrap().iter().map(|job| id(job.as_document().unwrap())).collect()
}

/// The recruiter is there with its offers, or it is a copy and its offers show nobody.
async fn assert_is(test: &TestDatabase, recruiter: &Document, anonymised: bool, what: &str) {
    let one = doc! { "_id": id(recruiter) };
    let copy = test.collection("anonymized_recruiters").find_one(one.clone()).await.unwrap();
    let there = count(test, "recruiters", one).await;
    assert_eq!((there, copy.is_some()), (u64::from(!anonymised), anonymised), "{what}");
    for offer in jobs(recruiter) {
        let offer = test.collection("jobs_partners").find_one(doc! { "_id": offer }).await.unwrap().unwrap();
        assert_eq!(text(&offer, "offer_status") == Some("Cancelled"), anonymised, "{what}");
        assert_eq!(offer.to_string().contains(PERSONAL), !anonymised, "{what}");
        if anonymised {
            assert_eq!((text(&offer, "apply_email"), time(&offer, "updated_at")), (Some(ANONYMISED), Some(date(NOW))));
            let entry = doc! {
                "status": "Cancelled", "reason": "recruiter has been anonymized", "date": date(NOW),
                "granted_by": "stream-processor",
            };
            assert_eq!(offer.get_array("offer_status_history").unwrap(), &[Bson::from(entry)], "{what}");
        }
    }
    if let Some(copy) = copy {
        for contact in ["first_name", "last_name", "phone", "email", "managed_by"] {
            assert!(!copy.contains_key(contact), "{what}: {contact}");
        }
        assert_eq!(copy.get_array("jobs").unwrap().len(), 2, "{what}");
    }
}

/// Recruiters, and the users that there are.
struct Cast {
    gone: Vec<Document>,
    /// An orphan of which an application touched one offer alone.
    newer: Document,
    kept: Vec<Document>,
    /// Recruiters that name nobody.
    unnamed: Vec<Document>,
}

impl Cast {
    fn all(&self) -> Vec<Document> {
        [&self.gone[..], std::slice::from_ref(&self.newer), &self.kept, &self.unnamed].concat()
    }
}

/// A database with every kind of recruiter.
async fn with_cast(phase: &str) -> (TestDatabase, Cast) {
    let just_later = later(date(TWO_YEARS_BEFORE), 1);
    let [known, upper, named, copied] = [(); 4].map(|()| user(date(NOW)));
    let gone = vec![
        untouched(ObjectId::new().to_hex()),
        untouched(ObjectId::new()),
        untouched(ObjectId::new().to_hex().to_uppercase()),
        with(orphan(), doc! { "createdAt": null, "updatedAt": null }),
        untouched(id(&copied).to_hex()),
    ];
    let mut not_expired = orphan();
    let last = not_expired.get_array_mut("jobs").unwrap()[1].as_document_mut().unwrap();
    last.insert("job_expiration_date", just_later);
    let kept = vec![
        untouched(id(&known).to_hex()),
        untouched(id(&known)),
        untouched(id(&upper).to_hex().to_uppercase()),
        untouched(id(&named)),
        with(orphan(), doc! { "updatedAt": just_later }),
        not_expired,
        with(orphan(), doc! { "_id": ObjectId::new() }),
    ];
    let mut unnamed = vec![untouched(Bson::Null), untouched("n/a"), untouched("")];
    unnamed[0].remove("managed_by");
    let cast = Cast { gone, newer: orphan(), kept, unnamed };
    let test = filled("orphans", &cast.all()).await;
    enter(&test, phase).await;
    // The `_id` of a user as a text, too.
    let text_id = with(named.clone(), doc! { "_id": id(&named).to_hex().to_uppercase() });
    test.collection("userswithaccounts").insert_many([&known, &upper, &text_id]).await.unwrap();
    let copy = doc! { "_id": id(&copied), "origin": "lba" };
    test.collection("anonymized_userswithaccounts").insert_one(copy).await.unwrap();
    let touched = doc! { "$set": { "updated_at": just_later } };
    test.collection("jobs_partners").update_one(doc! { "_id": jobs(&cast.newer)[1] }, touched).await.unwrap();
    (test, cast)
}

#[tokio::test(flavor = "multi_thread")]
async fn untouched_recruiters_whose_user_exists_nowhere_are_anonymised_and_no_others() {
    for (phase, newer_goes) in [("sync", true), ("dual-write", false)] {
        let (test, cast) = with_cast(phase).await;
        let changed = cast.gone.len() as u64 + u64::from(newer_goes);
        let off = [("STREAM_PROCESSOR__TICKER__JOBS__ANONYMIZE_INACTIVE_USERS__ORPHANS", "false")];
        let (code, lines) = told(&["jobs", "run", JOB, "--json", "--now", NOW], &test, &off).await;
        assert_eq!((code, counts(&lines[0])), (0, [0, 0, 0]));
        let before = offers::read(&test.database).await;
        let rehearsed = ran(JOB, &["--now", NOW, "--dry-run"], &test).await;
        assert_eq!(counts(&rehearsed), [changed + 3, changed, 0], "{phase}: {rehearsed}");
        offers::assert_same(&before, &offers::read(&test.database).await);
        assert_eq!(count(&test, "recruiters", doc! {}).await, cast.all().len() as u64);

        let done = ran(JOB, &["--now", NOW], &test).await;
        assert_eq!(counts(&done), [changed + 3, changed, 0], "{phase}: {done}");
        assert_eq!((&done["changed_as"]["orphans"], &done["skipped"]["no_user_id"]), (&changed.into(), &3.into()));
        for (place, recruiter) in cast.gone.iter().enumerate() {
            assert_is(&test, recruiter, true, &format!("{phase}: orphan {place}")).await;
        }
        assert_is(&test, &cast.newer, newer_goes, &format!("{phase}: an offer is newer")).await;
        for (place, recruiter) in cast.kept.iter().chain(&cast.unnamed).enumerate() {
            assert_is(&test, recruiter, false, &format!("{phase}: kept {place}")).await;
        }
        let done = ran(JOB, &["--now", NOW], &test).await;
        assert_eq!(counts(&done), [3, 0, 0], "{phase}: a second run changes nothing");
        // The stream has nothing left to do.
        let before = offers::read(&test.database).await;
        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        offers::assert_same(&before, &offers::read(&test.database).await);
        assert!(!stopped(processor).await.stderr.contains(PERSONAL), "personal data in the log");
    }
}

/// The job belongs to two recruiters, and the other one is in use.
#[tokio::test(flavor = "multi_thread")]
async fn the_offer_of_a_job_that_another_recruiter_holds_stays() {
    let gone = orphan();
    let known = user(date(NOW));
    let shared = gone.get_array("jobs").unwrap()[0].clone();
    let mut other = recruiter([shared.as_document().unwrap().clone()]);
    other.extend(doc! { "managed_by": id(&known), "updatedAt": date(NOW) });
    let test = filled("orphans_shared", &[gone.clone(), other]).await;
    test.collection("userswithaccounts").insert_one(&known).await.unwrap();
    assert_eq!(counts(&ran(JOB, &["--now", NOW], &test).await), [1, 1, 0]);
    assert_eq!(statuses(&test, &gone).await, ["Active", "Cancelled"], "the job");
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert_eq!(statuses(&test, &gone).await, ["Active", "Cancelled"], "the stream");
    stopped(processor).await;
}

async fn statuses(test: &TestDatabase, recruiter: &Document) -> Vec<String> {
    let statuses = jobs(recruiter).into_iter().map(async |offer| {
        let offer = test.collection("jobs_partners").find_one(doc! { "_id": offer }).await.unwrap().unwrap();
        text(&offer, "offer_status").unwrap().to_owned()
    });
    futures::future::join_all(statuses).await
}

/// What another writer does between the job's reads and its commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_comes_back_and_a_recruiter_that_is_edited_meanwhile_lose_nothing() {
    for (point, edits) in [("orphan-found", false), ("orphan-found", true), ("orphan-written", false)] {
        let recruiter = orphan();
        let test = filled("orphans_back", std::slice::from_ref(&recruiter)).await;
        let stops = format!("{point}/1/STOP");
        let stops = [("STREAM_PROCESSOR_FAILPOINT", stops.as_str())];
        let mut run = Processor::spawn(&["jobs", "run", JOB, "--json", "--now", NOW], &test, &stops);
        eventually(PATIENCE, "it has looked", async || run.is_stopped().then_some(())).await;
        if edits {
            edit_job(&test, jobs(&recruiter)[0], doc! { "job_description": PERSONAL }, date(NOW)).await;
        } else {
            let back = ObjectId::parse_str(recruiter.get_str("managed_by").unwrap()).unwrap();
            let back = with(user(DateTime::now()), doc! { "_id": back, "last_action_date": date(NOW) });
            test.collection("userswithaccounts").insert_one(back).await.unwrap();
        }
        run.signal(Signal::Continue);
        let ended = run.until_ended().await;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_is(&test, &recruiter, false, &format!("{point} {edits}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_leaves_each_orphan_whole_or_anonymised_and_the_next_one_goes_on() {
    let recruiters = [orphan(), orphan(), orphan()];
    let test = filled("orphans_killed", &recruiters).await;
    for (point, gone) in [("orphan-written/1/KILL", 0), ("orphan-anonymized/1/KILL", 1)] {
        let kill = [("STREAM_PROCESSOR_FAILPOINT", point)];
        let killed = Processor::command(&["jobs", "run", JOB, "--now", NOW], &test, &kill).await;
        assert_eq!(killed.code, 137, "{point}: {}", killed.stderr);
        assert_eq!(count(&test, "recruiters", doc! {}).await, 3 - gone, "{point}");
        assert_eq!(count(&test, "anonymized_recruiters", doc! {}).await, gone, "{point}");
        let cancelled = doc! { "offer_status": "Cancelled", "apply_email": ANONYMISED };
        assert_eq!(count(&test, "jobs_partners", cancelled).await, 2 * gone, "{point}");
        end_lease(&test.database).await;
        // Nobody goes on with it.
        test.collection("stream_processor_commands").delete_many(doc! {}).await.unwrap();
    }
    assert_eq!(counts(&ran(JOB, &["--now", NOW], &test).await), [2, 2, 0]);
    for recruiter in &recruiters {
        assert_is(&test, recruiter, true, "in the end").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_the_server_refuses_fails_alone() {
    let refused = with(orphan(), doc! { "origin": "refused" });
    let other = orphan();
    let test = filled("orphans_refused", &[refused.clone(), other.clone()]).await;
    let validator = doc! { "origin": { "$ne": "refused" } };
    let create = doc! { "create": "anonymized_recruiters", "validator": validator };
    test.database.run_command(create).await.unwrap();
    let (code, lines) = told(&["jobs", "run", JOB, "--json", "--now", NOW], &test, &[]).await;
    assert_eq!((code, counts(lines.last().unwrap())), (1, [2, 1, 1]), "{lines:?}");
    assert!(lines.iter().any(|line| line["id"] == id(&refused).to_hex()), "{lines:?}");
    assert_is(&test, &refused, false, "refused").await;
    assert_is(&test, &other, true, "the other one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_shadow_on_orphans_are_left_to_the_team() {
    let recruiter = orphan();
    let test = filled("orphans_shadow", std::slice::from_ref(&recruiter)).await;
    enter(&test, "shadow").await;
    assert_eq!(counts(&ran(JOB, &["--now", NOW], &test).await), [0, 0, 0]);
    assert_is(&test, &recruiter, false, "shadow").await;
}
