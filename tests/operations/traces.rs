//! Traces by OTLP over HTTP, received and decoded by a real HTTP server: their spans, what they do not say, and that nobody
//! waits for them.

use std::collections::BTreeSet;
use std::net::TcpListener;

use bson::doc;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};
use crate::support::web_server::{Answer, WebServer};

const ENDPOINT: &str = "STREAM_PROCESSOR__TRACES__ENDPOINT";
const ONE_IN: &str = "STREAM_PROCESSOR__TRACES__SAMPLE_ONE_IN";

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_a_job_and_a_command_are_a_trace_each_with_their_stages() {
    let test = TestDatabase::create("traces_all").await;
    let server = WebServer::start(|_, _| Answer::Say(200, String::new())).await;
    let endpoint = format!("{}/v1/traces", server.url());
    let settings = [(ENDPOINT, endpoint.as_str()), ("STREAM_PROCESSOR__LOG__LEVEL", "debug")];
    let processor = started_with(&test, &settings).await;
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    for command in [&["backfill"][..], &["jobs", "run", "cancel-expired-offers"]] {
        assert_eq!(Processor::command(command, &test, &[]).await.code, 0, "{command:?}");
    }
    let log = stopped(processor).await.stderr;
    // A line within a trace still names its deployment.
    let line = log.lines().find(|line| line.contains("\"message\":\"batch\"")).unwrap();
    assert!(line.contains("\"name\":\"deployment\"") && line.contains("\"instance\":"), "{line}");

    let spans = spans(&server);
    let stages = |root: &Span| -> BTreeSet<String> {
        let children = spans.iter().filter(|span| span.parent_span_id == root.span_id);
        children.map(|span| span.name.clone()).collect()
    };
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    let of_offer = ["read", "plan", "fetch", "project", "write", "checkpoint"].map(str::to_owned);
    let of_offer = BTreeSet::from(of_offer);
    let batch = roots.iter().find(|root| root.name == "batch" && stages(root) == of_offer);
    let batch = batch.unwrap_or_else(|| panic!("{spans:#?}"));
    assert_eq!((attribute(batch, "phase"), attribute(batch, "touches")), ("sync".to_owned(), "1".to_owned()));
    let backfill = roots.iter().find(|root| root.name == "backfill").unwrap();
    assert!(stages(backfill).is_superset(&BTreeSet::from(["fetch", "project"].map(str::to_owned))), "{backfill:#?}");
    let run = roots.iter().find(|root| root.name == "cancel-expired-offers").unwrap();
    assert_eq!((attribute(run, "outcome"), attribute(run, "matched")), ("done".to_owned(), "0".to_owned()));
    let names: BTreeSet<&str> = roots.iter().map(|root| root.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["backfill", "batch", "cancel-expired-offers", "resync"]), "no stage is alone");

    for asked in server.asked() {
        assert_eq!(
            (asked.path.as_str(), &asked.headers["content-type"]),
            ("/v1/traces", &"application/x-protobuf".parse().unwrap())
        );
        let text = format!("{:?}", ExportTraceServiceRequest::decode(&asked.bytes[..]).unwrap());
        assert!(!text.contains(PERSONAL) && !text.contains('@'), "{text}");
        for name in ["stream-processor", env!("CARGO_PKG_VERSION"), "service.instance.id", "development"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exemplar_names_the_trace_of_its_batch() {
    let test = TestDatabase::create("traces_exemplar").await;
    let server = WebServer::start(|_, _| Answer::Say(200, String::new())).await;
    let endpoint = format!("{}/v1/traces", server.url());
    let processor = started_with(&test, &[(ENDPOINT, &endpoint)]).await;
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    let accept = "application/openmetrics-text; version=1.0.0";
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let named = eventually(PATIENCE, "an exemplar names a trace", async || {
        let metrics = http.get(processor.url("/metrics")).header("accept", accept).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let (_, exemplar) = metrics.split_once("# {trace_id=\"")?;
        Some(exemplar.split_once('"')?.0.to_owned())
    })
    .await;
    stopped(processor).await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(spans(&server).iter().any(|span| span.name == "batch" && hex(&span.trace_id) == named), "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_or_silent_changes_nothing_and_one_trace_in_many_is_few() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let silent = WebServer::start(|_, _| Answer::Stall).await;
    let sampled = WebServer::start(|_, _| Answer::Say(200, String::new())).await;
    for (url, one_in) in [(format!("http://{nobody}/"), "1"), (silent.url(), "1"), (sampled.url(), "1000000")] {
        let test = TestDatabase::create("traces_down").await;
        let processor = started_with(&test, &[(ENDPOINT, &url), (ONE_IN, one_in)]).await;
        until_no_resync(&test.database).await;
        let recruiter = recruiter([job("Boulanger")]);
        test.collection("recruiters").insert_one(&recruiter).await.unwrap();
        settled(&test.database).await;
        let offer = doc! { "_id": first_job(&recruiter) };
        assert!(test.collection("jobs_partners").find_one(offer).await.unwrap().is_some(), "{url}");
        let log = stopped(processor).await.stderr;
        let dropped = log.matches("traces cannot be sent").count();
        // At the end of the process, nobody waits until a silent one is given up.
        assert!(dropped == 1 || (dropped == 0 && !url.contains(&nobody.to_string())), "it is told once: {log}");
    }
    assert!(sampled.asked().is_empty(), "of a few traces, none is chosen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_wants_a_key_gets_it_and_nobody_else_is_shown_it() {
    let test = TestDatabase::create("traces_key").await;
    let server = WebServer::start(|_, _| Answer::Say(200, String::new())).await;
    let endpoint = format!("{}/v1/traces", server.url());
    let headers = ("STREAM_PROCESSOR__TRACES__HEADERS", "authorization=Bearer%20c0ffee,x-team=lba");
    let settings = [(ENDPOINT, endpoint.as_str()), headers];
    let processor = started_with(&test, &settings).await;
    until_no_resync(&test.database).await;
    let shown = Processor::command(&["config", "show"], &test, &settings).await;
    assert!(shown.code == 0 && !shown.stdout.contains("c0ffee"), "{}", shown.stdout);
    let log = stopped(processor).await.stderr;
    assert!(!log.contains("c0ffee"), "{log}");
    let asked = server.asked();
    assert!(!asked.is_empty());
    for asked in asked {
        assert_eq!(asked.authorization.as_deref(), Some("Bearer c0ffee"));
        assert_eq!(asked.headers["x-team"], "lba");
    }
    let wrong = [(ENDPOINT, endpoint.as_str()), ("STREAM_PROCESSOR__TRACES__HEADERS", "c0ffee")];
    let refused = Processor::command(&["run"], &test, &wrong).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("traces.headers") && !refused.stderr.contains("c0ffee"), "{}", refused.stderr);
}

/// All spans that the server was sent.
fn spans(server: &WebServer) -> Vec<Span> {
    let requests = server.asked().into_iter().map(|asked| ExportTraceServiceRequest::decode(&asked.bytes[..]).unwrap());
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(AttributeValue::StringValue(text)) => text,
        Some(AttributeValue::IntValue(number)) => number.to_string(),
        other => panic!("{name}: {other:?} in {span:#?}"),
    }
}
