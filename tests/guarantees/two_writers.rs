//! An application writes an offer between its comparison and its write: a difference is written on condition of what it was
//! computed against, so that the end is wholly the one's or wholly the other's, and never half and half.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use stream_processor::inside::WRITTEN;
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::refuse_next;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{BRISK, started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const DUAL_WRITE: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");
const UPDATED: i64 = 1_700_000_000_000;
/// Fewer are created by statements of their own, more together.
const NEW: [usize; 2] = [3, 40];

#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_an_offer_that_changes_between_its_comparison_and_its_write_is_never_half_and_half() {
    for new in NEW {
        let test = TestDatabase::create("writers_dual").await;
        let (changed, created) = overtaken(&test, DUAL_WRITE, new, "offer_title_custom").await;
        let fresh = projected(&test).await;
        let standing = offers::read(&test.database).await;
        for (offer, written) in changed.iter().chain(&created) {
            let newer = written.get_datetime("updated_at").is_ok_and(|date| date.timestamp_millis() > UPDATED);
            if newer {
                for (field, value) in written {
                    assert_eq!(standing[offer].get(field), Some(value), "{field} is the application's");
                }
                let title = text(&standing[offer], "workplace_opco");
                assert_ne!(title, "a touch", "nothing of a newer offer is written");
            } else {
                assert_projected(&standing[offer], &fresh[offer], written);
            }
        }
        // All others.
        for (offer, fresh) in fresh.iter().filter(|(id, _)| !changed.contains_key(id) && !created.contains_key(id)) {
            assert_projected(&standing[offer], fresh, &Document::new());
        }
    }
}

