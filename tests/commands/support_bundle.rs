//! `support-bundle`: one file with all parts, of a form that `docs/json/` describes, without secrets and addresses; also
//! while the database is away.

use std::fs;

use serde_json::Value;
use xtask::guarded::TemporaryFolder;

use crate::support::database::TestDatabase;
use crate::support::documents::document;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::until_no_resync;

const LISTEN: &str = "STREAM_PROCESSOR__HTTP__LISTEN";

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_all_parts_and_neither_secrets_nor_addresses() {
    let test = TestDatabase::create("support_bundle").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let service = started(&test).await;
    until_no_resync(&test.database).await;
    let folder = TemporaryFolder::create("stream-processor-test-").unwrap();
    let (file, log) = (folder.path().join("bundle.json"), folder.path().join("log"));
    fs::write(&log, format!("{}\nanother program wrote to someone@example.org\n", service.stderr())).unwrap();
    let (file, log) = (file.to_str().unwrap(), log.to_str().unwrap());
    let settings = [
        (LISTEN, service.address()),
        ("STREAM_PROCESSOR__SMTP__FROM", "Someone <sender@example.org>"),
        ("STREAM_PROCESSOR__SMTP__URL", "smtp://someone:secret-word@127.0.0.1:1"),
    ];
    let ended = Processor::command(&["support-bundle", file, "--log", log], &test, &settings).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("read it before you send it"), "{}", ended.stderr);
    let text = fs::read_to_string(file).unwrap();
    for personal in ["secret-word", "example.org", PERSONAL] {
        assert!(!text.contains(personal), "{personal}");
    }

    let ended = Processor::command(&["support-bundle", "-", "--log", log], &test, &settings).await;
    let bundle = document(&["support-bundle", "-"], &ended);
    assert_eq!(
        bundle["status"]["leader"]["instance"],
        serde_json::from_str::<Value>(&text).unwrap()["status"]["leader"]["instance"]
    );
    assert!(bundle["configuration"].as_array().unwrap().iter().any(|key| key["key"] == "smtp.from"), "{bundle:#}");
    assert!(bundle["doctor"]["checks"].as_array().unwrap().iter().any(|check| check["check"] == "oplog"));
    assert!(bundle["events"].as_array().unwrap().iter().any(|event| event["kind"] == "leadership"));
    assert!(bundle["metrics"].as_str().unwrap().contains("stream_processor_leader 1"));
    assert!(bundle["readiness"].as_str().unwrap().contains("\"ready\":true"));
    let lines = bundle["log"].as_array().unwrap();
    assert_eq!(lines.last().unwrap(), "another program wrote to [address]");
    assert!(lines.len() > 2, "{lines:#?}");

    let again = Processor::command(&["support-bundle", file], &test, &settings).await;
    assert_eq!(again.code, 2, "an earlier bundle stays: {}", again.stderr);
    assert_eq!(fs::read_to_string(file).unwrap(), text);
    stopped(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_database_service_and_log_says_what_is_missing_and_why() {
    let test = TestDatabase::create("support_bundle_away").await;
    let away = [("MONGODB_URI", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200")];
    let ended = Processor::command(&["support-bundle", "-"], &test, &away).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let bundle = document(&["support-bundle", "-"], &ended);
    assert_eq!(bundle["doctor"]["ok"], false);
    for part in ["status", "events", "readiness", "metrics", "log"] {
        let reason = bundle[part]["missing"].as_str().unwrap_or_else(|| panic!("{part}: {bundle:#}"));
        assert!(!reason.is_empty() && ended.stderr.contains(&format!("{part}: {reason}")), "{part}: {}", ended.stderr);
    }
}
