//! The chart and the overlays, as helm and kubectl render them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;
use xtask::kubernetes::find_programs;
use xtask::python::installed;

use super::repository;
use super::yaml::{documents, python};
use crate::support::dpkg::ended;

const ONE: &str = "values-one-instance.yaml";
const TWO: &str = "values-two-instances.yaml";
/// Has the schemas of Kubernetes.
const KUBERNETES_VALIDATE: &str = "kubernetes-validate==1.37.0";
/// Kinds of the Prometheus operator, whose schemas are not among those of Kubernetes.
const OF_AN_OPERATOR: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];

/// Values that are passed on as they are.
const WHOLE: [&str; 5] = ["settings", "resources", "nodeSelector", "tolerations", "podAnnotations"];

fn chart() -> PathBuf {
    repository().join("deploy/helm/stream-processor")
}

fn folder_of_programs() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The objects that the chart makes with these values.
fn rendered(values: &str, more: &[&str]) -> Vec<Value> {
    let mut helm = Command::new(find_programs(folder_of_programs()).unwrap().helm);
    helm.args(["template", "platform"]).arg(chart()).arg("--values").arg(chart().join(values)).args(more);
    let ended = ended(&mut helm);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    documents(&ended.stdout)
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind)
}

/// Each object is as its schema says, with no field that the schema does not know.
fn assert_valid(objects: &[Value]) {
    let known: Vec<&Value> =
        objects.iter().filter(|object| !OF_AN_OPERATOR.iter().any(|kind| object["kind"] == **kind)).collect();
    let packages = installed(KUBERNETES_VALIDATE, folder_of_programs()).unwrap();
    let script = "
import json, sys, kubernetes_validate
for document in json.load(sys.stdin):
    kubernetes_validate.validate(document, '1.33', strict=True)
";
    python(script, &packages, &serde_json::to_string(&known).unwrap());
}

#[test]
fn the_chart_makes_valid_objects_for_one_and_for_two_instances() {
    let mut lint = Command::new(find_programs(folder_of_programs()).unwrap().helm);
    let linted = ended(lint.args(["lint", "--strict"]).arg(chart()).arg("--values").arg(chart().join(TWO)));
    assert_eq!(linted.code, 0, "{}{}", linted.stdout, linted.stderr);

    let one = rendered(ONE, &[]);
    assert_valid(&one);
    assert_eq!(of_kind(&one, "Deployment").unwrap()["spec"]["replicas"], 1);
    assert!(of_kind(&one, "PodDisruptionBudget").is_none(), "it would keep the node from being drained");
    for kind in OF_AN_OPERATOR {
        assert!(of_kind(&one, kind).is_none(), "{kind} needs an operator");
    }

    let two = rendered(TWO, &["--set", "secret.jwtSecret=jwt-secret", "--set", "image.digest=sha256:0"]);
    assert_valid(&two);
    let deployment = of_kind(&two, "Deployment").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert!(of_kind(&two, "PodDisruptionBudget").is_some());
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "stream-processor@sha256:0");
    let variables = container["env"].as_array().unwrap();
    let value = |name: &str| variables.iter().find(|variable| variable["name"] == name).map(|found| &found["value"]);
    assert_eq!(
        value("STREAM_PROCESSOR__MAIL__LINKS__JWT_SECRET_FILE").unwrap(),
        "/run/secrets/stream-processor/jwt-secret"
    );
    let monitor = of_kind(&two, "ServiceMonitor").unwrap();
    assert_eq!(monitor["spec"]["jobLabel"], "app.kubernetes.io/name", "the alerts ask for this job");
    assert_eq!(monitor["spec"]["endpoints"][0]["relabelings"][0]["targetLabel"], "deployment");
}

#[test]
fn the_program_takes_the_configuration_that_the_chart_gives_it() {
    let two = rendered(TWO, &["--set-string", "settings.stream\\.batch_max=100"]);
    let container = &of_kind(&two, "Deployment").unwrap()["spec"]["template"]["spec"]["containers"][0];
    let folder = tempfile::tempdir().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_stream-processor"));
    check.args(["config", "check"]).env_clear();
    for variable in container["env"].as_array().unwrap() {
        let value = variable["value"].as_str().unwrap();
        let mounted = "/run/secrets/stream-processor";
        check.env(variable["name"].as_str().unwrap(), value.replace(mounted, folder.path().to_str().unwrap()));
    }
    fs::write(folder.path().join("mongodb-uri"), "mongodb://host/").unwrap();
    fs::write(folder.path().join("smtp-url"), "smtp://host").unwrap();
    let checked = ended(&mut check);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
}

#[test]
fn alerts_and_dashboard_of_the_chart_are_those_of_the_repository() {
    let two = rendered(TWO, &[]);
    let alerts = fs::read_to_string(repository().join("deploy/prometheus/alerts.yaml")).unwrap();
    let rule = of_kind(&two, "PrometheusRule").unwrap();
    assert_eq!(rule["spec"], documents(&alerts)[0]);
    let dashboard = fs::read_to_string(repository().join("deploy/grafana/dashboard.json")).unwrap();
    assert_eq!(of_kind(&two, "ConfigMap").unwrap()["data"]["stream-processor.json"], Value::from(dashboard));
}

#[test]
fn each_value_of_the_chart_is_explained_and_used_and_each_used_one_is_there() {
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values = documents(&text).remove(0);
    let mut templates = String::new();
    for entry in fs::read_dir(chart().join("templates")).unwrap() {
        templates += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    let named = Regex::new(r"\.Values\.([A-Za-z.]+)").unwrap();
    let used: BTreeSet<String> = named.captures_iter(&templates).map(|found| found[1].to_owned()).collect();
    let mut there = BTreeSet::new();
    for (name, value) in values.as_object().unwrap() {
        match value.as_object() {
            Some(fields) if !WHOLE.contains(&name.as_str()) => {
                there.extend(fields.keys().map(|field| format!("{name}.{field}")));
            }
            _ => drop(there.insert(name.clone())),
        }
    }
    assert_eq!(used, there);
    let (mut above, mut group) = ("", "");
    for line in text.lines() {
        let name = line.trim_start().split(':').next().unwrap();
        let is_key = line.contains(':') && !name.starts_with('#');
        if is_key && !line.starts_with(' ') {
            group = name;
        }
        // A group of explained values needs no word of its own.
        let is_group = line == format!("{group}:") && !WHOLE.contains(&group);
        let is_inside = line.starts_with(' ') && WHOLE.contains(&group);
        assert!(!is_key || is_group || is_inside || above.trim_start().starts_with('#'), "{name} is not explained");
        above = line;
    }
}

#[test]
fn the_overlays_make_valid_objects() {
    let kubectl = find_programs(folder_of_programs()).unwrap().kubectl;
    let overlay = |name: &str| {
        let folder = repository().join("deploy/kubernetes/overlays").join(name);
        let ended = ended(Command::new(&kubectl).arg("kustomize").arg(folder));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let objects = documents(&ended.stdout);
        assert_valid(&objects);
        objects
    };
    let (one, two) = (overlay("one-instance"), overlay("two-instances"));
    assert_eq!(of_kind(&one, "Deployment").unwrap()["spec"]["replicas"], 1);
    assert_eq!(of_kind(&two, "Deployment").unwrap()["spec"]["replicas"], 2);
    assert!(of_kind(&one, "PodDisruptionBudget").is_none() && of_kind(&two, "PodDisruptionBudget").is_some());
    assert!(of_kind(&one, "ServiceMonitor").is_none() && of_kind(&two, "ServiceMonitor").is_some());
}