/// There the projection is the authority whatever the dates say, once it writes what others write too.
#[tokio::test(flavor = "multi_thread")]
async fn in_sync_an_offer_that_changes_between_its_comparison_and_its_write_is_never_half_and_half() {
    let test = TestDatabase::create("writers_sync").await;
    let (changed, created) = overtaken(&test, ("STREAM_PROCESSOR__PHASE__INITIAL", "sync"), 3, "job_update_date").await;
    let fresh = projected(&test).await;
    let standing = offers::read(&test.database).await;
    for (offer, written) in changed.iter().chain(&created) {
        assert_projected(&standing[offer], &fresh[offer], written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_changes_again_and_again_before_it_is_written_is_a_dead_letter_until_it_is_written() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "writers_again").await;
    let recruiter = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    let offer = first_job(&recruiter);
    let held_up = doc! { "blockConnection": true, "blockTimeMS": 1_000 };
    let touched = doc! { "$set": { "opco": "a touch" } };
    // Each of these writes waits in the server until the application's has been there.
    let wait = refuse_next(&test.database, 4, &["update"], Some("jobs_partners"), held_up).await;
    test.collection("recruiters").update_one(doc! {}, touched).await.unwrap();
    for (times, status) in (1..).zip(["Filled", "Cancelled", "Filled", "Cancelled"]) {
        wait.have_happened(times, &test.database, "a write").await;
        let written = doc! { "$set": { "offer_status": status, "updated_at": DateTime::from_millis(UPDATED - 1) } };
        test.collection("jobs_partners").update_one(doc! { "_id": offer }, written).await.unwrap();
    }
    settled(&test.database).await;
    let dead_letters = test.collection("stream_processor_dead_letters");
    let dead_letters: Vec<Document> = dead_letters.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    assert_eq!(dead_letters.iter().map(|dead_letter| text(dead_letter, "reason")).collect::<Vec<_>>(), ["overtaken"]);
    assert_eq!(text(&offers::read(&test.database).await[&offer], "workplace_opco"), "", "nothing of it is written");

    assert_eq!(Processor::command(&["dead-letters", "retry"], &test, &[]).await.code, 0);
    assert_eq!(test.collection("stream_processor_dead_letters").count_documents(doc! {}).await.unwrap(), 0);
    let standing = offers::read(&test.database).await;
    assert_projected(&standing[&offer], &projected(&test).await[&offer], &Document::new());
    stopped(processor).await;
}

type Written = BTreeMap<ObjectId, Document>;

/// A recruiter's jobs change in this field and get `new` others; when the service has compared them, an application writes
/// some of their offers, and creates some of the new ones. Gives back what it wrote.
async fn overtaken(test: &TestDatabase, phase: (&str, &str), new: usize, field: &str) -> (Written, Written) {
    let owner = recruiter((0..9).map(|_| job("Boulanger")));
    test.collection("recruiters").insert_one(&owner).await.unwrap();
    let processor = started_with(test, &[phase]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;

    let value: Bson = match field {
        "job_update_date" => DateTime::from_millis(UPDATED + 500).into(),
        _ => "Pâtissier".into(),
    };
    let set = doc! { "$set": { "opco": "a touch", format!("jobs.$[].{field}"): value } };
    test.collection("recruiters").update_one(doc! {}, set).await.unwrap();
    // The status of the last three changes, too.
    let filled =
        ["jobs.6.job_status", "jobs.7.job_status", "jobs.8.job_status"].map(|path| (path.to_owned(), "Pourvue"));
    let filled: Document = filled.map(|(path, status)| (path, Bson::from(status))).into_iter().collect();
    test.collection("recruiters").update_one(doc! {}, doc! { "$set": filled }).await.unwrap();
    let more: Vec<Document> = (0..new).map(|_| job("Vendeur")).collect();
    test.collection("recruiters").update_one(doc! {}, doc! { "$push": { "jobs": { "$each": &more } } }).await.unwrap();

    let stops = ("STREAM_PROCESSOR_FAILPOINT", "cancelled/1/STOP");
    let mut processor = Processor::start(test, &[&BRISK[..], &[phase, stops]].concat());
    eventually(PATIENCE, "it has compared", async || processor.is_stopped().then_some(())).await;
    let (changed, created) = write(test, &owner, &more).await;
    eventually(PATIENCE, "it goes on", async || {
        processor.signal(Signal::Continue);
        processor.try_get("/readyz").await.filter(|(status, _)| *status == 200)
    })
    .await;
    settled(&test.database).await;
    stopped(processor).await;
    (changed, created)
}

/// What the application writes.
async fn write(test: &TestDatabase, owner: &Document, more: &[Document]) -> (Written, Written) {
    let partners = test.collection("jobs_partners");
    let write = async |offer: ObjectId, fields: Document| {
        partners.update_one(doc! { "_id": offer }, doc! { "$set": &fields }).upsert(true).await.unwrap();
        (offer, fields)
    };
    let dates = [
        Bson::from(DateTime::from_millis(UPDATED - 1)),
        DateTime::from_millis(UPDATED).into(),
        DateTime::from_millis(UPDATED + 1_000).into(),
        Bson::Null,
    ];
    let written = |date: &Bson, status: &str| {
        doc! { "offer_title": "of an application", "workplace_naf_label": "of an application", "offer_status": status, "updated_at": date }
    };
    let jobs = job_ids(owner);
    let mut changed = Written::new();
    for (place, (date, status)) in [
        (0, (&dates[0], "Active")),
        (1, (&dates[0], "Filled")),
        (2, (&dates[1], "Active")),
        (3, (&dates[2], "Filled")),
        (4, (&dates[3], "Active")),
        (6, (&dates[0], "Active")),
        (7, (&dates[0], "Filled")),
        (8, (&dates[2], "Cancelled")),
    ] {
        changed.extend([write(jobs[place], written(date, status)).await]);
    }
    let mut created = Written::new();
    for (job, (date, status)) in more.iter().zip([(&dates[0], "Filled"), (&dates[2], "Active")]) {
        let mut fields = written(date, status);
        fields.extend(doc! { "partner_label": "RECRUTEURS_LBA", "partner_job_id": id(job).to_hex() });
        created.extend([write(id(job), fields).await]);
    }
    (changed, created)
}

/// The offers of a database that holds the same recruiters and was filled at once.
async fn projected(test: &TestDatabase) -> BTreeMap<ObjectId, Document> {
    let fresh = TestDatabase::create("writers_fresh").await;
    let recruiters: Vec<Document> =
        test.collection("recruiters").find(doc! {}).await.unwrap().try_collect().await.unwrap();
    fresh.collection("recruiters").insert_many(recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &fresh, &[]).await.code, 0);
    offers::read(&fresh.database).await
}

/// Every field that a projection writes, and a history that ends with the status.
fn assert_projected(standing: &Document, fresh: &Document, written: &Document) {
    for field in WRITTEN.iter().map(|field| field.as_str()) {
        assert_eq!(offers::difference(fresh.get(field), standing.get(field)), None, "{field}, beside {written}");
    }
    // An offer that an application created has no history.
    if standing.contains_key("offer_status_history") {
        let faults = offers::history_faults(*standing.get_object_id("_id").as_ref().unwrap(), standing);
        assert!(faults.is_empty(), "{faults:?} beside {written}");
    }
}
