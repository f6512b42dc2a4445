//! The certificate (spec 10, "The certificate"): what it says in each phase, what keeps from the removal, that forgeries
//! and later changes are named, and that it has no personal data.

use bson::oid::ObjectId;
use bson::{DateTime, Document, Timestamp, doc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_through_all_phases_cleanly_may_lose_recruiters_and_changes_are_named() {
    let test = TestDatabase::with_planned_schema("certificate").await;
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    let user = ObjectId::new();
    let recruiter = with(recruiter([job("Boulanger"), job("Vendeur")]), doc! { "managed_by": user.to_hex() });
    test.collection("userswithaccounts").insert_one(doc! { "_id": user, "email": PERSONAL }).await.unwrap();
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert!(obstacles(&made(&test).await).contains(&"not_verified".to_owned()));
    for to in ["dual-write", "shadow", "retired"] {
        assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
        eventually(PATIENCE, "the step is allowed", async || {
            let shown = Processor::command(&["phase", "show", "--json"], &test, &[]).await;
            serde_json::from_str::<Value>(&shown.stdout).ok()?["may_go_on"].as_bool().filter(|may| *may)
        })
        .await;
        assert_eq!(obstacles(&made(&test).await), ["not_retired"], "before {to}");
        let step = Processor::command(&["phase", "set", to, "--reason", "as x@example.com said"], &test, &[]).await;
        assert_eq!(step.code, 0, "{}", step.stderr);
    }
    eventually(PATIENCE, "late writes are watched for", async || {
        let shown = Processor::command(&["phase", "show", "--json"], &test, &[]).await;
        serde_json::from_str::<Value>(&shown.stdout).ok()?["late_writes"]["total"].as_i64()
    })
    .await;
    let certificate = made(&test).await;
    assert_eq!(certificate["verdict"], json!({ "may_be_removed": true, "obstacles": [] }));
    let sides = &certificate["verification"]["sides"];
    assert_eq!(sides["projected"], sides["stored"]);
    assert_eq!(sides["projected"]["by_status"], json!({ "Active": 2 }));
    assert_eq!(&certificate["present"]["sides"], sides, "nothing has changed since");
    let page = Processor::command(&["phase", "certificate"], &test, &[]).await.stdout;
    assert!(page.contains("recruiters may be removed"), "{page}");
    for text in [page, certificate.to_string()] {
        assert!(!text.contains(PERSONAL) && !text.contains("example.com"), "{text}");
    }
    let held = check(&test, &certificate).await;
    assert_eq!(held.code, 0, "{}{}", held.stdout, held.stderr);
    files(&test).await;
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    assert_eq!(made(&test).await["verification"], certificate["verification"], "that of before retired");
    forgeries(&test, &certificate).await;
    changes(&test, &certificate, &recruiter).await;
    stopped(processor).await;
}

/// `--out` writes the certificate into a new file, which `--check` takes, also through the standard streams.
async fn files(test: &TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.json");
    let out = ["phase", "certificate", "--out", file.to_str().unwrap()];
    let written = Processor::command(&out, test, &[]).await;
    assert_eq!(written.code, 0, "{}", written.stderr);
    assert!(written.stdout.contains("recruiters may be removed"), "the page is shown too: {}", written.stdout);
    let text = std::fs::read_to_string(&file).unwrap();
    let held = check_text(test, &text).await;
    assert_eq!(held.code, 0, "{}{}", held.stdout, held.stderr);
    let again = Processor::command(&out, test, &[]).await;
    assert!(again.code == 2 && again.stderr.contains("--out"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "a certificate is not overwritten");
    let standard = Processor::command(&["phase", "certificate", "--out", "-"], test, &[]).await;
    let standard: Value = serde_json::from_str(&standard.stdout).unwrap();
    assert_eq!(standard["verdict"], json!({ "may_be_removed": true, "obstacles": [] }));
}

/// What a forger writes at which place, and the kind that the check names. The unit tests of `src/certificate/` have
/// every place.
fn forged() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/identity/database", json!("another"), "identity"),
        ("/phase/history/1/who", json!("somebody"), "phases"),
        ("/present/sides/recruiters/digest", json!("0".repeat(64)), "digest of recruiters"),
        ("/gaps", json!({ "total": 1, "open": 1, "last": [gap()] }), "gaps"),
        ("/position/time", json!(u32::MAX), "position"),
        ("/made_at", json!("2999-01-01T00:00:00Z"), "made_at"),
    ]
}

