//! The configuration of Alertmanager: a real one mutes what has the same cause, so that one cause gives one page, and
//! nothing is muted that has its own cause.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};
use xtask::debian::find_alertmanager;
use xtask::guarded::{GuardedProcess, TemporaryFolder};
use xtask::ports::free_port;

use super::alerts::deploy;
use crate::support::waiting::{PATIENCE, eventually};

const CONFIGURATION: &str = "prometheus/alertmanager.yaml";

/// Alerts of one deployment at one time, and those among them that are told.
const CASES: [(&str, &[&str], &[&str]); 9] = [
    ("stalled", &["CheckpointStalled", "Lag", "LagHigh", "NotReady", "LatencyBurnFast"], &["CheckpointStalled"]),
    ("behind", &["Lag", "LagHigh", "NotReady", "LatencyBurnFast", "LatencyBurnSlow"], &["LagHigh"]),
    ("slow", &["LatencyBurnFast", "LatencyBurnSlow", "Lag"], &["LatencyBurnFast"]),
    ("dropped", &["SourceDropped", "NotReady", "DeadLetters"], &["SourceDropped", "DeadLetters"]),
    ("short oplog", &["OplogHeadroomLow", "OplogHeadroomCritical"], &["OplogHeadroomCritical"]),
    ("paused", &["Paused", "JobOverdue", "VerificationOverdue", "DeadLetters"], &["Paused", "DeadLetters"]),
    ("failing job", &["JobFailing", "JobOverdue", "EmailRefusals"], &["JobFailing", "EmailRefusals"]),
    (
        "leaderless",
        &["NoLeader", "Lag", "StandbyNotReady", "OplogHeadroomCritical"],
        &["NoLeader", "OplogHeadroomCritical"],
    ),
    (
        "other causes",
        &["Lag", "DeadLetters", "Divergence", "WriteErrors"],
        &["Lag", "DeadLetters", "Divergence", "WriteErrors"],
    ),
];

#[test]
fn amtool_accepts_the_configuration() {
    let tool = find_alertmanager().unwrap().tool;
    let checked = Command::new(tool).arg("check-config").arg(deploy(CONFIGURATION)).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cause_gives_one_page() {
    let rules = fs::read_to_string(deploy("prometheus/alerts.yaml")).unwrap();
    let names = Regex::new("- alert: StreamProcessor(\\w+)").unwrap();
    let all: Vec<&str> = names.captures_iter(&rules).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(
        CASES.iter().all(|(_, alerts, _)| alerts.iter().all(|name| all.contains(name))),
        "the rules have each name"
    );
    let everything = ("everything", all.as_slice(), ["Down"].as_slice());
    let (mut sent, mut expected) = (Vec::new(), BTreeSet::new());
    // Each case is a deployment of its own, so all of them fire at once, and none mutes anything of another.
    for (case, alerts, told) in CASES.into_iter().chain([everything]) {
        sent.extend(alerts.iter().map(|name| alert(case, name, job_of(name))));
        expected.extend(told.iter().map(|name| (case.to_owned(), (*name).to_owned())));
    }
    for name in &all {
        let alone = format!("only {name}");
        sent.push(alert(&alone, name, job_of(name)));
        expected.insert((alone, (*name).to_owned()));
    }
    // Another job is overdue for a cause of its own.
    sent.extend([alert("two jobs", "JobFailing", "verify"), alert("two jobs", "JobOverdue", "full-sync")]);
    expected.extend(["JobFailing", "JobOverdue"].map(|name| ("two jobs".to_owned(), name.to_owned())));
    // Alertmanager looks at alerts in the order in which they come. So once this one is muted, it has looked at all.
    sent.extend(["Lag", "Down"].map(|name| alert("the last", name, "")));
    expected.insert(("the last".to_owned(), "Down".to_owned()));

    let alertmanager = Alertmanager::start().await;
    alertmanager.send(&sent).await;
    let told = eventually(PATIENCE, "Alertmanager has looked at every alert", async || {
        let alerts = alertmanager.alerts().await;
        let told = alerts.iter().filter(|alert| alert["status"]["state"] == "active").map(identity);
        let told: BTreeSet<_> = told.collect();
        let has_looked = alerts.len() == sent.len() && !told.contains(&("the last".to_owned(), "Lag".to_owned()));
        has_looked.then_some(told)
    })
    .await;
    assert_eq!(told, expected, "{:?}", told.symmetric_difference(&expected).collect::<Vec<_>>());
}

fn job_of(name: &str) -> &'static str {
    if name.starts_with("Job") { "verify" } else { "" }
}

fn alert(deployment: &str, name: &str, job: &str) -> Value {
    json!({ "labels": { "alertname": format!("StreamProcessor{name}"), "deployment": deployment, "exported_job": job } })
}

/// The deployment and the name of an alert.
fn identity(alert: &Value) -> (String, String) {
    let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default();
    (label("deployment").to_owned(), label("alertname").trim_start_matches("StreamProcessor").to_owned())
}

/// A running Alertmanager with the configuration of the project.
struct Alertmanager {
    address: String,
    http: reqwest::Client,
    _process: GuardedProcess,
    // Last: the process writes into it.
    _folder: TemporaryFolder,
}

impl Alertmanager {
    async fn start() -> Self {
        let folder = TemporaryFolder::create("stream-processor-alertmanager-").unwrap();
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let mut command = find_alertmanager().unwrap().server();
        command.arg("--config.file").arg(deploy(CONFIGURATION)).arg("--storage.path").arg(folder.path().join("data"));
        command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
        let log = folder.path().join("log");
        let process = GuardedProcess::start(&command, &log, &log).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let alertmanager = Self { address, http, _process: process, _folder: folder };
        eventually(PATIENCE, "Alertmanager answers", async || {
            // What it cannot do it says before it ends; `unshare` and `mount` say that they may not make a namespace.
            let log = fs::read_to_string(&log).unwrap_or_default();
            assert!(!["err=", "unshare:", "mount:"].iter().any(|sign| log.contains(sign)), "{log}");
            alertmanager.http.get(alertmanager.path("status")).send().await.ok()
        })
        .await;
        alertmanager
    }

    fn path(&self, name: &str) -> String {
        format!("http://{}/api/v2/{name}", self.address)
    }

    async fn send(&self, alerts: &[Value]) {
        let sent = self.http.post(self.path("alerts")).json(alerts).send().await.unwrap();
        assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    }

    async fn alerts(&self) -> Vec<Value> {
        self.http.get(self.path("alerts")).send().await.unwrap().json().await.unwrap()
    }
}
