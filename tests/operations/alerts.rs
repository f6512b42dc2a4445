//! A real Prometheus that scrapes two instances: its tool tests the rules, the server answers every query of the alerts
//! and of the dashboard, and each alert has its section in the runbook.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use xtask::debian::find_prometheus;
use xtask::guarded::{GuardedProcess, TemporaryFolder};
use xtask::ports::free_port;

use super::dashboard;
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::started;
use crate::support::waiting::{PATIENCE, caught_up, eventually};

const RULES: &str = "prometheus/alerts.yaml";
const RULES_TESTS: [&str; 2] = ["prometheus/alerts_test.yaml", "prometheus/alerts_long_test.yaml"];

#[test]
fn each_alert_fires_and_does_not_fire() {
    let tool = find_prometheus().unwrap().tool;
    let tested = Command::new(tool).args(["test", "rules"]).args(RULES_TESTS.map(deploy)).output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    let tests = fs::read_to_string(deploy(RULES_TESTS[0])).unwrap();
    let rules = fs::read_to_string(deploy(RULES)).unwrap();
    let names = Regex::new("alert: (\\w+)").unwrap();
    for name in names.captures_iter(&rules).map(|found| found[1].to_owned()) {
        let quiet = format!("alertname: {name}\n        exp_alerts: []");
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
        assert!(tests.contains(&quiet) && tests.contains(&fires), "{name} is tested both ways");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_answers_what_the_alerts_and_the_dashboard_ask() {
    let test = TestDatabase::create("prometheus").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let (leader, standby) = (started(&test).await, started(&test).await);
    caught_up(&test.database).await;
    let prometheus = Prometheus::start(&[&leader, &standby], &[]);
    eventually(PATIENCE, "both are scraped, and a rate can be calculated", async || {
        let scraped = prometheus.query("count(rate(stream_processor_jobs_projected_total[5s]))").await;
        (scraped.pointer("/0/value/1")? == "2").then_some(())
    })
    .await;

    let runbook = fs::read_to_string(deploy("RUNBOOK.md")).unwrap();
    let documented = documented();
    let rules = prometheus.get("/api/v1/rules").await;
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let (recorded, rules): (Vec<&Value>, Vec<&Value>) = rules.iter().partition(|rule| rule["type"] == "recording");
    assert!(!recorded.is_empty(), "rules that are recorded");
    for rule in recorded {
        assert_documented(rule["query"].as_str().unwrap(), &documented);
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert!(rules.len() >= 14, "the alerts of the specification");
    for rule in &rules {
        let name = rule["name"].as_str().unwrap();
        let annotations = &rule["annotations"];
        assert!(annotations["summary"].is_string() && rule["labels"]["severity"].is_string(), "{name}");
        assert!(annotations["description"].as_str().unwrap().contains("$value"), "{name} tells the value");
        let link = annotations["runbook_url"].as_str().unwrap();
        assert!(link.ends_with(&format!("#{}", name.to_lowercase())), "{name} links to its section: {link}");
        let (_, section) =
            runbook.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("{name} in the runbook"));
        let section = section.split("\n## ").next().unwrap();
        assert!(["**Meaning.**", "**Output.**", "**Do.**"].iter().all(|part| section.contains(part)), "{name}");
        let expression = rule["query"].as_str().unwrap();
        prometheus.query(expression).await;
        assert_documented(expression, &documented);
    }
    let sections = runbook.matches("\n## StreamProcessor").count();
    assert_eq!(sections, rules.len(), "a section for each alert and no other");
    let firing = prometheus.get("/api/v1/alerts").await;
    let firing = firing["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
    let firing: Vec<&Value> = firing.map(|alert| &alert["labels"]["alertname"]).collect();
    assert!(firing.is_empty(), "a first start fires nothing: {firing:?}");

    let asked = dashboard::queries();
    assert!(asked.len() > 30, "{asked:?}");
    for expression in &asked {
        let everything = expression.replace("$deployment", ".*").replace("$instance", ".*");
        let answer = prometheus.query(&everything.replace("$__rate_interval", "10s")).await;
        let is_filtered = [" > ", " < ", " == "].iter().any(|comparison| expression.contains(comparison));
        let is_empty = answer.as_array().unwrap().is_empty();
        assert!(!is_empty || is_filtered || !prometheus.has_series(expression).await, "no answer: {expression}");
        assert_documented(expression, &documented);
    }
    let shown = asked.join(" ");
    let hidden: Vec<&String> = documented.iter().filter(|name| !shown.contains(name.as_str())).collect();
    assert!(hidden.is_empty(), "metrics that the dashboard does not show: {hidden:?}");
}

/// The names of the page of metrics.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let rows = Regex::new("(?m)^\\| `(stream_processor_\\w+)`").unwrap();
    rows.captures_iter(&page).map(|found| found[1].to_owned()).collect()
}

fn assert_documented(expression: &str, documented: &BTreeSet<String>) {
    let names = Regex::new("stream_processor_\\w+").unwrap();
    for name in names.find_iter(expression).map(|name| name.as_str()) {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_known = |name: &str| documented.contains(name);
        assert!(is_known(name) || of_histogram.is_some_and(is_known), "{name} is in docs/metrics.md");
    }
}

/// A file of `deploy/`.
pub(super) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// A server with our rules that scrapes every second.
pub(super) struct Prometheus {
    address: String,
    http: reqwest::Client,
    _process: GuardedProcess,
    // Last: the process writes into it.
    _folder: TemporaryFolder,
}

impl Prometheus {
    /// `arguments` are further ones of its command line.
    pub(super) fn start(instances: &[&Processor], arguments: &[&str]) -> Self {
        let folder = TemporaryFolder::create("stream-processor-prometheus-").unwrap();
        let targets: Vec<&str> = instances.iter().map(|instance| instance.address()).collect();
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{:?}]\nscrape_configs:\n  \
             - {{ job_name: stream-processor, static_configs: [{{ targets: {targets:?} }}] }}\n",
            deploy(RULES)
        );
        fs::write(folder.path().join("prometheus.yaml"), configuration).unwrap();
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let mut command = Command::new(find_prometheus().unwrap().server);
        command.current_dir(folder.path()).args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address={address}")).args(arguments);
        let log = folder.path().join("log");
        let process = GuardedProcess::start(&command, &log, &log).unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Self { address, http, _process: process, _folder: folder }
    }

    /// The `data` of an answer of its API.
    pub(super) async fn get(&self, path: &str) -> Value {
        eventually(PATIENCE, "Prometheus answers", async || {
            let answer = self.http.get(format!("http://{}{path}", self.address)).send().await.ok()?;
            // While it starts it says no.
            if answer.status() == 503 {
                return None;
            }
            let mut answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["status"], "success", "{path}: {answer}");
            Some(answer["data"].take())
        })
        .await
    }

    /// True if any metric that the expression names has a series. Most metrics with labels begin with their first value.
    async fn has_series(&self, expression: &str) -> bool {
        let names = Regex::new("(?:stream_processor_|process_)\\w+|\\bup\\b").unwrap();
        let names: Vec<&str> = names.find_iter(expression).map(|name| name.as_str()).collect();
        let series = self.query(&format!("{{__name__=~\"{}\"}}", names.join("|"))).await;
        !series.as_array().unwrap().is_empty()
    }

    /// The result of a query now.
    async fn query(&self, expression: &str) -> Value {
        let url = reqwest::Url::parse_with_params("http://any/api/v1/query", [("query", expression)]).unwrap();
        self.get(&format!("/api/v1/query?{}", url.query().unwrap())).await["result"].take()
    }
}
