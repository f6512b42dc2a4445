//! Users with very much, and users whom the server refuses: one is anonymised in pieces whatever happens in between, the
//! other fails alone (4.12, 4.13).

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use xtask::mongod::{Options, ReplicaSet};

use super::persons::{ANONYMISED, NOW, TWO_YEARS_BEFORE, count, filled_on, user};
use crate::support::database::TestDatabase;
use crate::support::failpoints::refuse_next;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id};
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, settled, state, until_no_resync};
use crate::support::ticking::{counts, date, later, ran, told};

const JOB: &str = "anonymize-inactive-users";

/// Offers of a user that applications created, beside those of the user's recruiter.
async fn add_offers(test: &TestDatabase, user: ObjectId, number: usize) {
    let offer = |place: usize| {
        doc! {
            "_id": ObjectId::new(), "partner_label": "RECRUTEURS_LBA", "partner_job_id": format!("{user}/{place}"),
            "managed_by": user, "apply_email": format!("{PERSONAL}@example.com"), "apply_phone": PERSONAL,
            "offer_status": "Active", "offer_description": "x".repeat(2_000),
            "delegations": [{ "email": format!("{PERSONAL}@example.com") }],
        }
    };
    let label = test.collection("jobs_partners").find_one(doc! {}).await.unwrap().unwrap();
    let label = label.get_str("partner_label").unwrap();
    let offers: Vec<Document> = (0..number)
        .map(|place| {
            let mut offer = offer(place);
            offer.insert("partner_label", label);
            offer
        })
        .collect();
    for offers in offers.chunks(5_000) {
        test.collection("jobs_partners").insert_many(offers).await.unwrap();
    }
}