fn gap() -> Value {
    json!({ "from": "1-0", "to": "2-0", "cause": "x", "state": "open", "opened_at": null, "repaired_at": null })
}

async fn forgeries(test: &TestDatabase, certificate: &Value) {
    for (place, value, kind) in forged() {
        let mut forged = certificate.clone();
        *forged.pointer_mut(place).unwrap() = value;
        let left = check(test, &forged).await;
        assert!(left.code == 1 && left.stderr.contains("was changed after"), "{place}: {}", left.stderr);
        let renewed = check(test, &with_new_digest(forged)).await;
        let named = renewed.stdout.lines().any(|line| line.starts_with(kind));
        assert!(renewed.code == 1 && named, "{place}: {}{}", renewed.stdout, renewed.stderr);
    }
    let text = certificate.to_string();
    let mut other = certificate.clone();
    other["schema"] = json!("stream-processor-certificate/9");
    let mut more = certificate.clone();
    more["more"] = json!(1);
    let files = [
        (text[..text.len() / 2].to_owned(), "cut off"),
        ("<html>".to_owned(), "not JSON"),
        (other.to_string(), "another schema"),
        (with_new_digest(more).to_string(), "unknown field"),
    ];
    for (file, told) in files {
        let bad = check_text(test, &file).await;
        assert!(bad.code == 2 && bad.stderr.contains(told), "{told}: {}", bad.stderr);
    }
}

/// The document's digest as anybody can compute it: over JSON with sorted names.
fn with_new_digest(mut certificate: Value) -> Value {
    certificate.as_object_mut().unwrap().remove("digest");
    let digest = Sha256::digest(certificate.to_string().as_bytes());
    certificate["digest"] = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    certificate
}

async fn changes(test: &TestDatabase, certificate: &Value, recruiter: &Document) {
    let named = async |kinds: &[&str]| {
        let checked = check(test, certificate).await;
        assert_eq!(checked.code, 1, "{kinds:?}: {}{}", checked.stdout, checked.stderr);
        for kind in kinds {
            assert!(checked.stdout.lines().any(|line| line.starts_with(kind)), "{kind}: {}", checked.stdout);
        }
        assert!(!checked.stdout.contains(PERSONAL), "{}", checked.stdout);
    };
    let update = async |name: &str, filter: Document, fields: Document| {
        let changed = test.collection(name).update_one(filter, doc! { "$set": fields }).await.unwrap();
        assert_eq!(changed.modified_count, 1, "{name}");
    };
    let offer = doc! { "_id": first_job(recruiter) };
    update("jobs_partners", offer, doc! { "offer_title": "Pâtissier" }).await;
    named(&["digest of the stored offers"]).await;
    update("recruiters", doc! { "_id": id(recruiter) }, doc! { "jobs.1.offer_title_custom": "Caissier" }).await;
    eventually(PATIENCE, "the late write is counted", async || {
        let shown = Processor::command(&["phase", "show", "--json"], test, &[]).await;
        let shown: Value = serde_json::from_str(&shown.stdout).ok()?;
        (shown["late_writes"]["total"] == 1).then_some(())
    })
    .await;
    named(&["digest of recruiters", "digest of the projected offers", "late writes", "verdict"]).await;
    let letter = doc! { "_id": "recruiters/x", "reason": "missing_cfa" };
    test.collection("stream_processor_dead_letters").insert_one(letter).await.unwrap();
    let time = |time| Timestamp { time, increment: 0 };
    let gap = doc! { "state": "open", "from": time(1), "to": time(2), "cause": "x", "opened_at": DateTime::now() };
    test.collection("stream_processor_gaps").insert_one(gap).await.unwrap();
    named(&["dead letters", "gaps"]).await;
    let all = obstacles(&made(test).await);
    assert_eq!(all, ["open_gaps", "dead_letters", "late_writes"]);
    let back = ["phase", "set", "shadow", "--force", "--reason", "a test"];
    let back = Processor::command(&back, test, &[]).await;
    assert_eq!(back.code, 0, "{}", back.stderr);
    named(&["phases"]).await;
    let forward = ["phase", "set", "retired", "--force", "--reason", "a test"];
    assert_eq!(Processor::command(&forward, test, &[]).await.code, 0);
    let all = obstacles(&made(test).await);
    assert!(all.contains(&"forced_step".to_owned()) && all.contains(&"not_verified".to_owned()), "{all:?}");
    older_version(test).await;
}

