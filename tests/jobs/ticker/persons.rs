//! Anonymisation of users (4.12, 4.13) and fake values in place of what is personal (4.11).

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

use super::both_sides::enter;
use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::ticking::{counts, date, later, ran, text, told};
use crate::support::waiting::{PATIENCE, eventually};
use xtask::golden::{TargetModel, put_target_validator};

pub(super) const ANONYMISED: &str = "anonymized@example.com";
pub(super) const NOW: &str = "2026-06-14T12:00:00Z";
pub(super) const TWO_YEARS_BEFORE: &str = "2024-06-14T12:00:00Z";

pub(super) fn user(last_action: DateTime) -> Document {
    doc! {
        "_id": ObjectId::new(), "email": format!("{PERSONAL}@example.com"), "first_name": PERSONAL, "last_name": PERSONAL,
        "phone": PERSONAL, "origin": "lba", "status": [{ "status": "ACTIF" }], "last_action_date": last_action,
    }
}

/// Users, each with a recruiter of two jobs and a role, and their offers.
async fn filled(name: &str, users: &[Document]) -> TestDatabase {
    filled_on(TestDatabase::create(name).await, users).await
}

/// The same in a database that is there.
pub(super) async fn filled_on(test: TestDatabase, users: &[Document]) -> TestDatabase {
    test.collection("userswithaccounts").insert_many(users).await.unwrap();
    for (place, user) in users.iter().enumerate() {
        // Documents hold it as either.
        let manager = if place % 2 == 0 { Bson::String(id(user).to_hex()) } else { Bson::ObjectId(id(user)) };
        let managed = with(recruiter([job("Boulanger"), job("Vendeur")]), doc! { "managed_by": manager });
        test.collection("recruiters").insert_one(managed).await.unwrap();
        test.collection("rolemanagements")
            .insert_one(doc! { "user_id": id(user), "authorized_type": "x" })
            .await
            .unwrap();
    }
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    test
}

