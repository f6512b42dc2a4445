//! `doctor --against-platform` (spec 09, "The rehearsal") on a database with the histories of all of the platform's
//! writers: what it counts, what it says is to be done, and that it writes nothing.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use serde_json::{Value, json};

use xtask::golden::{TargetModel, put_target_validator};
use xtask::mongod::TestServer;

use crate::support::database::TestDatabase;
use crate::support::dead_letters::reasons;
use crate::support::fields::job_ids;
use crate::support::platform::{Closing, close, write_as_old_worker};
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};

/// The label of the live platform.
const LABEL: &str = "offres_emploi_lba";
const LABELLED: (&str, &str) = ("STREAM_PROCESSOR__TARGET__PARTNER_LABEL", LABEL);
const RECRUITERS: usize = 300;
const DAY: i64 = 24 * 3_600_000;

fn days_ago(days: i64) -> DateTime {
    DateTime::from_millis(DateTime::now().timestamp_millis() - days * DAY)
}

/// A platform's database before the first run: offers of a few hundred recruiters, and no trace of the service.
async fn platform() -> (TestDatabase, Vec<Document>) {
    let test = TestDatabase::with_planned_schema("platform").await;
    let recruiters: Vec<Document> = (0..RECRUITERS).map(|_| recruiter([job("Boulanger")])).collect();
    let users = recruiters.iter().map(|recruiter| ObjectId::parse_str(recruiter.get_str("managed_by").unwrap()));
    let user = |id: ObjectId| doc! { "_id": id, "email": format!("{id}@example.com") };
    let users: Vec<Document> = users.map(|id| user(id.unwrap())).collect();
    test.collection("userswithaccounts").insert_many(users).bypass_document_validation(true).await.unwrap();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    write_as_old_worker(&test, &[LABELLED]).await;
    (test, recruiters)
}

async fn set(test: &TestDatabase, offer: ObjectId, update: impl Into<Document>) {
    let offers = test.collection("jobs_partners");
    let done = offers.update_one(doc! { "_id": offer }, update.into()).bypass_document_validation(true).await.unwrap();
    assert_eq!(done.modified_count, 1);
}

async fn set_job(test: &TestDatabase, recruiter: &Document, fields: Document) {
    let fields: Document = fields.into_iter().map(|(name, value)| (format!("jobs.0.{name}"), value)).collect();
    test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, doc! { "$set": fields }).await.unwrap();
}

/// An entry as another writer leaves it; `None` for the old worker, which names nobody.
fn entry(status: &str, granted_by: Option<Bson>) -> Document {
    let mut entry = doc! { "date": days_ago(3), "status": status, "reason": "a test" };
    entry.extend(granted_by.map(|granted_by| ("granted_by".to_owned(), granted_by)));
    doc! { "$set": { "offer_status": status }, "$push": { "offer_status_history": entry } }
}

/// Offers in the state in which years of the platform left them. Gives back the recruiters that stay as they are.
async fn histories(test: &TestDatabase, recruiters: &[Document]) {
    let mut offers = recruiters.iter().flat_map(job_ids);
    for (closing, count) in Closing::ALL.into_iter().zip([40, 10, 5, 3]) {
        for offer in offers.by_ref().take(count) {
            close(test, offer, closing, days_ago(1)).await;
        }
    }
    let others: [(usize, Option<Bson>); 4] = [
        (2, Some("closeEmptyShops".into())),
        (2, Some(ObjectId::new().to_hex().into())),
        (1, Some(format!("{PERSONAL}@example.com").into())),
        (6, None),
    ];
    for (count, granted_by) in others {
        for offer in offers.by_ref().take(count) {
            set(test, offer, entry("Cancelled", granted_by.clone())).await;
        }
    }
    for offer in offers.by_ref().take(2) {
        set(test, offer, doc! { "$set": { "offer_status": "Pending" } }).await;
    }
    set(test, offers.next().unwrap(), doc! { "$set": { "offer_status": "Brouillon" } }).await;
    for offer in offers.by_ref().take(7) {
        set(test, offer, doc! { "$unset": { "mer_sent": 1 } }).await;
    }
    for offer in offers.by_ref().take(4) {
        set(test, offer, doc! { "$set": { "managed_by": ObjectId::new() } }).await;
    }
}

