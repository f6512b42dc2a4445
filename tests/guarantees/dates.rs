//! The date of an offer (spec 09, "Dates"): whatever changes its status moves it, and an edit of one job leaves the offers
//! of the other jobs alone.

use bson::{DateTime, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::{job_ids, text};
use crate::support::offers;
use crate::support::platform::{Closing, close, edit_job};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};

const DUAL_WRITE: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");

fn day(days: i64) -> DateTime {
    DateTime::from_millis(1_760_000_000_000 + days * 86_400_000)
}

async fn set(test: &TestDatabase, recruiter: &Document, fields: Document) {
    let update = doc! { "$set": fields };
    test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, update).await.unwrap();
    settled(&test.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_archiving_closes_at_once_and_an_edit_leaves_the_siblings_alone() {
    let test = TestDatabase::create("dates_dual_write").await;
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    let jobs = ["Boulanger", "Vendeur"].map(|title| with(job(title), doc! { "job_update_date": day(0) }));
    let recruiter = with(recruiter(jobs), doc! { "updatedAt": day(0) });
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    let [edited, sibling] = job_ids(&recruiter)[..] else { panic!("two jobs") };

    let by_application = doc! { "$set": { "offer_title": "par une application", "updated_at": day(1) } };
    test.collection("jobs_partners").update_one(doc! { "_id": sibling }, by_application).await.unwrap();
    let before = offers::read(&test.database).await;
    edit_job(&test, edited, doc! { "job_description": "plus longue" }, day(2)).await;
    settled(&test.database).await;
    let after = offers::read(&test.database).await;
    assert_eq!(after[&sibling], before[&sibling], "not rewritten, and not newer");
    assert_eq!(after[&edited].get_datetime("updated_at").unwrap(), &day(2));

    set(&test, &recruiter, doc! { "status": "Archivé", "updatedAt": day(3) }).await;
    for (id, offer) in offers::read(&test.database).await {
        let shown = (text(&offer, "offer_status"), offer.get_datetime("updated_at").unwrap());
        assert_eq!(shown, ("Cancelled", &day(3)), "{id}");
    }
    // Only the recruiter's own date is later than the jobs now, and that one does not count for an active recruiter.
    set(&test, &recruiter, doc! { "status": "Actif", "updatedAt": day(4) }).await;
    for (id, offer) in offers::read(&test.database).await {
        assert_eq!(text(&offer, "offer_status"), "Active", "{id}");
        assert!(offer.get_datetime("updated_at").unwrap() >= &day(3), "{id}: the date went back");
    }
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);

    // The same with jobs that are cancelled meanwhile: the status stays, and so does the date.
    set(&test, &recruiter, doc! { "status": "Archivé", "updatedAt": day(5) }).await;
    set(&test, &recruiter, doc! { "jobs.$[].job_status": "Annulée" }).await;
    set(&test, &recruiter, doc! { "status": "Actif", "updatedAt": day(6), "opco": "OPCO" }).await;
    for (id, offer) in offers::read(&test.database).await {
        let shown = (text(&offer, "offer_status"), offer.get_datetime("updated_at").unwrap());
        assert_eq!((shown, text(&offer, "workplace_opco")), (("Cancelled", &day(5)), "OPCO"), "{id}");
    }
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cancellation_of_a_removed_job_moves_the_date_once() {
    let test = TestDatabase::create("dates_removed").await;
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    let removed = with(job("Boulanger"), doc! { "job_update_date": day(0) });
    let recruiter = with(recruiter([removed, job("Vendeur")]), doc! { "updatedAt": day(0) });
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    let offer = job_ids(&recruiter)[0];
    let without = doc! { "$pop": { "jobs": -1 }, "$set": { "updatedAt": day(5) } };
    test.collection("recruiters").update_one(doc! { "_id": id(&recruiter) }, without).await.unwrap();
    settled(&test.database).await;
    let cancelled = offers::read(&test.database).await.remove(&offer).unwrap();
    let shown = (text(&cancelled, "offer_status"), cancelled.get_datetime("updated_at").unwrap());
    assert_eq!(shown, ("Cancelled", &day(5)));
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    assert_eq!(offers::read(&test.database).await.remove(&offer), Some(cancelled), "a repetition writes nothing");
    stopped(processor).await;
}

/// An edit of a sibling moves the date of every offer of an archived recruiter. That date is ours.
#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_what_happened_to_a_job_while_its_recruiter_was_archived_shows_when_it_is_active_again() {
    let test = TestDatabase::create("dates_archived").await;
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    let jobs = ["Boulanger", "Vendeur", "Pâtissier", "Cuisinier"];
    let jobs = jobs.map(|title| with(job(title), doc! { "job_update_date": day(0) }));
    let recruiter = with(recruiter(jobs), doc! { "updatedAt": day(0) });
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    let [filled, capped, provided, sibling] = job_ids(&recruiter)[..] else { panic!("four jobs") };
    edit_job(&test, filled, doc! { "job_status": "Pourvue" }, day(1)).await;
    close(&test, capped, Closing::Capped, day(1)).await;
    close(&test, provided, Closing::Provided, day(1)).await;
    set(&test, &recruiter, doc! { "status": "Archivé", "updatedAt": day(2) }).await;
    edit_job(&test, capped, doc! { "job_description": "plus longue" }, day(3)).await;
    settled(&test.database).await;
    edit_job(&test, sibling, doc! { "job_description": "plus courte" }, day(4)).await;
    settled(&test.database).await;
    set(&test, &recruiter, doc! { "status": "Actif", "updatedAt": day(5) }).await;
    let offers = offers::read(&test.database).await;
    for (offer, status) in [(filled, "Filled"), (capped, "Active"), (provided, "Filled"), (sibling, "Active")] {
        assert_eq!(text(&offers[&offer], "offer_status"), status, "{offer}");
    }
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}