async fn personal_offers(test: &TestDatabase) -> u64 {
    let personal = doc! { "$or": [
        { "apply_email": { "$ne": ANONYMISED } }, { "apply_phone": { "$ne": null } },
        { "delegations.email": { "$regex": PERSONAL } },
    ] };
    count(test, "jobs_partners", personal).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_very_many_offers_recruiters_and_roles_is_anonymised_under_a_short_lease() {
    let one = user(date(TWO_YEARS_BEFORE));
    let test = filled_on(TestDatabase::create("persons_large").await, std::slice::from_ref(&one)).await;
    add_offers(&test, id(&one), 20_000).await;
    let recruiter = test.collection("recruiters").find_one(doc! {}).await.unwrap().unwrap();
    // Together larger than a transaction should be, and than a small service has memory for.
    let heavy: Vec<Document> = (0..6)
        .map(|_| {
            let mut heavy = recruiter.clone();
            heavy.extend(doc! { "_id": ObjectId::new(), "jobs": [], "padding": "x".repeat(4_000_000) });
            heavy
        })
        .collect();
    test.collection("recruiters").insert_many(heavy).await.unwrap();
    let roles = (0..1_500).map(|_| doc! { "user_id": id(&one) });
    test.collection("rolemanagements").insert_many(roles).await.unwrap();
    let lease = [("STREAM_PROCESSOR__LEASE__DURATION", "2s")];
    let arguments = ["anonymize", "user", &id(&one).to_hex(), "--json"];
    let (code, lines) = told(&arguments, &test, &lease).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]), "{lines:?}");
    for gone in ["userswithaccounts", "rolemanagements", "recruiters"] {
        assert_eq!(count(&test, gone, doc! {}).await, 0, "{gone}");
    }
    assert_eq!(count(&test, "anonymized_recruiters", doc! { "email": { "$exists": false } }).await, 7);
    // Those of the recruiter's own jobs are the stream's, which has not begun.
    stopped(started(&test).await).await;
    assert_eq!(personal_offers(&test).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_whom_a_part_is_done_is_brought_to_the_end_after_a_crash_whatever_they_did_since() {
    for part in [1, 2, 4] {
        let one = user(date(TWO_YEARS_BEFORE));
        let test = filled_on(TestDatabase::create("persons_killed").await, std::slice::from_ref(&one)).await;
        add_offers(&test, id(&one), 1_600).await;
        let kill = format!("user-part/{part}/KILL");
        let kill = [("STREAM_PROCESSOR_FAILPOINT", kill.as_str())];
        let killed = Processor::command(&["jobs", "run", JOB, "--now", NOW], &test, &kill).await;
        assert_eq!(killed.code, 137, "part {part}: {}", killed.stderr);
        let gone = part == 4;
        assert_eq!(count(&test, "userswithaccounts", doc! {}).await, u64::from(!gone), "the user goes last");
        assert_eq!(count(&test, "anonymized_userswithaccounts", doc! {}).await, u64::from(gone));
        assert_eq!(count(&test, "recruiters", doc! {}).await, 0, "recruiters go first");
        let back = doc! { "$set": { "last_action_date": later(date(NOW), 1) } };
        test.collection("userswithaccounts").update_one(doc! {}, back).await.unwrap();
        end_lease(&test.database).await;
        // The command that was killed is carried on by who leads next.
        let processor = started(&test).await;
        assert_eq!(counts(&ran(JOB, &["--now", NOW], &test).await)[2], 0);
        settled(&test.database).await;
        assert_eq!(count(&test, "userswithaccounts", doc! {}).await, 0, "part {part}");
        assert_eq!(count(&test, "rolemanagements", doc! {}).await, 0);
        assert_eq!(personal_offers(&test).await, 0, "part {part}");
        let noted = state(&test.database, "ticker").await.unwrap();
        assert!(noted.get_array("anonymizing").unwrap().is_empty(), "{noted}");
        assert_eq!(counts(&ran(JOB, &["--now", NOW], &test).await), [0, 0, 0]);
        stopped(processor).await;
    }
}

/// What is looked at again meanwhile must not bring the contact back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_projects_the_contact_of_a_user_of_whom_a_part_is_done() {
    let one = user(date(TWO_YEARS_BEFORE));
    let test = filled_on(TestDatabase::create("persons_between").await, std::slice::from_ref(&one)).await;
    add_offers(&test, id(&one), 1_600).await;
    let kill = [("STREAM_PROCESSOR_FAILPOINT", "user-part/1/KILL")];
    let arguments = ["anonymize", "user", &id(&one).to_hex()];
    assert_eq!(Processor::command(&arguments, &test, &kill).await.code, 137);
    end_lease(&test.database).await;
    // Nobody goes on with it.
    test.collection("stream_processor_commands").delete_many(doc! {}).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    settled(&test.database).await;
    let own = doc! { "partner_job_id": { "$not": { "$regex": "/" } }, "apply_email": { "$ne": ANONYMISED } };
    assert_eq!(count(&test, "userswithaccounts", doc! {}).await, 1);
    assert_eq!(count(&test, "jobs_partners", own).await, 0, "the offers of the recruiter that is gone");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_the_server_refuses_fails_alone_and_is_told() {
    for (collection, refuses) in [
        ("jobs_partners", "apply_email"),
        ("anonymized_recruiters", "origin"),
        ("anonymized_userswithaccounts", "origin"),
    ] {
        let mut users = [(); 3].map(|()| user(date(TWO_YEARS_BEFORE)));
        users[0].insert("origin", "refused");
        let test = filled_on(TestDatabase::create("persons_refused").await, &users).await;
        let refused = id(&users[0]);
        let origin = doc! { "$set": { "origin": "refused" } };
        let theirs = doc! { "managed_by": { "$in": [Bson::from(refused.to_hex()), Bson::from(refused)] } };
        test.collection("recruiters").update_one(theirs.clone(), origin).await.unwrap();
        let validator = match refuses {
            "apply_email" => doc! { "$nor": [{ "$and": [theirs, { "apply_email": ANONYMISED }] }] },
            _ => doc! { refuses: { "$ne": "refused" } },
        };
        // Whether or not it is there.
        drop(test.database.create_collection(collection).await);
        test.database.run_command(doc! { "collMod": collection, "validator": validator }).await.unwrap();
        let (code, lines) = told(&["jobs", "run", JOB, "--now", NOW, "--json"], &test, &[]).await;
        assert_eq!((code, counts(lines.last().unwrap())), (1, [3, 2, 1]), "{collection}: {lines:?}");
        let told: Vec<_> = lines.iter().filter(|line| line["what"] == "refused_by_validation").collect();
        assert!(matches!(told.as_slice(), [one] if one["id"] == refused.to_hex()), "{collection}: {lines:?}");
        assert_eq!(count(&test, "userswithaccounts", doc! {}).await, 1);
        assert_eq!(count(&test, "recruiters", doc! {}).await, 1, "all of a small user, or nothing");
        let nothing = doc! {};
        test.database.run_command(doc! { "collMod": collection, "validator": nothing }).await.unwrap();
        assert_eq!(counts(&ran(JOB, &["--now", NOW], &test).await), [1, 1, 0], "{collection}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_for_whom_the_server_has_no_time_fails_alone() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let users = [(); 3].map(|()| user(date(TWO_YEARS_BEFORE)));
    let test = filled_on(TestDatabase::create_on(&set.uri(), "persons_slow").await, &users).await;
    // Five for ever smaller parts of the first user, and all attempts at the smallest.
    let slow = doc! { "errorCode": 50 };
    refuse_next(&test.database, 13, &["update"], Some("jobs_partners"), slow).await;
    let (code, lines) = told(&["jobs", "run", JOB, "--now", NOW, "--json"], &test, &[]).await;
    assert_eq!((code, counts(lines.last().unwrap())), (1, [3, 2, 1]), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line["what"] == "too_slow").count(), 1, "{lines:?}");
    assert_eq!(counts(&ran(JOB, &["--now", NOW], &test).await), [1, 1, 0]);
}
