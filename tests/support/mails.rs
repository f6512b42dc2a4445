//! What tests of e-mail share: users with offers that expire, and what is remembered of what they were sent.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;

use super::database::TestDatabase;
use super::processor::Processor;
use super::recruiters::{PERSONAL, id, job, recruiter, with};
use super::ticking::{date, later, text};

/// The time of the runs, in Paris 09:20.
pub(crate) const NOW: &str = "2026-06-14T07:20:00Z";
const HOUR: i64 = 3_600_000;

/// A user who can be written to.
pub(crate) fn user(address: &str) -> Document {
    doc! { "_id": ObjectId::new(), "first_name": PERSONAL, "last_name": "Exemple", "email": address }
}

/// An active recruiter of this user with jobs of these titles, which expire in six days and a half.
pub(crate) fn recruiter_of(user: &Document, titles: &[&str]) -> Document {
    let expires = later(date(NOW), (6 * 24 + 12) * HOUR);
    let jobs = titles.iter().map(|title| with(job(title), doc! { "job_expiration_date": expires }));
    with(recruiter(jobs), doc! { "managed_by": id(user).to_hex() })
}

/// A database with these users and recruiters, and their offers.
pub(crate) async fn filled(name: &str, users: &[Document], recruiters: &[Document]) -> TestDatabase {
    let test = TestDatabase::create(name).await;
    test.collection("userswithaccounts").insert_many(users).await.unwrap();
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    test
}

/// A database with these users, each with an offer that expires.
pub(crate) async fn expecting(name: &str, addresses: &[&str]) -> TestDatabase {
    let users: Vec<Document> = addresses.iter().map(|address| user(address)).collect();
    let recruiters: Vec<Document> = users.iter().map(|user| recruiter_of(user, &["Boulanger"])).collect();
    filled(name, &users, &recruiters).await
}

/// How many messages are remembered in this state.
pub(crate) async fn in_state(test: &TestDatabase, state: &str) -> usize {
    outbox(test).await.iter().filter(|entry| text(entry, "state") == Some(state)).count()
}

/// Everything that is remembered of messages, by `_id`.
pub(crate) async fn outbox(test: &TestDatabase) -> Vec<Document> {
    let outbox = test.collection("stream_processor_outbox");
    outbox.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap().try_collect().await.unwrap()
}

/// How many offers, and how many jobs, have this field.
pub(crate) async fn marked(test: &TestDatabase, field: &str) -> (usize, usize) {
    let is_date = doc! { field: { "$type": "date" } };
    let offers = test.collection("jobs_partners").count_documents(is_date).await.unwrap();
    let recruiters: Vec<Document> =
        test.collection("recruiters").find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let jobs = recruiters.iter().flat_map(|recruiter| recruiter.get_array("jobs").unwrap());
    let jobs = jobs.filter_map(Bson::as_document).filter(|job| job.get_datetime(field).is_ok());
    (usize::try_from(offers).unwrap(), jobs.count())
}