/// A recruiter waits for its validation when it is created. The date of its offers is its own, later than that of the jobs.
#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_a_validated_recruiter_s_offers_open_and_follow_it_from_then_on() {
    let test = TestDatabase::create("dates_validated").await;
    let waiting = || {
        let job = with(job("Boulanger"), doc! { "job_update_date": day(0) });
        with(recruiter([job]), doc! { "status": "En attente de validation", "updatedAt": day(1) })
    };
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    let before = waiting();
    test.collection("recruiters").insert_one(&before).await.unwrap();
    settled(&test.database).await;
    let stepped = Processor::command(&["phase", "set", "dual-write"], &test, &[]).await;
    assert_eq!(stepped.code, 0, "{}", stepped.stderr);
    let (after, edited) = (waiting(), waiting());
    test.collection("recruiters").insert_many([&after, &edited]).await.unwrap();
    settled(&test.database).await;
    let by_application = doc! { "$set": { "offer_title": "par une application", "updated_at": day(2) } };
    let edited_offer = doc! { "_id": job_ids(&edited)[0] };
    test.collection("jobs_partners").update_one(edited_offer, by_application).await.unwrap();

    let shown = async |recruiter: &Document| {
        let offer = offers::read(&test.database).await.remove(&job_ids(recruiter)[0]).unwrap();
        (
            text(&offer, "offer_status").to_owned(),
            *offer.get_datetime("updated_at").unwrap(),
            text(&offer, "apply_email").to_owned(),
        )
    };
    for recruiter in [&before, &after] {
        let email = shown(recruiter).await.2;
        assert_eq!(shown(recruiter).await, ("Cancelled".to_owned(), day(1), email.clone()));
        set(&test, recruiter, doc! { "status": "Actif", "updatedAt": day(3) }).await;
        assert_eq!(shown(recruiter).await, ("Active".to_owned(), day(3), email.clone()));
        set(&test, recruiter, doc! { "email": "a@example.com", "updatedAt": day(4) }).await;
        assert_eq!(shown(recruiter).await.2, "a@example.com");
        // The same once more, after an archiving.
        set(&test, recruiter, doc! { "status": "Archivé", "updatedAt": day(5) }).await;
        set(&test, recruiter, doc! { "status": "Actif", "updatedAt": day(6) }).await;
        assert_eq!(shown(recruiter).await, ("Active".to_owned(), day(6), "a@example.com".to_owned()));
        set(&test, recruiter, doc! { "email": "b@example.com", "updatedAt": day(7) }).await;
        assert_eq!(shown(recruiter).await.2, "b@example.com");
    }
    set(&test, &edited, doc! { "status": "Actif", "updatedAt": day(3) }).await;
    let offer = offers::read(&test.database).await.remove(&job_ids(&edited)[0]).unwrap();
    assert_eq!(text(&offer, "offer_title"), "par une application", "another writer made the offer newer");
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}

/// No writer of the platform closes an offer so. In `dual-write` the newest wins all the same.
#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_an_offer_that_was_closed_without_an_entry_stays_closed_when_a_sibling_is_edited() {
    let test = TestDatabase::create("dates_no_entry").await;
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    let jobs = ["Boulanger", "Vendeur"].map(|title| with(job(title), doc! { "job_update_date": day(0) }));
    let recruiter = with(recruiter(jobs), doc! { "updatedAt": day(0) });
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    let [edited, closed] = job_ids(&recruiter)[..] else { panic!("two jobs") };
    let close = doc! { "$set": { "offer_status": "Cancelled", "updated_at": day(1) } };
    test.collection("jobs_partners").update_one(doc! { "_id": closed }, close).await.unwrap();
    edit_job(&test, edited, doc! { "job_description": "plus longue" }, day(2)).await;
    settled(&test.database).await;
    assert_eq!(text(&offers::read(&test.database).await[&closed], "offer_status"), "Cancelled");
    stopped(processor).await;
}

/// As `cancel-expired-offers` leaves it, when it meets an expired job that is still active.
#[tokio::test(flavor = "multi_thread")]
async fn the_date_of_a_closing_stays_when_the_job_is_closed_after_it() {
    let test = TestDatabase::create("dates_closing").await;
    let processor = started_with(&test, &[]).await;
    let job = with(job("Boulanger"), doc! { "job_update_date": day(0) });
    let recruiter = with(recruiter([job]), doc! { "updatedAt": day(0) });
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    let offer = job_ids(&recruiter)[0];
    close(&test, offer, Closing::Capped, day(2)).await;
    set(&test, &recruiter, doc! { "jobs.0.job_status": "Annulée", "opco": "OPCO" }).await;
    let offer = offers::read(&test.database).await.remove(&offer).unwrap();
    let shown = (text(&offer, "offer_status"), offer.get_datetime("updated_at").unwrap());
    assert_eq!((shown, text(&offer, "workplace_opco")), (("Cancelled", &day(2)), "OPCO"));
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}
