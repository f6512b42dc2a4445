//! What probes and Prometheus see (spec 06, "HTTP" and "Metrics"): roles, readiness with reasons through an outage
//! of the server, and the metrics that `docs/metrics.md` promises, no more and no fewer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bson::{Document, doc};
use mongodb::Database;
use serde_json::Value;
use stream_processor::inside::WRITTEN;
use xtask::mongod::{Options, ReplicaSet, unique_database_name};

use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter, with};
use crate::support::ticking::ON;
use crate::support::waiting::{PATIENCE, caught_up, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_and_a_standby_are_ready_and_the_standby_follows_a_clean_stop() {
    let test = TestDatabase::create("health_roles").await;
    // Nobody waits for such a lease to run out: the leader must give it back.
    let long = [("STREAM_PROCESSOR__LEASE__DURATION", "1h")];
    let mut first = Processor::start_ready(&test, &long).await;
    let second = Processor::start_ready(&test, &long).await;
    for (processor, role, leads) in [(&first, "leader", 1.0), (&second, "standby", 0.0)] {
        for path in ["/readyz", "/api/healthcheck"] {
            let (status, answer) = probe(processor, path).await;
            assert_eq!((status, &answer["ready"], &answer["role"]), (200, &true.into(), &role.into()), "{path}");
            assert_eq!(answer["reasons"], Value::Array(Vec::new()));
        }
        let (status, answer) = probe(processor, "/livez").await;
        assert_eq!((status, &answer["alive"]), (200, &true.into()));
        assert_eq!(processor.metric("stream_processor_leader").await, Some(leads));
    }
    assert!(probe(&first, "/readyz").await.1["lag_seconds"].is_number());
    assert!(probe(&second, "/readyz").await.1["lag_seconds"].is_null(), "a standby knows of no lag");
    let unknown = |value: Option<f64>| value.is_some_and(f64::is_nan);
    for gauge in ["lag_seconds", "checkpoint_age_seconds"] {
        let series = format!("stream_processor_{gauge}");
        assert!(!unknown(first.metric(&series).await), "{gauge} of the leader");
        assert!(unknown(second.metric(&series).await), "{gauge} of the standby: unknown is not 0");
    }

    let term = first.metric("stream_processor_lease_term").await.unwrap();
    first.sigterm();
    assert_eq!(first.until_ended().await.code, 0);
    until_answer(&second, "the standby leads", |status, answer| status == 200 && answer["role"] == "leader").await;
    assert_eq!(second.metric("stream_processor_leader").await, Some(1.0));
    assert_eq!(second.metric("stream_processor_lease_term").await, Some(term + 1.0));
    let recruiter = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    caught_up(&test.database).await;
    assert_eq!(offers::read(&test.database).await.len(), 1, "the new leader writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_ends_with_the_server_and_returns_with_it_and_nothing_is_lost() {
    let mut set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "health_outage").await;
    let processor = Processor::start_ready(&test, &[("STREAM_PROCESSOR__HEALTH__MAX_RETRY", "1s")]).await;
    let recruiters = test.collection("recruiters");
    let newcomers = || (0..300).map(|_| recruiter([job("Boulanger"), job("Pâtissier")]));

    // Nobody waits for these to be handled: what the outage cuts off must be made up for.
    recruiters.insert_many(newcomers()).await.unwrap();
    set.member(0).kill();
    let answer = until_answer(&processor, "readiness ends", |status, _| status == 503).await;
    assert_eq!(answer["ready"], Value::Bool(false));
    let reasons = answer["reasons"].as_array().unwrap();
    let advised = |reason: &Value| reason.as_str().is_some_and(|reason| reason.contains("; nothing to do"));
    assert!(!reasons.is_empty() && reasons.iter().all(advised), "{answer}");
    assert_eq!(probe(&processor, "/api/healthcheck").await.0, 503);
    assert_eq!(probe(&processor, "/livez").await.0, 200, "a restart of the service would not help");

    set.member(0).restart().unwrap();
    set.wait_until_healthy().unwrap();
    recruiters.insert_many(newcomers()).await.unwrap();
    until_answer(&processor, "readiness returns", |status, _| status == 200).await;
    caught_up(&test.database).await;
    assert_eq!(offers::read(&test.database).await.len(), 1_200);
    assert!(!processor.stderr().contains(PERSONAL), "personal data in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_those_that_the_documentation_lists() {
    let mut test = TestDatabase::create("health_metrics").await;
    // A name of its own for the connections of this service, to find its cursor by.
    let application = unique_database_name("metrics");
    test.uri.push_str(&format!("&appName={application}"));
    // It refuses an offer, and does not know some of the fields.
    let known = WRITTEN.iter().map(|name| name.as_str()).filter(|name| *name != "mer_sent").chain(["_id"]);
    let mut properties: Document = known.map(|name| (name.to_owned(), doc! {}.into())).collect();
    properties.insert("offer_title", doc! { "not": { "enum": ["Boulanger"] } });
    let refused = doc! { "$jsonSchema": { "additionalProperties": false, "properties": properties } };
    test.database.create_collection("jobs_partners").validator(refused).await.unwrap();
    let processor = Processor::start_ready(&test, &[ON]).await;

    // A metric with labels appears with its first value: let everything happen once.
    let skipped = [recruiter([]), with(recruiter([job("Pâtissier")]), doc! { "address": null })];
    let recruiters = test.collection("recruiters");
    recruiters.insert_many([recruiter([job("Boulanger")]), recruiter([job("Pâtissier")])]).await.unwrap();
    recruiters.insert_many(skipped).await.unwrap();
    caught_up(&test.database).await;
    let job = Processor::command(&["jobs", "run", "fill-missing-start-dates"], &test, &[]).await;
    assert_eq!(job.code, 0, "{}", job.stderr);
    interrupt_stream(&test.database, &application).await;
    eventually(PATIENCE, "the stream is opened again", async || {
        let (_, text) = processor.http_get("/metrics").await;
        text.contains("stream_processor_stream_restarts_total{").then_some(())
    })
    .await;

    let (status, text) = processor.http_get("/metrics").await;
    assert_eq!(status, 200);
    assert!(!text.contains(PERSONAL));
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let (served, documented) = (served(&text), documented(&page));
    let differs = |name: &&String| served.get(*name) != documented.get(*name);
    let different: BTreeSet<&String> = served.keys().chain(documented.keys()).filter(differs).collect();
    assert!(different.is_empty(), "served otherwise than documented: {different:?}");
}

/// Ends the `getMore` of one service on the server, as an operator may.
async fn interrupt_stream(database: &Database, application: &str) {
    let admin = database.client().database("admin");
    let reading = doc! { "$match": { "appName": application, "command.getMore": { "$exists": true } } };
    let operation = eventually(PATIENCE, "the service reads its stream", async || {
        let all = doc! { "$currentOp": { "allUsers": true } };
        let mut operations = admin.aggregate([all, reading.clone()]).await.unwrap();
        let found = operations.advance().await.unwrap();
        found.then(|| operations.deserialize_current().unwrap().get("opid").unwrap().clone())
    })
    .await;
    admin.run_command(doc! { "killOp": 1, "op": operation }).await.unwrap();
}

/// Type and names of labels, by name of metric.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// What `/metrics` serves, without what every process has.
fn served(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            metrics.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = of_histogram.filter(|name| metrics.contains_key(*name)).unwrap_or(name);
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
        metrics.get_mut(name).expect("a series has a type").1.extend(labels);
    }
    metrics.retain(|name, _| !name.starts_with("process_"));
    metrics
}

/// The rows `| name | type | labels | meaning |` of the page.
fn documented(page: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("a row of four columns: {row}") };
        assert!(!meaning.is_empty(), "{name} has no meaning");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`')).filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        let before = metrics.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        assert!(before.is_none(), "{name} is documented twice");
    }
    metrics
}

/// Status and JSON of a probe.
async fn probe(processor: &Processor, path: &str) -> (u16, Value) {
    let (status, body) = processor.http_get(path).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// Asks `/readyz` until the answer is as wanted.
async fn until_answer(processor: &Processor, what: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    eventually(PATIENCE, what, async || {
        let (status, answer) = probe(processor, "/readyz").await;
        wanted(status, &answer).then_some(answer)
    })
    .await
}
