//! The configuration of Alertmanager: `amtool` accepts it, one cause gives one page, and nothing is muted that has its own
//! cause. The rules are evaluated here, as Alertmanager does: its Debian package does not run where it is only unpacked.

use std::fs;
use std::process::Command;

use regex::Regex;
use xtask::debian::find_amtool;

use super::alerts::deploy;

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
    let checked = Command::new(find_amtool().unwrap()).arg("check-config").arg(deploy(CONFIGURATION)).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn one_cause_gives_one_page() {
    let rules = fs::read_to_string(deploy("prometheus/alerts.yaml")).unwrap();
    let names = Regex::new("- alert: StreamProcessor(\\w+)").unwrap();
    let all: Vec<&str> = names.captures_iter(&rules).map(|found| found.get(1).unwrap().as_str()).collect();
    let inhibitions = inhibitions();
    let everything = [("everything", all.as_slice(), ["Down"].as_slice())];
    for (case, alerts, expected) in CASES.into_iter().chain(everything) {
        assert!(alerts.iter().all(|name| all.contains(name)), "{case}");
        let firing: Vec<Alert> = alerts.iter().map(|name| Alert::of("production", name)).collect();
        let told: Vec<&str> = alerts
            .iter()
            .zip(&firing)
            .filter(|(_, alert)| !is_muted(alert, &firing, &inhibitions))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(told, expected, "{case}");
        // What another deployment has mutes nothing here.
        for alert in alerts.iter().map(|name| Alert::of("staging", name)) {
            assert!(!is_muted(&alert, &firing, &inhibitions), "{case}: {alert:?}");
        }
    }
    let (failing, other) = (Alert::of("production", "JobFailing"), Alert::job("production", "JobOverdue", "full-sync"));
    assert!(!is_muted(&other, &[failing], &inhibitions), "another job is overdue for a cause of its own");
}

/// The labels by which the rules tell alerts apart.
#[derive(Debug, PartialEq, Eq)]
struct Alert {
    name: String,
    deployment: String,
    job: String,
}

impl Alert {
    fn of(deployment: &str, name: &str) -> Self {
        Self::job(deployment, name, if name.starts_with("Job") { "verify" } else { "" })
    }

    fn job(deployment: &str, name: &str, job: &str) -> Self {
        Self { name: format!("StreamProcessor{name}"), deployment: deployment.to_owned(), job: job.to_owned() }
    }

    fn label(&self, label: &str) -> &str {
        match label {
            "alertname" => &self.name,
            "deployment" => &self.deployment,
            "exported_job" => &self.job,
            other => panic!("a rule asks for the label {other}"),
        }
    }
}

/// One matcher: label, operator and a pattern for the whole value.
type Matcher = (String, String, Regex);

struct Inhibition {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
}

/// True where an alert that fires mutes this one.
fn is_muted(target: &Alert, firing: &[Alert], inhibitions: &[Inhibition]) -> bool {
    let mutes = |rule: &Inhibition, source: &Alert| {
        let (mutes, is_target) = (matches(&rule.source, source), matches(&rule.target, target));
        // Of two alerts that match both sides, neither mutes the other.
        let is_both = matches(&rule.source, target) && matches(&rule.target, source);
        mutes && is_target && !is_both && rule.equal.iter().all(|label| source.label(label) == target.label(label))
    };
    inhibitions.iter().any(|rule| firing.iter().any(|source| mutes(rule, source)))
}

fn matches(matchers: &[Matcher], alert: &Alert) -> bool {
    matchers.iter().all(|(label, operator, value)| value.is_match(alert.label(label)) != operator.starts_with('!'))
}

/// The rules of the configuration, which has each of their three lists on one line.
fn inhibitions() -> Vec<Inhibition> {
    let text = fs::read_to_string(deploy(CONFIGURATION)).unwrap();
    let rule = "source_matchers: \\[(.*)\\]\\s+target_matchers: \\[(.*)\\]\\s+equal: \\[(.*)\\]";
    let matcher = Regex::new("'(\\w+)(=~|!~|!=|=)\"([^\"]*)\"'").unwrap();
    let matchers = |list: &str| {
        let of = |found: regex::Captures<'_>| {
            let pattern = if found[2].contains('~') { found[3].to_owned() } else { regex::escape(&found[3]) };
            (found[1].to_owned(), found[2].to_owned(), Regex::new(&format!("^(?:{pattern})$")).unwrap())
        };
        matcher.captures_iter(list).map(of).collect()
    };
    let labels = |list: &str| list.split(',').map(|label| label.trim().to_owned()).collect();
    let rules: Vec<Inhibition> = Regex::new(rule)
        .unwrap()
        .captures_iter(&text)
        .map(|found| Inhibition { source: matchers(&found[1]), target: matchers(&found[2]), equal: labels(&found[3]) })
        .collect();
    assert_eq!(rules.len(), text.matches("source_matchers").count(), "every rule is read");
    rules
}