pub(super) async fn count(test: &TestDatabase, collection: &str, filter: Document) -> u64 {
    test.collection(collection).count_documents(filter).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_did_nothing_for_two_years_are_anonymised_on_every_side_and_the_others_are_not() {
    let limit = date(TWO_YEARS_BEFORE);
    let users = [limit, later(limit, -1), later(limit, 1)].map(user);
    let test = filled("persons_inactive", &users).await;
    let before = offers::read(&test.database).await;
    assert_eq!(counts(&ran("anonymize-inactive-users", &["--now", NOW, "--dry-run"], &test).await), [2, 2, 0]);
    offers::assert_same(&before, &offers::read(&test.database).await);
    assert_eq!(count(&test, "userswithaccounts", doc! {}).await, 3);

    let processor = started(&test).await;
    assert_eq!(counts(&ran("anonymize-inactive-users", &["--now", NOW], &test).await), [2, 2, 0]);
    settled(&test.database).await;
    for (place, user) in users.iter().enumerate() {
        let gone = u64::from(place < 2);
        let one = doc! { "_id": id(user) };
        assert_eq!(count(&test, "userswithaccounts", one.clone()).await, 1 - gone);
        assert_eq!(count(&test, "rolemanagements", doc! { "user_id": id(user) }).await, 1 - gone);
        let copy = test.collection("anonymized_userswithaccounts").find_one(one).await.unwrap();
        let kept = doc! {
            "_id": id(user), "origin": "lba", "status": [{ "status": "ACTIF" }],
            "last_action_date": *user.get_datetime("last_action_date").unwrap(),
        };
        assert_eq!(copy, (gone == 1).then_some(kept));
    }
    assert_eq!(count(&test, "recruiters", doc! {}).await, 1);
    let copies = doc! { "jobs": { "$size": 2 }, "establishment_id": { "$exists": true } };
    assert_eq!(count(&test, "anonymized_recruiters", copies).await, 2);
    let contact = ["first_name", "last_name", "phone", "email", "managed_by"];
    let contact: Vec<Document> = contact.iter().map(|field| doc! { *field: { "$exists": true } }).collect();
    assert_eq!(count(&test, "anonymized_recruiters", doc! { "$or": contact }).await, 0);
    // The stream has done the rest: the offers of a recruiter that is gone are cancelled.
    let anonymised = doc! { "apply_email": ANONYMISED, "apply_phone": null, "offer_status": "Cancelled" };
    assert_eq!(count(&test, "jobs_partners", anonymised).await, 4);
    assert_eq!(count(&test, "jobs_partners", doc! { "offer_status": "Active" }).await, 2);
    assert_eq!(counts(&ran("anonymize-inactive-users", &["--now", NOW], &test).await), [0, 0, 0]);
    let ended = stopped(processor).await;
    assert!(!ended.stderr.contains(PERSONAL), "personal data in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_shadow_on_recruiters_are_left_to_the_team() {
    let users = [user(date(TWO_YEARS_BEFORE))];
    let test = filled("persons_shadow", &users).await;
    enter(&test, "shadow").await;
    assert_eq!(counts(&ran("anonymize-inactive-users", &["--now", NOW], &test).await), [1, 1, 0]);
    assert_eq!(count(&test, "recruiters", doc! {}).await, 1);
    assert_eq!(count(&test, "anonymized_recruiters", doc! {}).await, 0);
    assert_eq!(count(&test, "jobs_partners", doc! { "apply_email": ANONYMISED, "apply_phone": null }).await, 2);
    assert_eq!(count(&test, "userswithaccounts", doc! {}).await, 0);
}

/// The model before the migration has no field that names the user of an offer.
#[tokio::test(flavor = "multi_thread")]
async fn from_shadow_on_offers_that_name_no_user_are_anonymised_all_the_same() {
    let other = with(user(DateTime::now()), doc! { "email": "other@example.com" });
    let users = [user(DateTime::MIN), other];
    let test = TestDatabase::with_live_schema("persons_unnamed").await;
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    let test = filled_on(test, &users).await;
    assert_eq!(count(&test, "jobs_partners", doc! { "managed_by": { "$exists": true } }).await, 0);
    enter(&test, "shadow").await;
    let run = ran("anonymize-inactive-users", &["--now", NOW], &test).await;
    assert_eq!(counts(&run), [1, 1, 0]);
    let gone = doc! { "apply_email": ANONYMISED, "offer_status": "Cancelled" };
    assert_eq!(count(&test, "jobs_partners", gone).await, 2);
    assert_eq!(count(&test, "jobs_partners", doc! { "offer_status": "Active" }).await, 2, "of the other user");
}

/// The same where another program anonymises the user, and the stream finds out.
#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_the_stream_anonymises_offers_that_name_no_user() {
    let other = with(user(DateTime::now()), doc! { "email": "other@example.com" });
    let gone = user(date(NOW));
    let test = TestDatabase::with_live_schema("persons_unnamed_stream").await;
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    let test = filled_on(test, &[gone.clone(), other]).await;
    enter(&test, "shadow").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    test.collection("anonymized_userswithaccounts").insert_one(doc! { "_id": id(&gone) }).await.unwrap();
    test.collection("userswithaccounts").delete_one(doc! { "_id": id(&gone) }).await.unwrap();
    settled(&test.database).await;
    let hidden = doc! { "apply_email": ANONYMISED, "apply_phone": null, "offer_status": "Cancelled" };
    assert_eq!(count(&test, "jobs_partners", hidden).await, 2);
    assert_eq!(count(&test, "jobs_partners", doc! { "offer_status": "Active" }).await, 2, "of the other user");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_is_anonymised_by_hand_whatever_the_date_once() {
    let users = [user(date(NOW)), user(date(NOW))];
    let test = filled("persons_by_hand", &users).await;
    let id = id(&users[0]).to_hex();
    let (code, lines) = told(&["anonymize", "user", &id, "--dry-run", "--json"], &test, &[]).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]));
    assert_eq!(count(&test, "userswithaccounts", doc! {}).await, 2);
    let (code, lines) = told(&["anonymize", "user", &id, "--json"], &test, &[]).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]));
    assert_eq!(count(&test, "userswithaccounts", doc! {}).await, 1);
    let (code, lines) = told(&["anonymize", "user", &id, "--json"], &test, &[]).await;
    assert_eq!((code, &lines[0]["skipped"]["already_anonymized"]), (0, &1.into()));
    let nobody = ObjectId::new().to_hex();
    let (code, lines) = told(&["anonymize", "user", &nobody, "--json"], &test, &[]).await;
    assert_eq!((code, &lines[0]["error"]), (1, &"there is no such user".into()));
    let ended = Processor::command(&["anonymize", "user", "x"], &test, &[]).await;
    assert_eq!(ended.code, 2);
    let (_, history) = told(&["jobs", "history", "--json"], &test, &[]).await;
    assert_eq!(history.iter().filter(|run| run["job"] == "anonymize-user").count(), 3);
    assert!(!format!("{history:?}").contains(PERSONAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn obfuscate_replaces_what_is_personal_once_and_only_on_a_database_that_is_named_as_a_copy() {
    let test = filled("persons_fake", &[user(date(NOW))]).await;
    let delegated = doc! { "jobs.$[].delegations": [{ "siret_code": "1", "email": PERSONAL }] };
    test.collection("recruiters").update_many(doc! {}, doc! { "$set": delegated }).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let described = doc! { "$set": { "workplace_description": PERSONAL } };
    test.collection("jobs_partners").update_many(doc! {}, described).await.unwrap();
    let before = offers::read(&test.database).await;
    const ALLOWED: &str = "STREAM_PROCESSOR__OBFUSCATE__ALLOWED_DATABASES";
    const ENVIRONMENT: &str = "STREAM_PROCESSOR__ENVIRONMENT";
    let copy = (ALLOWED, test.name());
    for settings in [
        &[][..],
        &[(ALLOWED, "another")],
        &[(ALLOWED, &test.name()[1..])],
        &[copy, (ENVIRONMENT, "production")],
        &[(ENVIRONMENT, "production")],
    ] {
        for arguments in [&["obfuscate"][..], &["obfuscate", "--dry-run"]] {
            let ended = Processor::command(arguments, &test, settings).await;
            assert_eq!(ended.code, 1, "{settings:?}: {}", ended.stdout);
            assert!(ended.stderr.contains("obfuscate is refused"), "{}", ended.stderr);
        }
    }
    let ended = Processor::command(&["jobs", "run", "obfuscate"], &test, &[copy]).await;
    assert_eq!(ended.code, 2, "it is no job");

    // The instance that leads is the one that knows where it runs.
    let production = Processor::start_ready(&test, &[copy, (ENVIRONMENT, "production")]).await;
    let marks = test.collection("stream_processor_state");
    let mark = eventually(PATIENCE, "the database is marked", async || {
        marks.find_one_and_delete(doc! { "_id": "production" }).await.unwrap()
    })
    .await;
    let (code, lines) = told(&["obfuscate", "--json"], &test, &[copy]).await;
    assert_eq!((code, &lines[0]["outcome"]), (1, &"failed".into()), "{lines:?}");
    stopped(production).await;
    // And the database remembers it, when nobody leads.
    marks.insert_one(mark).await.unwrap();
    let ended = Processor::command(&["obfuscate"], &test, &[copy]).await;
    assert!(ended.code == 1 && ended.stderr.contains("production"), "{}", ended.stderr);
    offers::assert_same(&before, &offers::read(&test.database).await);

    // A copy that was restored elsewhere brings the mark along.
    let elsewhere = doc! { "$set": { "members": ["elsewhere:27017"] } };
    marks.update_one(doc! { "_id": "production" }, elsewhere).await.unwrap();
    let (code, lines) = told(&["obfuscate", "--json"], &test, &[copy]).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [2, 2, 0]), "{lines:?}");
    for offer in offers::read(&test.database).await.into_values() {
        let names = ["apply_email", "apply_phone", "offer_description", "workplace_description"];
        assert!(names.iter().all(|name| text(&offer, name).is_some_and(|value| !value.contains(PERSONAL))));
        assert!(!offer.get("delegations").unwrap().to_string().contains(PERSONAL));
    }
    let (_, lines) = told(&["obfuscate", "--json"], &test, &[copy]).await;
    assert_eq!(counts(lines.last().unwrap()), [2, 0, 0], "a second run changes nothing");
}

