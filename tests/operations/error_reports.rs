//! Reports of errors in Sentry's protocol, received by a real HTTP server: what they say, what they do not say, and that
//! nobody waits for them.

use std::fs;
use std::net::TcpListener;

use bson::doc;
use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::web_server::{Answer, Asked, WebServer};

const DROPPED: &str = "a watched collection was dropped or replaced";
const CANNOT_RUN: &str = "the service cannot run";
const KEY: &str = "c0ffee";
/// The thread that sends reports; the kernel shows fifteen characters of a name.
const THREAD: &str = "error-reports";

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_reported_once_with_its_deployment_and_without_personal_data() {
    let test = TestDatabase::create("reports_error").await;
    let server = WebServer::start(|_, _| Answer::Say(200, "{}".to_owned())).await;
    let dsn = dsn(&server.url());
    // The log tells nothing, and the reports come all the same.
    let processor = started_with(&test, &[("SENTRY_DSN", &dsn), ("STREAM_PROCESSOR__LOG__LEVEL", "off")]).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert!(threads(&processor).iter().any(|name| name == THREAD));
    let instance = status(&processor).await["instance"]["name"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        test.collection("recruiters").drop().await.unwrap();
        test.collection("recruiters").insert_one(recruiter([job("Vendeur")])).await.unwrap();
        settled(&test.database).await;
    }
    stopped(processor).await;

    let reports = reports(&server);
    let dropped: Vec<&Value> = reports.iter().filter(|report| report["message"] == DROPPED).collect();
    let [dropped] = dropped[..] else { panic!("once, although it happened twice: {reports:#?}") };
    assert_eq!(dropped.get("level"), None, "an event without a level is an error");
    assert_eq!(dropped["release"], concat!("stream-processor@", env!("CARGO_PKG_VERSION")));
    assert_eq!(dropped["environment"], "development");
    assert_eq!(dropped["server_name"], instance.as_str());
    assert_eq!(dropped["extra"], serde_json::json!({ "collection": "recruiters", "operation": "drop" }));
    for report in &reports {
        assert!(["user", "breadcrumbs", "request"].iter().all(|part| report.get(part).is_none()), "{report:#}");
    }
    for asked in server.asked() {
        // The release is written so in Sentry.
        let body = asked.body.replace(concat!("stream-processor@", env!("CARGO_PKG_VERSION")), "");
        assert!(!body.contains(PERSONAL) && !body.contains('@'), "{body}");
        assert_eq!(asked.path, "/api/42/envelope/");
        let key = asked.headers["x-sentry-auth"].to_str().unwrap();
        assert!(key.contains(&format!("sentry_key={KEY}")), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_run_reports_why_without_the_paths_of_its_machine() {
    let test = TestDatabase::create("reports_end").await;
    let server = WebServer::start(|_, _| Answer::Say(200, "{}".to_owned())).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sentry-dsn");
    fs::write(&file, format!("{}\n", dsn(&server.url()))).unwrap();
    let file = file.to_str().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (format, sent) in [("json", 1), ("pretty", 2)] {
        let settings = [
            ("STREAM_PROCESSOR__SENTRY__DSN_FILE", file),
            ("STREAM_PROCESSOR__HTTP__LISTEN", &taken),
            ("STREAM_PROCESSOR__LOG__FORMAT", format),
        ];
        let ended = Processor::command(&["run"], &test, &settings).await;
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        let reports = reports(&server);
        assert_eq!(reports.len(), sent, "{format}: {reports:#?}");
        let report = reports.last().unwrap();
        assert_eq!((&report["message"], &report["level"]), (&Value::from(CANNOT_RUN), &Value::from("fatal")));
        assert_eq!(report["extra"]["exit_code"], "2");
        assert!(report["extra"]["error"].as_str().unwrap().contains("http.listen"), "{report:#}");
    }
    let uri = "mongodb://someone:hunter2@127.0.0.1:1/?tls=true&tlsCAFile=/nowhere/of-somebody/ca.pem";
    let settings = [("STREAM_PROCESSOR__SENTRY__DSN_FILE", file), ("MONGODB_URI", uri)];
    assert_ne!(Processor::command(&["run"], &test, &settings).await.code, 0);
    let report = reports(&server).pop().unwrap();
    assert!(report["extra"]["error"].as_str().unwrap().contains("[path]"), "{report:#}");
    assert!(["hunter2", "somebody", "someone"].iter().all(|word| !report.to_string().contains(word)), "{report:#}");
    // A command tells the person who gave it, and nobody else.
    let empty = TestDatabase::without_collections(&test.uri, "reports_empty").await;
    let ended = Processor::command(&["status"], &empty, &[("STREAM_PROCESSOR__SENTRY__DSN_FILE", file)]).await;
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert_eq!(reports(&server).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_reported_by_its_place() {
    let test = TestDatabase::create("reports_panic").await;
    let server = WebServer::start(|_, _| Answer::Say(200, "{}".to_owned())).await;
    let panics = ("STREAM_PROCESSOR_FAILPOINT", "written/1/panic");
    let mut processor = started_with(&test, &[("SENTRY_DSN", &dsn(&server.url())), panics]).await;
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    assert_eq!(processor.until_ended().await.code, 101);
    // A busy machine may have kept the service from being ready for a while, which is another report.
    let reports: Vec<Value> = reports(&server).into_iter().filter(|report| report["level"] == "fatal").collect();
    let [report] = &reports[..] else { panic!("{reports:#?}") };
    assert_eq!(report["message"], "a panic");
    assert!(report["extra"]["place"].as_str().unwrap().starts_with("src/failpoint.rs:"), "{report:#}");
    assert_eq!(report["extra"].as_object().unwrap().len(), 1, "its text may quote a document");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_or_silent_or_full_changes_nothing() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let silent = WebServer::start(|_, _| Answer::Stall).await;
    let full = WebServer::start(|_, _| Answer::Later(429, 3_600)).await;
    let limits = ("x-sentry-rate-limits", "60:transaction:key, 3600:default;error:organization");
    let limiting = WebServer::start(move |_, _| Answer::With(200, limits)).await;
    for url in [format!("http://{nobody}"), silent.url(), full.url(), limiting.url()] {
        let test = TestDatabase::create("reports_down").await;
        let processor = started_with(&test, &[("SENTRY_DSN", &dsn(&url))]).await;
        until_no_resync(&test.database).await;
        for collection in ["cfas", "referentielromes"] {
            test.collection(collection).insert_one(doc! {}).await.unwrap();
            test.collection(collection).drop().await.unwrap();
            settled(&test.database).await;
        }
        let recruiter = recruiter([job("Boulanger")]);
        test.collection("recruiters").insert_one(&recruiter).await.unwrap();
        settled(&test.database).await;
        let offer = doc! { "_id": first_job(&recruiter) };
        assert!(test.collection("jobs_partners").find_one(offer).await.unwrap().is_some(), "{url}");
        let told = stopped(processor).await.stderr;
        assert_eq!(told.matches(DROPPED).count(), 2, "{told}");
        if url == limiting.url() {
            assert!(!told.contains("cannot be sent"), "the server took the report: {told}");
        } else if url != silent.url() {
            assert_eq!(told.matches("error reports cannot be sent").count(), 1, "it is told once: {told}");
        }
    }
    for server in [full, limiting] {
        assert_eq!(server.asked().len(), 1, "a server that wants none for an hour is not asked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dsn_nothing_is_reported() {
    let test = TestDatabase::create("reports_off").await;
    let processor = started_with(&test, &[]).await;
    assert!(threads(&processor).iter().all(|name| name != THREAD), "{:?}", threads(&processor));
    stopped(processor).await;
}

fn dsn(url: &str) -> String {
    format!("{}/42", url.replace("://", &format!("://{KEY}@")))
}

/// The events in the envelopes that the server was sent, without their headers.
fn reports(server: &WebServer) -> Vec<Value> {
    let event = |asked: &Asked| {
        let lines: Vec<Value> = asked.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [_, item, event] = &lines[..] else { panic!("an envelope with one item: {lines:#?}") };
        assert_eq!(item["type"], "event");
        event.clone()
    };
    server.asked().iter().map(event).collect()
}

async fn status(processor: &Processor) -> Value {
    eventually(PATIENCE, "the status is there", async || {
        let (_, body) = processor.try_get("/api/status").await?;
        serde_json::from_str(&body).ok()
    })
    .await
}

fn threads(processor: &Processor) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", processor.pid())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}
