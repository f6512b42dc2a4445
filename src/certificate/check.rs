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
