//! The dashboard: each query follows its variables, shows missing data as missing, and shares its axis with its like only.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use serde_json::Value;

use super::alerts::deploy;

/// The metrics that are 0 or 1.
const FLAGS: &str = "leader|ready|catching_up|mirroring|phase|verdict|build_info|target_fields_omitted";

#[test]
fn every_query_follows_both_variables_and_shows_missing_data_as_missing() {
    let selectors = Regex::new("(?:stream_processor_|process_)\\w+|\\bup\\b").unwrap();
    let variables = r#"deployment=~"$deployment",instance=~"$instance""#;
    for expression in queries().into_iter().chain(annotations()) {
        assert!(!expression.contains("vector("), "no data is not 0: {expression}");
        let selected = selectors.find_iter(&expression).count();
        assert_eq!(expression.matches(variables).count(), selected, "each selector has both variables: {expression}");
    }
}

#[test]
fn every_panel_has_one_unit() {
    for panel in panels() {
        let asked = expressions(&panel);
        let kinds: BTreeSet<&str> = asked.iter().map(|expression| kind(expression)).collect();
        let title = &panel["title"];
        assert!(kinds.len() <= 1, "{title} mixes {kinds:?}: {asked:?}");
        let overrides = panel["fieldConfig"]["overrides"].as_array();
        assert!(overrides.is_none_or(Vec::is_empty), "{title} gives one of its series another unit");
        let Some(kind) = kinds.first() else { continue };
        let unit = match *kind {
            "flag" | "number" | "increase" | "cores" => "short",
            other => other,
        };
        assert_eq!(panel["fieldConfig"]["defaults"]["unit"], unit, "{title}: {kind}");
    }
}

/// The kind of value that a query gives: what may share an axis.
fn kind(expression: &str) -> &'static str {
    let matches = |pattern: &str| Regex::new(pattern).unwrap().is_match(expression);
    assert!(!matches("[*/] *[0-9]"), "the panel has the unit, and the query does not calculate with it: {expression}");
    if expression.starts_with("1 - ") {
        "percentunit"
    } else if matches("process_cpu_seconds_total") {
        "cores"
    } else if matches("^count\\(") {
        "flag"
    } else if matches("time\\(\\)|_seconds_bucket") {
        "s"
    } else if matches("increase\\(") {
        "increase"
    } else if matches("_events_(bucket|sum)") {
        "number"
    } else if matches("rate\\(") {
        "ops"
    } else if matches("_bytes") {
        "bytes"
    } else if matches("_seconds\\{") {
        "s"
    } else if matches(&format!("^\\w+(?: by \\([a-z, ]+\\) )?\\(stream_processor_(?:{FLAGS})\\{{")) {
        "flag"
    } else {
        "number"
    }
}

/// The queries of all panels.
pub(super) fn queries() -> Vec<String> {
    panels().iter().flat_map(expressions).collect()
}

fn annotations() -> Vec<String> {
    let listed = dashboard()["annotations"]["list"].take();
    listed.as_array().unwrap().iter().map(|query| query["expr"].as_str().unwrap().to_owned()).collect()
}

fn expressions(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

fn panels() -> Vec<Value> {
    dashboard()["panels"].as_array().unwrap().clone()
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(deploy("grafana/dashboard.json")).unwrap()).unwrap()
}