/// The marks of the old server's cron jobs, edits that the old worker missed, and what has no counterpart.
async fn sources(test: &TestDatabase, recruiters: &[Document]) {
    let mut last = recruiters.iter().rev();
    for recruiter in last.by_ref().take(20) {
        set_job(test, recruiter, doc! { "offer_title_custom": "Boulangère" }).await;
    }
    let marks = [
        doc! { "relance_mail_expiration_J7": days_ago(1), "relance_mail_expiration_J1": days_ago(90) },
        doc! { "mer_sent": "hier" },
        doc! { "job_status": "Annulée", "job_expiration_date": days_ago(3), "job_update_date": days_ago(2) },
        doc! { "job_status": "?" },
    ];
    for fields in marks {
        set_job(test, last.next().unwrap(), fields).await;
    }
    let deleted = last.next().unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(deleted) }).await.unwrap();
    let more = recruiter([job("Vendeur")]);
    test.collection("recruiters").insert_one(&more).await.unwrap();
    let anonymised = doc! { "_id": ObjectId::new(), "last_action_date": days_ago(2 * 365 + 1) };
    // Somebody anonymised the other one by hand, long before the two years are over.
    let by_hand = doc! { "_id": ObjectId::new(), "last_action_date": days_ago(3) };
    test.collection("anonymized_userswithaccounts").insert_many([anonymised, by_hand]).await.unwrap();
}