/// What version 1.0.0 stored: a verification without sums, gaps and steps with fewer fields; and many gaps.
async fn older_version(test: &TestDatabase) {
    let state = test.collection("stream_processor_state");
    let verification = doc! { "began": DateTime::now(), "ended": DateTime::now(), "phase": "shadow", "full": true,
    "differences": 0_i64, "divergent_offers": {}, "last_success": DateTime::now() };
    state.replace_one(doc! { "_id": "verification" }, verification).await.unwrap();
    let fewer = doc! { "$unset": { "history.0.overridden": "", "history.1.overridden": "", "history.1.reason": "" } };
    state.update_one(doc! { "_id": "phase" }, fewer).await.unwrap();
    let gap = |time| doc! { "state": "repaired", "from": Timestamp { time, increment: 0 } };
    let gaps = test.collection("stream_processor_gaps");
    gaps.delete_many(doc! {}).await.unwrap();
    gaps.insert_many((10..1_010).map(gap)).await.unwrap();
    gaps.insert_one(doc! { "state": "open", "from": Timestamp { time: 9, increment: 0 } }).await.unwrap();
    let certificate = made(test).await;
    let all = obstacles(&certificate);
    for obstacle in ["no_digests", "not_counted", "open_gaps"] {
        assert!(all.contains(&obstacle.to_owned()), "{obstacle}: {all:?}");
    }
    let gaps = &certificate["gaps"];
    assert_eq!((&gaps["total"], &gaps["open"]), (&json!(1_001), &json!(1)));
    assert_eq!((gaps["last"].as_array().unwrap().len(), &gaps["last"][0]["from"]), (100, &json!("1009-0")));
    let page = Processor::command(&["phase", "certificate"], test, &[]).await.stdout;
    assert!(page.contains("older ones are not listed") && page.lines().count() < 200, "{page}");
    let held = check(test, &certificate).await;
    assert_eq!(held.code, 0, "{}{}", held.stdout, held.stderr);
}

/// A certificate in JSON.
async fn made(test: &TestDatabase) -> Value {
    let made = Processor::command(&["phase", "certificate", "--json"], test, &[]).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    serde_json::from_str(&made.stdout).unwrap()
}

fn obstacles(certificate: &Value) -> Vec<String> {
    let obstacles = certificate["verdict"]["obstacles"].as_array().unwrap();
    obstacles.iter().map(|one| one["obstacle"].as_str().unwrap().to_owned()).collect()
}

async fn check(test: &TestDatabase, certificate: &Value) -> Ended {
    check_text(test, &certificate.to_string()).await
}

async fn check_text(test: &TestDatabase, text: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.json");
    std::fs::write(&file, text).unwrap();
    Processor::command(&["phase", "certificate", "--check", file.to_str().unwrap()], test, &[]).await
}
