//! What exists in `recruiters` alone (spec 09, "Before `retired`"): `phase show` counts it, `verify --report` lists
//! its ids, and it keeps from `retired`.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const LABEL: &str = "RECRUTEURS_LBA";
const SHADOW: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "shadow");
const DUAL_WRITE: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");

/// A recruiter whose user exists, with these fields besides; its jobs have offers.
async fn stands(test: &TestDatabase, recruiter: Document) -> Document {
    let user = ObjectId::new();
    let recruiter = with(recruiter, doc! { "managed_by": user.to_hex() });
    insert(test, "userswithaccounts", doc! { "_id": user }).await;
    insert(test, "recruiters", recruiter.clone()).await;
    for job in recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document) {
        if let Ok(id) = job.get_object_id("_id") {
            insert(test, "jobs_partners", doc! { "_id": id, "partner_label": LABEL }).await;
        }
    }
    recruiter
}

fn delegated(siret: &str, cfa: Option<&str>) -> Document {
    let fields = doc! { "is_delegated": true, "establishment_siret": siret, "cfa_delegated_siret": cfa };
    with(recruiter([job("Boulanger")]), fields)
}

/// The ids that the report must list, by kind.
type Expected = BTreeMap<&'static str, Vec<String>>;

/// Recruiters with losses of each kind but that of delegated contacts, and one of which nothing would be lost.
async fn losses(test: &TestDatabase) -> Expected {
    let described = |text: &str| with(job("Vendeur"), doc! { "job_employer_description": text });
    let whole = stands(test, recruiter([described("A bakery")])).await;
    let text = doc! { "$set": { "workplace_description": "A bakery" } };
    test.collection("jobs_partners").update_one(doc! { "_id": first_job(&whole) }, text).await.unwrap();
    let empty = stands(test, recruiter([])).await;
    let undescribed = stands(test, recruiter([described("A shop")])).await;
    let custom = doc! { "custom_job_title": "Chef", "job_level_label": "Doctorat" };
    let commented = with(recruiter([with(job("Cuisinier"), custom)]), doc! { "note": "call first" });
    let commented = stands(test, commented).await;
    let without_offer = stands(test, recruiter([job("Serveur"), with(job("Plongeur"), doc! { "_id": 3 })])).await;
    test.collection("jobs_partners").delete_one(doc! { "_id": first_job(&without_offer) }).await.unwrap();
    let other_label = stands(test, recruiter([job("Barman")])).await;
    let relabelled = doc! { "$set": { "partner_label": "somebody" } };
    test.collection("jobs_partners").update_one(doc! { "_id": first_job(&other_label) }, relabelled).await.unwrap();
    let nobody = recruiter([job("Traiteur")]);
    insert(test, "recruiters", nobody.clone()).await;
    insert(test, "jobs_partners", doc! { "_id": first_job(&nobody), "partner_label": LABEL }).await;
    insert(test, "recruiters", doc! { "_id": "not an ObjectId" }).await;
    let second_job = format!("{}/jobs.1", of(&without_offer));
    BTreeMap::from([
        ("recruiters_without_jobs", vec![of(&empty)]),
        ("unreadable_recruiters", vec!["recruiters/\"not an ObjectId\"".to_owned()]),
        ("jobs_without_offer", vec![job_of(&without_offer), second_job, job_of(&other_label)]),
        ("contacts_without_user", vec![of(&nobody)]),
        ("employer_descriptions", vec![job_of(&undescribed)]),
        ("free_texts", vec![of(&commented), job_of(&commented)]),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_counted_by_phase_show_and_listed_by_the_report_of_verify() {
    let test = TestDatabase::create("alone").await;
    let mut expected = losses(&test).await;
    let mut delegates = Vec::new();
    for (siret, cfa) in [("1", Some("7")), ("2", Some("7")), ("1", None)] {
        delegates.push(stands(&test, delegated(siret, cfa)).await);
    }
    let (establishments, cfa) = ([ObjectId::new(), ObjectId::new()], ObjectId::new());
    for (siret, establishment) in ["1", "2"].into_iter().zip(establishments) {
        insert(&test, "entreprises", doc! { "_id": establishment, "siret": siret }).await;
    }
    insert(&test, "cfas", doc! { "_id": cfa, "siret": "7" }).await;
    // Without the platform's collection, nobody knows what would be lost, and the answer says so.
    let shown = shown(&test).await;
    assert_eq!(shown["delegated_contacts"], 3, "{shown:#}");
    assert!(shown["not_looked_at"][0].as_str().unwrap().starts_with("entreprise_managed_by_cfa"), "{shown:#}");
    // The pair of the first one is kept there; a pair counts only as a whole.
    for pair in [[establishments[0], cfa], [establishments[1], ObjectId::new()]] {
        insert(&test, "entreprise_managed_by_cfa", doc! { "entreprise_id": pair[0], "cfa_id": pair[1] }).await;
    }
    expected.insert("delegated_contacts", delegates[1..].iter().map(of).collect());
    each_is_told(&test, &expected).await;
}

async fn each_is_told(test: &TestDatabase, expected: &Expected) {
    let shown = shown(test).await;
    for (kind, ids) in expected {
        assert_eq!(shown[kind], ids.len(), "{kind} in {shown:#}");
    }
    assert_eq!(shown["not_looked_at"], serde_json::json!([]), "{shown:#}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let ended = command(&["verify", "--report", file.to_str().unwrap()], test, 1).await;
    let report = std::fs::read_to_string(&file).unwrap();
    let listed = &serde_json::from_str::<Value>(&report).unwrap()["only_in_recruiters"];
    for (kind, ids) in expected {
        assert_eq!(listed[kind]["ids"], serde_json::json!(ids), "{kind}: {listed:#}");
    }
    let fields = serde_json::json!({ "custom_job_title": 1, "job_level_label": 1, "note": 1 });
    assert_eq!(listed["free_text_fields"], fields);
    let printed = command(&["phase", "show"], test, 0).await.stdout;
    for text in [&report, &ended.stdout, &printed] {
        assert!(!text.contains(PERSONAL) && !text.contains("call first"), "no value of a document is shown");
        assert!(text.contains("recruiters_without_jobs"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_job_with_the_same_id_has_no_offer_and_a_sample_counts_nothing() {
    let test = TestDatabase::create("alone_twice").await;
    let twice = job("Boulanger");
    let recruiter = stands(&test, recruiter([twice.clone()])).await;
    let push = doc! { "$push": { "jobs": &twice } };
    test.collection("recruiters").update_one(doc! { "_id": id(&recruiter) }, push).await.unwrap();
    let shown = shown(&test).await;
    assert_eq!(shown["jobs_without_offer"], 1, "{shown:#}");
    let sample: Value =
        serde_json::from_str(&command(&["verify", "--sample", "5", "--json"], &test, 1).await.stdout).unwrap();
    assert_eq!(sample["only_in_recruiters"], Value::Null);
    // Elsewhere, a look at the phase does not read all recruiters.
    let sync = Processor::command(&["phase", "show", "--json"], &test, &[]).await;
    assert_eq!(json(&sync)["only_in_recruiters"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_step_to_retired_is_refused_while_something_would_be_lost_and_can_be_forced() {
    let test = TestDatabase::create("alone_step").await;
    let recruiter = recruiter([job("Boulanger")]);
    insert(&test, "recruiters", recruiter.clone()).await;
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let step =
        async |arguments: &[&str]| Processor::command(&[&["phase", "set"], arguments].concat(), &test, &[]).await;
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    let entered = step(&["shadow"]).await;
    assert_eq!(entered.code, 0, "what is in recruiters alone does not keep from shadow: {}", entered.stderr);

    let before = step(&["retired"]).await;
    assert!(before.code == 1 && before.stderr.contains("not counted in this phase yet"), "{}", before.stderr);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    let refused = step(&["retired"]).await;
    assert_eq!(refused.code, 1);
    for told in ["nothing exists in recruiters alone: 1 contacts_without_user", "--report", "--force"] {
        assert!(refused.stderr.contains(told), "{told} in {}", refused.stderr);
    }
    let forced = step(&["retired", "--force", "--reason", "nobody knows this person"]).await;
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    let history = json(&Processor::command(&["phase", "history", "--json"], &test, &[]).await);
    let overridden = history["steps"].as_array().unwrap().last().unwrap()["overridden"].to_string();
    assert!(overridden.contains("recruiters alone: 1 contacts_without_user"), "{overridden}");

    let back = step(&["shadow"]).await;
    assert_eq!(back.code, 0, "{}", back.stderr);
    let user = ObjectId::parse_str(recruiter.get_str("managed_by").unwrap()).unwrap();
    insert(&test, "userswithaccounts", doc! { "_id": user }).await;
    settled(&test.database).await;
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    eventually(PATIENCE, "the lag is known in the new phase", async || {
        let shown = json(&Processor::command(&["phase", "show", "--json"], &test, &[]).await);
        shown["may_go_on"].as_bool().filter(|may| *may)
    })
    .await;
    let retired = step(&["retired"]).await;
    assert_eq!(retired.code, 0, "nothing would be lost any more: {}", retired.stderr);
    stopped(processor).await;
}

/// The `_id` of the first job; another one may have none that is an ObjectId.
fn first_job(recruiter: &Document) -> ObjectId {
    let first = recruiter.get_array("jobs").unwrap()[0].as_document().unwrap();
    id(first)
}

async fn shown(test: &TestDatabase) -> Value {
    json(&command(&["phase", "show", "--json"], test, 0).await)["only_in_recruiters"].clone()
}

fn of(recruiter: &Document) -> String {
    format!("recruiters/{}", id(recruiter))
}

fn job_of(recruiter: &Document) -> String {
    format!("recruiters/{}/{}", id(recruiter), first_job(recruiter))
}

async fn insert(test: &TestDatabase, collection: &str, document: Document) {
    test.collection(collection).insert_one(document).await.unwrap();
}

async fn command(arguments: &[&str], test: &TestDatabase, code: i32) -> Ended {
    let ended = Processor::command(arguments, test, &[SHADOW]).await;
    assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
    ended
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
