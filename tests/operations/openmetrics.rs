//! `/metrics` as OpenMetrics: what a client that asks for it gets, compressed and not, and what a real Prometheus takes.

use std::io::Read as _;

use flate2::read::GzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

use super::alerts::Prometheus;
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_openmetrics_gets_it_compressed_if_it_wants_and_others_get_what_they_always_got() {
    let test = TestDatabase::create("openmetrics_text").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    // A batch is measured right after its checkpoint.
    let names_of = ["stream_processor_end_to_end_seconds_bucket", "stream_processor_batch_duration_seconds_bucket"];
    eventually(PATIENCE, "both histograms have an exemplar", async || {
        let text = String::from_utf8(get(&processor, OPEN_METRICS, "identity").await.2).unwrap();
        let has = |name: &&str| text.lines().any(|line| line.starts_with(*name) && line.contains("# {position=\"20"));
        names_of.iter().all(has).then_some(())
    })
    .await;

    let (kind, encoding, classic) = get(&processor, "*/*", "identity").await;
    assert_eq!((kind.as_str(), encoding.as_str()), ("text/plain; version=0.0.4; charset=utf-8", ""));
    let classic = String::from_utf8(classic).unwrap();
    assert!(!classic.contains("# EOF") && !classic.contains(" # {"), "{classic}");
    assert!(classic.contains("# TYPE stream_processor_events_total counter"), "{classic}");

    let (kind, encoding, open) = get(&processor, OPEN_METRICS, "identity").await;
    assert_eq!((kind.as_str(), encoding.as_str()), ("application/openmetrics-text; version=1.0.0; charset=utf-8", ""));
    let open = String::from_utf8(open).unwrap();
    assert!(open.ends_with("\n# EOF\n") && open.matches("# EOF").count() == 1, "{open}");
    assert!(open.contains("# TYPE stream_processor_events counter\n"), "{open}");
    assert!(open.contains("stream_processor_end_to_end_seconds_bucket{le=\"5.0\"}"), "{open}");
    assert!(!open.contains(PERSONAL) && !open.contains('@'), "{open}");
    assert_eq!(names(&classic), names(&open), "both have the same metrics");

    let (_, encoding, compressed) = get(&processor, OPEN_METRICS, "gzip").await;
    assert_eq!(encoding, "gzip");
    assert!(compressed.len() < open.len() / 2, "{} of {}", compressed.len(), open.len());
    let mut text = String::new();
    GzDecoder::new(&compressed[..]).read_to_string(&mut text).unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_stores_the_exemplars() {
    let test = TestDatabase::create("openmetrics_prometheus").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let prometheus = Prometheus::start(&[&processor], &["--enable-feature=exemplar-storage"]);
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    settled(&test.database).await;
    for name in ["stream_processor_end_to_end_seconds_bucket", "stream_processor_batch_duration_seconds_bucket"] {
        let stored = eventually(PATIENCE, "an exemplar is stored", async || {
            let path = format!("/api/v1/query_exemplars?query={name}&start=0&end=9999999999");
            let found = prometheus.get(&path).await;
            found.pointer("/0/exemplars/0").cloned()
        })
        .await;
        let labels = stored["labels"].as_object().unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["position"], "{stored}");
        let position = labels["position"].as_str().unwrap();
        // Whoever sees the point can look again at what came from there on.
        let replay = ["replay", "--from", position, "--dry-run", "--json"];
        assert_eq!(Processor::command(&replay, &test, &[]).await.code, 0, "{position}");
    }
    let targets = prometheus.get("/api/v1/targets").await;
    assert_eq!(targets["activeTargets"][0]["health"], Value::from("up"), "{targets}");
    stopped(processor).await;
}

/// Content type, content encoding and body.
async fn get(processor: &Processor, accept: &str, encoding: &str) -> (String, String, Vec<u8>) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.get(processor.url("/metrics")).header(ACCEPT, accept).header(ACCEPT_ENCODING, encoding);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let header = |name| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (kind, encoding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
    (kind, encoding, answer.bytes().await.unwrap().to_vec())
}

/// The names of the series.
fn names(text: &str) -> std::collections::BTreeSet<&str> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect()
}
