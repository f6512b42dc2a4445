//! Compares a certificate with one that was made now, and names each kind that no longer holds. Pure code.

use bson::DateTime;
use serde::Serialize;
use serde_json::Value;

use super::document::Certificate;
use crate::model::time::is_ahead;

/// One thing that no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Broken {
    pub kind: &'static str,
    /// The place in the document, what the certificate says there, and what the database says.
    pub found: String,
}

/// The places of the document by kind. Later ones leave out what an earlier one has.
const KINDS: [(&str, &str); 14] = [
    ("/identity", "identity"),
    ("/service", "version of the service"),
    ("/phase", "phases"),
    ("/verification", "verification"),
    ("/present/sides/recruiters/digest", "digest of recruiters"),
    ("/present/sides/projected/digest", "digest of the projected offers"),
    ("/present/sides/stored/digest", "digest of the stored offers"),
    ("/present/sides/may_differ", "offers that may differ"),
    ("/present/", "counts"),
    ("/gaps", "gaps"),
    ("/dead_letters", "dead letters"),
    ("/only_in_recruiters", "only in recruiters"),
    ("/late_writes", "late writes"),
    ("/verdict", "verdict"),
];
/// What is another one each time; `position` and `made_at` have rules of their own.
const NOT_COMPARED: [&str; 5] = ["/made_at", "/digest", "/present/from", "/present/to", "/position"];

/// What of `certificate` no longer holds, by `now`, which was made at `time`.
#[must_use]
pub(crate) fn broken(certificate: &Certificate, now: &Certificate, time: DateTime) -> Vec<Broken> {
    let mut found = Vec::new();
    differing("", &certificate.as_value(), &now.as_value(), &mut |path, then, now| {
        let kind = KINDS.iter().find(|(place, _)| path.starts_with(place)).map_or("other", |(_, kind)| kind);
        found.push(Broken { kind, found: format!("{path}: {then} in the certificate, {now} in the database") });
    });
    let then = certificate.position.as_ref().map(|position| (position.time, position.increment, position.events));
    let position = now.position.as_ref().map(|position| (position.time, position.increment, position.events));
    if position < then {
        let text = format!("the position went back: {then:?} in the certificate, {position:?} in the database");
        found.push(Broken { kind: "position", found: text });
    }
    found.extend(made_at(certificate, time));
    found
}

/// A certificate is made after what it tells of, and not in the future.
fn made_at(certificate: &Certificate, now: DateTime) -> Option<Broken> {
    let broken = |found: &str| Some(Broken { kind: "made_at", found: format!("{}: {found}", certificate.made_at) });
    let Ok(made) = DateTime::parse_rfc3339_str(&certificate.made_at) else {
        return broken("not a time");
    };
    if is_ahead(made, now) {
        return broken("in the future");
    }
    let steps = certificate.phase.history.iter().filter_map(|step| step.at.as_deref());
    let ended = certificate.verification.as_ref().and_then(|last| last.ended.as_deref());
    let told = steps.chain(ended).filter_map(|at| DateTime::parse_rfc3339_str(at).ok()).max();
    if told.is_some_and(|told| is_ahead(told, made)) {
        return broken("before what it tells of");
    }
    None
}

/// Calls `told` with each place in which two values differ.
fn differing(path: &str, then: &Value, now: &Value, told: &mut impl FnMut(&str, &Value, &Value)) {
    if then == now || NOT_COMPARED.contains(&path) {
        return;
    }
    let null = Value::Null;
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
            for name in names {
                let [then, now] = [then, now].map(|fields| fields.get(name).unwrap_or(&null));
                differing(&format!("{path}/{name}"), then, now, told);
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            for place in 0..then.len().max(now.len()) {
                let [then, now] = [then, now].map(|items| items.get(place).unwrap_or(&null));
                differing(&format!("{path}/{place}"), then, now, told);
            }
        }
        _ => told(path, then, now),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::document::tests::sample;
    use super::*;

    fn read(value: &Value) -> Certificate {
        Certificate::parse(&value.to_string()).unwrap()
    }

    /// The places of all values that are no list and no object.
    fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                fields.iter().for_each(|(name, value)| leaves(&format!("{path}/{name}"), value, found));
            }
            Value::Array(items) if !items.is_empty() => {
                let items = items.iter().enumerate();
                items.for_each(|(place, value)| leaves(&format!("{path}/{place}"), value, found));
            }
            _ => found.push(path.to_owned()),
        }
    }

    fn another(value: &Value) -> Value {
        match value {
            Value::Number(number) => json!(number.as_i64().unwrap() + 1),
            Value::Bool(is) => json!(!is),
            Value::String(text) if text.len() == 64 => json!("7".repeat(64)),
            Value::Array(_) => json!([{ "obstacle": "x", "found": "x" }]),
            _ => json!("2026-11-05T12:00:00Z"),
        }
    }

    #[test]
    fn a_change_of_any_value_of_the_file_is_named_with_its_kind() {
        let time = DateTime::parse_rfc3339_str("2026-11-07T00:00:00Z").unwrap();
        let now = read(&sample());
        assert_eq!(broken(&now, &now, time), Vec::new());
        let mut places = Vec::new();
        leaves("", &sample(), &mut places);
        assert!(places.len() > 70, "{places:?}");
        // Another one each time. Their own rules are below.
        let free = ["/schema", "/digest", "/made_at", "/present/from", "/present/to"];
        for place in places.iter().filter(|place| !free.contains(&place.as_str())) {
            let mut forged = sample();
            let value = forged.pointer_mut(place).unwrap();
            let is_conditions = place.ends_with("/overridden");
            *value = if is_conditions { json!(["lag under 5 s"]) } else { another(value) };
            let named = broken(&read(&forged), &now, time);
            assert!(!named.is_empty() && named.iter().all(|one| one.kind != "other"), "{place}: {named:?}");
            assert_ne!(read(&forged).own_digest(), now.own_digest(), "{place}");
        }
        for (made, is_named) in [
            ("2026-11-06T12:00:00Z", false),
            ("2999-01-01T00:00:00Z", true),
            ("2001-01-01T00:00:00Z", true),
            ("x", true),
        ] {
            let mut forged = sample();
            forged["made_at"] = json!(made);
            let named = broken(&read(&forged), &now, time).iter().any(|one| one.kind == "made_at");
            assert_eq!(named, is_named, "{made}");
        }
        // The position moves on while the service runs.
        let mut later = sample();
        later["position"]["time"] = json!(6);
        assert_eq!(broken(&now, &read(&later), time), Vec::new());
    }
}
