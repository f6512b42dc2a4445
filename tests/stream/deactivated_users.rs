//! What a user's last status `DESACTIVE` does to its offers (spec 03, "Reactions"; `users.on_deactivated`): nothing
//! but a count, or they are cancelled and stay so until the user is active again.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::platform::{Closing, close};
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{checkpoint, put_back, settled, until_no_resync, writes};
use crate::support::waiting::cluster_time_now;

const CANCEL: [(&str, &str); 1] = [("STREAM_PROCESSOR__USERS__ON_DEACTIVATED", "cancel-offers")];
const COUNT: &str = "stream_processor_users_deactivated_total";
const CFA: &str = "22222222222222";

/// A user, its recruiters, and an offer whose job is not projected any more: its recruiter lost its address.
struct World {
    user: ObjectId,
    recruiters: Vec<Document>,
    unprojectable: ObjectId,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_somebody_filled_stays_filled_when_its_user_is_deactivated() {
    let test = TestDatabase::create("deactivated_filled").await;
    let processor = started_with(&test, &CANCEL).await;
    let world = World::build(&test).await;
    settled(&test.database).await;
    let filled = [first_job(&world.recruiters[0]), world.unprojectable];
    for offer in filled {
        close(&test, offer, Closing::Provided, since(1)).await;
    }
    set_status(&test, world.user, &["ACTIF", "DESACTIVE"]).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_eq!(filled.map(|offer| text(&offers[&offer], "offer_status")), ["Filled"; 2]);
    assert_eq!(text(&offers[&first_job(&world.recruiters[1])], "offer_status"), "Cancelled");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_of_a_deactivated_user_are_cancelled_until_it_is_active_again_whatever_is_touched_meanwhile() {
    let test = TestDatabase::create("deactivated_cancel").await;
    let processor = started_with(&test, &CANCEL).await;
    let world = World::build(&test).await;
    let others = untouchable(&test, world.user).await;
    settled(&test.database).await;
    let before = checkpoint(&test.database).await;
    assert_statuses(&test, &world, "Active").await;

    set_status(&test, world.user, &["ACTIF", "DESACTIVE"]).await;
    settled(&test.database).await;
    assert_statuses(&test, &world, "Cancelled").await;
    let cancelled = offers::read(&test.database).await;
    assert_eq!(text(&cancelled[&world.unprojectable], "offer_status"), "Cancelled");
    for recruiter in &world.recruiters {
        let history = cancelled[&first_job(recruiter)].get_array("offer_status_history").unwrap();
        let [Bson::Document(entry)] = history.as_slice() else { panic!("one entry") };
        let texts = ["status", "reason", "granted_by"].map(|field| text(entry, field));
        assert_eq!(texts, ["Cancelled", "user has been deactivated", "stream-processor"]);
        assert_eq!(entry.get_datetime("date").unwrap(), &since(2));
    }
    assert_eq!(processor.metric(COUNT).await, Some(1.0));

    // Neither a touch nor a new job makes one active, and a backfill finds nothing to do.
    for recruiter in &world.recruiters {
        let touched = doc! { "$set": { "updatedAt": since(3), "naf_label": "x" }, "$push": { "jobs": job("Vendeur") } };
        test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, touched).await.unwrap();
    }
    settled(&test.database).await;
    assert_statuses(&test, &world, "Cancelled").await;
    let new = offers::read(&test.database).await.into_values().filter(|offer| text(offer, "offer_title") == "Vendeur");
    assert!(new.map(|offer| text(&offer, "offer_status").to_owned()).all(|status| status == "Cancelled"));
    stopped(processor).await;
    assert_finds_nothing(&test, &CANCEL).await;

    put_back(&test.database, before).await;
    let replay = cluster_time_now(&test.database).await;
    let processor = started_with(&test, &CANCEL).await;
    settled(&test.database).await;
    assert!(writes(&test.database, "jobs_partners", replay).await.is_empty(), "a replay changes nothing");

    set_status(&test, world.user, &["ACTIF", "DESACTIVE", "ACTIF"]).await;
    settled(&test.database).await;
    assert_statuses(&test, &world, "Active").await;
    let left = offers::read(&test.database).await;
    assert!(others.iter().all(|other| left.get(&id(other)) == Some(other)), "others' offers are not touched");
    assert!(!stopped(processor).await.stderr.contains(PERSONAL));
    assert_finds_nothing(&test, &CANCEL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_deactivation_is_only_counted() {
    let test = TestDatabase::create("deactivated_ignore").await;
    let processor = started(&test).await;
    let world = World::build(&test).await;
    settled(&test.database).await;
    let time = cluster_time_now(&test.database).await;

    set_status(&test, world.user, &["DESACTIVE"]).await;
    settled(&test.database).await;
    assert_eq!(processor.metric(COUNT).await, Some(1.0));
    assert!(writes(&test.database, "jobs_partners", time).await.is_empty());
    // A contact change is none, and neither is a new user who waits for the validation of the address.
    let users = test.collection("userswithaccounts");
    users.update_one(doc! { "_id": world.user }, doc! { "$set": { "phone": "1" } }).await.unwrap();
    users.insert_one(doc! { "_id": ObjectId::new(), "status": statuses(&["VALIDATION_EMAIL"]) }).await.unwrap();
    settled(&test.database).await;
    assert_eq!(processor.metric(COUNT).await, Some(1.0));
    assert_statuses(&test, &world, "Active").await;
    stopped(processor).await;
    assert_finds_nothing(&test, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_replaced_or_inserted_as_deactivated_counts_and_an_unseen_one_is_found_by_a_repair() {
    let test = TestDatabase::create("deactivated_replaced").await;
    let processor = started_with(&test, &CANCEL).await;
    let world = World::build(&test).await;
    settled(&test.database).await;
    let users = test.collection("userswithaccounts");
    let mine = doc! { "_id": world.user };
    let document = |status: &[&str]| doc! { "_id": world.user, "email": "a@example.com", "status": statuses(status) };

    users.replace_one(mine.clone(), document(&["DESACTIVE"])).await.unwrap();
    settled(&test.database).await;
    assert_statuses(&test, &world, "Cancelled").await;
    users.replace_one(mine.clone(), document(&["DESACTIVE", "ACTIF"])).await.unwrap();
    settled(&test.database).await;
    assert_statuses(&test, &world, "Active").await;
    users.delete_one(mine.clone()).await.unwrap();
    users.insert_one(document(&["DESACTIVE"])).await.unwrap();
    settled(&test.database).await;
    assert_statuses(&test, &world, "Cancelled").await;
    assert_eq!(processor.metric(COUNT).await, Some(2.0));
    users.replace_one(mine.clone(), document(&["ACTIF"])).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;

    // As after a lost history, or after a change of the configuration.
    let active = doc! { "$set": { "offer_status": "Active" } };
    test.collection("jobs_partners").update_one(doc! { "_id": world.unprojectable }, active).await.unwrap();
    set_status(&test, world.user, &["DESACTIVE"]).await;
    let found = Processor::command(&["verify", "--json"], &test, &CANCEL).await;
    assert_eq!(found.code, 1, "{}", found.stdout);
    let repaired = Processor::command(&["verify", "--repair"], &test, &CANCEL).await;
    assert_eq!(repaired.code, 0, "{}", repaired.stderr);
    assert_statuses(&test, &world, "Cancelled").await;
    assert_eq!(text(&offers::read(&test.database).await[&world.unprojectable], "offer_status"), "Cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymisation_of_a_deactivated_user_makes_no_offer_active_again() {
    let test = TestDatabase::create("deactivated_anonymised").await;
    let processor = started_with(&test, &CANCEL).await;
    let world = World::build(&test).await;
    set_status(&test, world.user, &["DESACTIVE"]).await;
    settled(&test.database).await;
    let copy = doc! { "_id": world.user, "origin": "lba", "status": statuses(&["DESACTIVE"]) };
    test.collection("anonymized_userswithaccounts").insert_one(copy).await.unwrap();
    test.collection("userswithaccounts").delete_one(doc! { "_id": world.user }).await.unwrap();
    settled(&test.database).await;
    test.collection("recruiters").update_many(doc! {}, doc! { "$set": { "updatedAt": since(4) } }).await.unwrap();
    settled(&test.database).await;
    assert_statuses(&test, &world, "Cancelled").await;
    stopped(processor).await;
    assert_finds_nothing(&test, &CANCEL).await;
}

impl World {
    /// Recruiters of one user: its id as text and as ObjectId, with its own contact and with the CFA's.
    async fn build(test: &TestDatabase) -> Self {
        let user = ObjectId::new();
        let email = format!("{PERSONAL}@example.com");
        let document = doc! { "_id": user, "email": email, "status": statuses(&["ACTIF"]) };
        test.collection("userswithaccounts").insert_one(document).await.unwrap();
        test.collection("cfas").insert_one(doc! { "siret": CFA }).await.unwrap();
        let delegated = doc! { "is_delegated": true, "cfa_delegated_siret": CFA, "managed_by": user.to_hex() };
        let mut recruiters = vec![with(recruiter([job("Boulanger")]), delegated)];
        for managed_by in managed_by(user) {
            recruiters.push(with(recruiter([job("Boulanger")]), doc! { "managed_by": managed_by }));
        }
        let nowhere = with(recruiter([job("Fleuriste")]), doc! { "managed_by": user });
        let all = test.collection("recruiters");
        all.insert_many(&recruiters).await.unwrap();
        all.insert_one(&nowhere).await.unwrap();
        settled(&test.database).await;
        until_no_resync(&test.database).await;
        all.update_one(doc! { "_id": id(&nowhere) }, doc! { "$set": { "address": "" } }).await.unwrap();
        Self { user, recruiters, unprojectable: first_job(&nowhere) }
    }
}

/// An offer of another partner that names the user, and one of ours of another user.
async fn untouchable(test: &TestDatabase, user: ObjectId) -> [Document; 2] {
    let foreign = doc! {
        "_id": ObjectId::new(), "partner_label": "AUTRE", "managed_by": user.to_hex(), "offer_status": "Active",
    };
    test.collection("jobs_partners").insert_one(&foreign).await.unwrap();
    let other = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&other).await.unwrap();
    settled(&test.database).await;
    [foreign, offers::read(&test.database).await.remove(&first_job(&other)).unwrap()]
}

async fn set_status(test: &TestDatabase, user: ObjectId, words: &[&str]) {
    let update = doc! { "$set": { "status": statuses(words) } };
    test.collection("userswithaccounts").update_one(doc! { "_id": user }, update).await.unwrap();
}

/// One entry for each word, a second apart.
fn statuses(words: &[&str]) -> Vec<Document> {
    let entry = |(word, second): (&&str, i64)| doc! { "status": *word, "reason": PERSONAL, "date": since(second) };
    words.iter().zip(1..).map(entry).collect()
}

/// Later than anything of a recruiter that was not touched.
fn since(second: i64) -> DateTime {
    DateTime::from_millis(1_750_000_000_000 + second * 1_000)
}

fn managed_by(user: ObjectId) -> [Bson; 2] {
    [user.into(), user.to_hex().into()]
}

async fn assert_statuses(test: &TestDatabase, world: &World, status: &str) {
    let offers = offers::read(&test.database).await;
    let jobs: Vec<ObjectId> = world.recruiters.iter().map(first_job).collect();
    let found: Vec<&str> = jobs.iter().map(|job| text(&offers[job], "offer_status")).collect();
    assert_eq!(found, vec![status; jobs.len()]);
}

/// Neither a verification nor a backfill finds anything to do.
async fn assert_finds_nothing(test: &TestDatabase, settings: &[(&str, &str)]) {
    let verified = Processor::command(&["verify"], test, settings).await;
    assert_eq!(verified.code, 0, "{}\n{}", verified.stdout, verified.stderr);
    let time = cluster_time_now(&test.database).await;
    let filled = Processor::command(&["backfill"], test, settings).await;
    assert_eq!(filled.code, 0, "{}", filled.stderr);
    assert_eq!(writes(&test.database, "jobs_partners", time).await, [], "a backfill changes nothing");
}