/// The stream has cancelled the offers of an anonymised user whose recruiter stands. No job may open them: they would
/// collect applications for an address that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn no_job_opens_the_offers_of_an_anonymised_user_again() {
    for (model, phase) in [(TargetModel::Live, "sync"), (TargetModel::Before, "dual-write")] {
        let gone = user(date(NOW));
        let test = TestDatabase::with_live_schema("persons_reopened").await;
        put_target_validator(&test.database, model, "error").await.unwrap();
        let test = filled_on(test, std::slice::from_ref(&gone)).await;
        enter(&test, phase).await;
        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        test.collection("anonymized_userswithaccounts").insert_one(doc! { "_id": id(&gone) }).await.unwrap();
        test.collection("userswithaccounts").delete_one(doc! { "_id": id(&gone) }).await.unwrap();
        settled(&test.database).await;
        let hidden = doc! { "apply_email": ANONYMISED, "offer_status": "Cancelled" };
        assert_eq!(count(&test, "jobs_partners", hidden.clone()).await, 2);
        // Without the service, no event repairs what the job does.
        stopped(processor).await;
        let run = ran("sync-recruiter-status", &[], &test).await;
        assert_eq!((counts(&run)[1], &run["skipped"]["anonymized"]), (0, &2.into()), "{run:#}");
        assert_eq!(count(&test, "jobs_partners", hidden).await, 2);
    }
}