async fn hashes(test: &TestDatabase) -> Document {
    let hashes = test.database.run_command(doc! { "dbHash": 1 }).await.unwrap();
    hashes.get_document("collections").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rehearsal_counts_what_page_09_is_about_names_what_to_do_and_writes_nothing() {
    let (test, recruiters) = platform().await;
    histories(&test, &recruiters).await;
    sources(&test, &recruiters).await;
    let before = hashes(&test).await;
    let ended = Processor::command(&["doctor", "--against-platform", "--json"], &test, &[LABELLED]).await;
    let text = Processor::command(&["doctor", "--against-platform"], &test, &[LABELLED]).await;
    assert_eq!(hashes(&test).await, before, "nothing is written, and no collection is made");
    assert_eq!((ended.code, text.code), (0, 0), "as doctor: nothing has failed\n{}", ended.stderr);

    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let found = &told["platform"];
    assert_eq!(found["labels"]["sampled"], json!({ LABEL: 199 }), "the newest recruiter has no offer");
    let statuses = json!({ "Active": 228, "Cancelled": 64, "Filled": 5, "Pending": 2, "Brouillon": 1 });
    assert_eq!(found["offer_status"], statuses);
    assert_eq!(found["managed_by_types"], json!({ "objectId": 4, "string": 296 }));
    writers(&found["writers"]);
    schema(&found["schema"]);
    old_jobs(&found["old_jobs"]);
    first_run(&found["first_run"]);
    let missing: Vec<&str> =
        found["missing_indexes"].as_array().unwrap().iter().map(|one| one["keys"].as_str().unwrap()).collect();
    assert!(missing.contains(&"managed_by") && !missing.contains(&"partner_label"), "{missing:?}");
    assert!(!ended.stdout.contains(PERSONAL) && !text.stdout.contains(PERSONAL), "no person is named");
    let platform = text.stdout.split_once("✓ geocoding").unwrap().1;
    let rehearsal: Vec<&str> = platform.lines().skip(1).filter(|line| !line.contains(" failed, ")).collect();
    insta::assert_snapshot!("doctor against the platform", without_dates(&rehearsal.join("\n")));
}

/// The text with `[date]` in place of each day and minute.
fn without_dates(text: &str) -> String {
    let is_day = |word: &str| word.len() == 10 && word.bytes().filter(|byte| *byte == b'-').count() == 2;
    let line = |line: &str| {
        let mut words: Vec<&str> = Vec::new();
        for word in line.split(' ') {
            match (words.last(), word) {
                (Some(&"[date]"), minute) if minute.contains(':') => {
                    // A word may follow the minute without a space.
                    words.extend(minute.get(5..).filter(|rest| !rest.is_empty()));
                }
                (_, day) if is_day(day) => words.push("[date]"),
                (_, word) => words.push(word),
            }
        }
        words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn writers(found: &Value) {
    let entries = |name: &str| found[name]["entries"].as_i64().unwrap_or_default();
    let names = ["expireJobsPartners", "application.service", "jobs.controller.v2", "SERVEUR", "closeEmptyShops"];
    assert_eq!(names.map(entries), [40, 10, 5, 3, 2], "{found:#}");
    assert_eq!(["(an id)", "(an address)", "(none)"].map(entries), [2, 1, 6], "{found:#}");
    let age = DateTime::now().timestamp_millis()
        - DateTime::parse_rfc3339_str(found["SERVEUR"]["last"].as_str().unwrap()).unwrap().timestamp_millis();
    assert_eq!(Duration::from_millis(age.unsigned_abs()).as_secs() / 3_600 / 24, 1, "the date of the last entry");
}

fn schema(found: &Value) {
    assert_eq!(found["validation_action"], "warn");
    assert_eq!(found["validation_level"], "strict");
    assert_eq!((&found["omitted_fields"], &found["managed_by"]), (&json!([]), &json!("text")));
    assert_eq!(found["status_of_waiting_jobs"], "Cancelled");
}

fn old_jobs(found: &Value) {
    let running: Vec<&str> = found
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["seems_to_run"] == true)
        .map(|one| one["instead"].as_str().unwrap())
        .collect();
    assert_eq!(
        running,
        ["remind-expiring-offers-j7", "cancel-expired-offers", "anonymize-inactive-users"],
        "{found:#}"
    );
    let now = DateTime::now().try_to_rfc3339_string().unwrap();
    for entry in found.as_array().unwrap() {
        assert!(entry["last"].as_str().is_none_or(|last| last < now.as_str()), "no mark lies in the future: {entry}");
        assert!(entry["lacks"].is_null(), "{entry}");
    }
    let may_go_on = found.as_array().unwrap().last().unwrap();
    assert!(may_go_on["must_stop"] == false && may_go_on["last"].is_string(), "{may_go_on}");
}

fn first_run(found: &Value) {
    assert_eq!((&found["phase"], &found["recruiters"]), (&json!("sync"), &json!(RECRUITERS)));
    assert_eq!((&found["created"], &found["orphans"]), (&json!(1), &json!(1)), "{found:#}");
    assert_eq!(found["closed_elsewhere"], 40 + 10 + 5 + 3 + 2 + 2 + 1, "{found:#}");
    assert_eq!(found["fields"]["offer_title"], json!({ "other_value": 20 }), "{found:#}");
    assert_eq!(found["fields"]["mer_sent"], json!({ "missing": 7, "null": 1 }), "{found:#}");
    assert_eq!(found["fields"]["managed_by"], json!({ "other_type": 4 }), "{found:#}");
    assert_eq!(found["dead_letters"], json!({ "unknown_job_status": 1 }), "{found:#}");
    let changes =
        json!({ "Active -> Cancelled": 1, "Cancelled -> Active": 6, "Pending -> Active": 2, "other -> Active": 1 });
    assert_eq!(found["status_changes"], changes, "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_rehearsed_too_and_without_the_option_doctor_says_what_it_said() {
    let test = TestDatabase::without_collections(TestServer::obtain().uri(), "platform_empty").await;
    let arguments = ["doctor", "--against-platform", "--json", "--allow-empty"];
    let ended = Processor::command(&arguments, &test, &[]).await;
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&told["platform"]["first_run"]["created"], &told["platform"]["writers"]), (&json!(0), &json!({})));
    assert!(test.database.list_collection_names().await.unwrap().is_empty(), "no collection is made");
    let plain: Value =
        serde_json::from_str(&Processor::command(&["doctor", "--json", "--allow-empty"], &test, &[]).await.stdout)
            .unwrap();
    assert_eq!(plain.get("platform"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_lack_a_field_are_named_and_their_entries_are_to_run_on() {
    let test = TestDatabase::with_live_schema("platform_lacks").await;
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    let recruiter = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let arguments = ["doctor", "--against-platform", "--json"];
    let found = Processor::command(&arguments, &test, &[LABELLED]).await;
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let jobs = found["platform"]["old_jobs"].as_array().unwrap_or_else(|| panic!("{found:#}"));
    let idle: Vec<(&str, bool)> = jobs
        .iter()
        .filter(|one| one["lacks"].is_string())
        .map(|one| (one["instead"].as_str().unwrap(), one["must_stop"].as_bool().unwrap()))
        .collect();
    let names = [
        "remind-expiring-offers-j7",
        "remind-expiring-offers-j1",
        "refresh-pending-establishments",
        "send-introductions",
    ];
    assert_eq!(idle, names.map(|name| (name, false)), "{jobs:#?}");
    let text = Processor::command(&["doctor", "--against-platform"], &test, &[LABELLED]).await.stdout;
    assert!(text.contains("`send-introductions` will not run here: field managed_by"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_the_validator_does_not_let_be_changed_are_counted_and_only_where_it_refuses() {
    let test = TestDatabase::with_planned_schema("platform_refused").await;
    let recruiters: Vec<Document> = (0..3).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[LABELLED]).await.code, 0);
    // An entry of the old worker: the model wants a name in each.
    let unnamed = doc! { "$set": { "offer_status_history": [
        { "status": "Active", "reason": "x", "date": DateTime::MIN },
    ] } };
    test.collection("jobs_partners").update_one(doc! {}, unnamed).await.unwrap();
    let counted = async |model: TargetModel, action: &str| -> Value {
        put_target_validator(&test.database, model, action).await.unwrap();
        let ended = Processor::command(&["doctor", "--against-platform", "--json"], &test, &[LABELLED]).await;
        let told: Value = serde_json::from_str(&ended.stdout).unwrap();
        let ended = Processor::command(&["backfill", "--dry-run", "--json"], &test, &[LABELLED]).await;
        let dry_run: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(dry_run["refused_offers"], told["platform"]["schema"]["refused_offers"]);
        let one = recruiters[0].get_object_id("_id").unwrap().to_hex();
        let arguments = ["backfill", "--dry-run", "--json", "--recruiter", &one];
        let ended = Processor::command(&arguments, &test, &[LABELLED]).await;
        let of_one: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(of_one["refused_offers"], Value::Null, "the count is about all offers");
        dry_run["refused_offers"].clone()
    };
    assert_eq!(counted(TargetModel::Planned, "warn").await, 0, "the server only warns");
    assert_eq!(counted(TargetModel::Planned, "error").await, 1);
    assert_eq!(counted(TargetModel::Before, "error").await, 1, "a change removes the fields that it does not name");
}

/// What the rehearsal tells is what the first run then does.
#[tokio::test(flavor = "multi_thread")]
async fn refused_creations_removed_fields_and_data_of_anonymised_persons_are_foretold() {
    let test = TestDatabase::with_planned_schema("platform_foretold").await;
    let recruiters: Vec<Document> = (0..3).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[LABELLED]).await.code, 0);
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    let user = ObjectId::parse_str(recruiters[0].get_str("managed_by").unwrap()).unwrap();
    test.collection("anonymized_userswithaccounts").insert_one(doc! { "_id": user }).await.unwrap();
    // The model wants at least three characters, in an offer that stands too.
    let edited = doc! { "$set": { "jobs.0.offer_title_custom": "V", "jobs.0.rome_appellation_label": "V" } };
    test.collection("recruiters").update_one(doc! { "_id": id(&recruiters[2]) }, edited).await.unwrap();
    let refused = recruiter([job("$V")]);
    test.collection("recruiters").insert_many([&refused, &recruiter([job("$Coiffeur")])]).await.unwrap();

    let arguments = ["doctor", "--against-platform", "--json"];
    let told: Value = serde_json::from_str(&Processor::command(&arguments, &test, &[LABELLED]).await.stdout).unwrap();
    let [first_run, schema] = ["first_run", "schema"].map(|part| &told["platform"][part]);
    assert_eq!(first_run["created"], 1, "{first_run:#}");
    assert_eq!(first_run["dead_letters"], json!({ "refused_by_validation": 2 }), "{first_run:#}");
    assert!(first_run["personal_data"].as_u64() > Some(0), "{first_run:#}");
    assert_eq!(schema["offers_with_omitted_fields"], 3, "{schema:#}");

    let done: Value =
        serde_json::from_str(&Processor::command(&["backfill", "--json"], &test, &[LABELLED]).await.stdout).unwrap();
    assert_eq!((&done["created"], &done["changed"]), (&first_run["created"], &first_run["changed"]), "{done:#}");
    let dead_letters = reasons(&test).await.into_values().collect::<Vec<_>>();
    assert_eq!(dead_letters, ["refused_by_validation"; 2]);
}
