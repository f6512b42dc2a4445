//! Compares offers with what is expected of them: numbers by value, null strictly against missing, dates
//! to the millisecond. Says which ids and fields differ and in what way, never the values: they are personal data.

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::golden::Expectation;

/// So many differences are printed; more say nothing new.
const SHOWN: usize = 40;
/// What only the creation of an offer writes, from a field of the job (spec 09, "Jobs, as they ran before").
const CREATED_ONLY: &str = "workplace_description";
/// What stands in place of an anonymised person's address (spec 03).
const ANONYMISED_EMAIL: &str = "anonymized@example.com";

/// All offers of the database, by id.
pub(crate) async fn read(database: &Database) -> BTreeMap<ObjectId, Document> {
    let offers = database.collection::<Document>("jobs_partners").find(doc! {}).await.unwrap();
    let offers: Vec<Document> = offers.try_collect().await.unwrap();
    offers.into_iter().map(|offer| (offer.get_object_id("_id").unwrap(), offer)).collect()
}

/// Checks every offer of the database against the golden expectation.
pub(crate) async fn assert_as_expected(database: &Database, expectation: &Expectation) {
    let mut actual = read(database).await;
    let mut faults = Vec::new();
    let anonymised = expectation.anonymised_if_present.iter().filter_map(|id| actual.remove_entry(id));
    faults.extend(anonymised.flat_map(|(id, offer)| anonymisation_faults(id, &offer)).collect::<Vec<_>>());
    let cancelled = expectation.cancelled_if_present.iter().filter_map(|id| actual.remove_entry(id));
    faults.extend(cancelled.flat_map(|(id, offer)| cancellation_faults(id, &offer)).collect::<Vec<_>>());
    // An offer stays as it is while its job cannot be projected any more, or not now (spec 02, spec 03).
    actual.retain(|id, _| !expectation.dead_letters.contains_key(id) && !expectation.skipped.contains(id));
    // Of what is left without an expectation the job must be gone.
    let expected_ids: BTreeSet<ObjectId> =
        expectation.offers.iter().flat_map(|offer| offer.get_object_id("_id")).collect();
    let gone: Vec<(ObjectId, Document)> = actual.extract_if(.., |id, _| !expected_ids.contains(id)).collect();
    faults.extend(gone.iter().flat_map(|(id, offer)| cancellation_faults(*id, offer)));
    faults.extend(actual.iter().flat_map(|(id, offer)| history_faults(*id, offer)));

    let without_history = |mut offer: Document| {
        offer.remove("offer_status_history");
        offer
    };
    // An expectation may leave out what only a creation writes.
    for offer in &expectation.offers {
        let actual = offer.get_object_id("_id").ok().and_then(|id| actual.get_mut(&id));
        if let Some(actual) = actual.filter(|_| !offer.contains_key(CREATED_ONLY)) {
            actual.remove(CREATED_ONLY);
        }
    }
    let expected = expectation.offers.iter().cloned().map(without_history);
    let expected = expected.map(|offer| (offer.get_object_id("_id").unwrap(), offer)).collect();
    let actual = actual.into_iter().map(|(id, offer)| (id, without_history(offer))).collect();
    faults.extend(differences(&expected, &actual));
    assert_none(&faults);
}

/// Checks that two sets of offers are the same.
pub(crate) fn assert_same(expected: &BTreeMap<ObjectId, Document>, actual: &BTreeMap<ObjectId, Document>) {
    assert_none(&differences(expected, actual));
}

/// One line per offer that is only on one side, and per field that differs.
pub(crate) fn differences(
    expected: &BTreeMap<ObjectId, Document>,
    actual: &BTreeMap<ObjectId, Document>,
) -> Vec<String> {
    let ids: BTreeSet<&ObjectId> = expected.keys().chain(actual.keys()).collect();
    let mut lines = Vec::new();
    for id in ids {
        match (expected.get(id), actual.get(id)) {
            (Some(_), None) => lines.push(format!("{id}: the offer is missing")),
            (None, Some(_)) => lines.push(format!("{id}: the offer should not be there")),
            (Some(expected), Some(actual)) => {
                let fields: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
                lines.extend(fields.into_iter().filter_map(|field| {
                    let difference = difference(expected.get(field), actual.get(field))?;
                    Some(format!("{id}: {field} {difference}"))
                }));
            }
            (None, None) => {}
        }
    }
    lines
}

/// In what way two values of a field differ; `None` where they do not.
pub(crate) fn difference(expected: Option<&Bson>, actual: Option<&Bson>) -> Option<&'static str> {
    match (expected, actual) {
        (Some(_), None) => Some("is missing"),
        (None, Some(_)) => Some("should not be there"),
        (Some(Bson::Null), Some(actual)) if *actual != Bson::Null => Some("should be null"),
        (Some(expected), Some(Bson::Null)) if *expected != Bson::Null => Some("is null"),
        (Some(expected), Some(actual)) if same(expected, actual) => None,
        (Some(expected), Some(actual)) if kind(expected) != kind(actual) => Some("has another type"),
        (Some(_), Some(_)) => Some("has another value"),
        (None, None) => None,
    }
}

fn same(left: &Bson, right: &Bson) -> bool {
    match (left, right) {
        (Bson::Document(left), Bson::Document(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|((name, left), (other, right))| name == other && same(left, right))
        }
        (Bson::Array(left), Bson::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => left == right,
            _ => left == right,
        },
    }
}

fn kind(value: &Bson) -> u8 {
    // One for all numbers: they are compared by value.
    number(value).map_or(value.element_type() as u8, |_| 0)
}

#[allow(clippy::cast_precision_loss, reason = "golden counts are far below 2^53")]
fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    }
}

/// `[]` if the status never changed; else the last entry tells it, and no two neighbours are equal.
pub(crate) fn history_faults(id: ObjectId, offer: &Document) -> Vec<String> {
    let Ok(history) = offer.get_array("offer_status_history") else {
        return vec![format!("{id}: offer_status_history is no list")];
    };
    let statuses: Vec<Option<&str>> = history.iter().map(|entry| entry.as_document()?.get_str("status").ok()).collect();
    let mut faults = Vec::new();
    if statuses.last().is_some_and(|last| *last != offer.get_str("offer_status").ok()) {
        faults.push(format!("{id}: the last entry of offer_status_history is not offer_status"));
    }
    if statuses.windows(2).any(|pair| pair[0] == pair[1]) {
        faults.push(format!("{id}: offer_status_history has two equal neighbours"));
    }
    faults
}

/// What is wrong with an offer whose job is gone.
pub(crate) fn cancellation_faults(id: ObjectId, offer: &Document) -> Vec<String> {
    let mut faults = history_faults(id, offer);
    if offer.get_str("offer_status").ok() != Some("Cancelled") {
        faults.push(format!("{id}: its job is gone but it is not cancelled"));
    }
    faults
}

/// What is wrong with an offer whose recruiter is anonymised.
pub(crate) fn anonymisation_faults(id: ObjectId, offer: &Document) -> Vec<String> {
    let mut faults = cancellation_faults(id, offer);
    let replaced: [(&str, Bson); 5] = [
        ("apply_email", ANONYMISED_EMAIL.into()),
        ("apply_phone", Bson::Null),
        ("apply_url", Bson::Null),
        ("offer_description", "".into()),
        ("workplace_description", Bson::Null),
    ];
    let wrong = replaced.iter().filter(|(field, value)| offer.get(field) != Some(value));
    faults.extend(wrong.map(|(field, _)| format!("{id}: {field} is not anonymised")));
    faults
}

fn assert_none(faults: &[String]) {
    let shown = faults.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(faults.is_empty(), "{} differences:\n  {shown}", faults.len());
}

#[test]
fn differences_name_ids_and_fields_but_no_values() {
    let id = ObjectId::new();
    let expected = BTreeMap::from([(id, doc! { "same": 1, "null": null, "text": "secret", "kind": "1", "gone": 1 })]);
    let actual =
        BTreeMap::from([(id, doc! { "same": 1.0, "text": "other", "null": "secret", "kind": 1_i64, "new": 1 })]);
    let lines = differences(&expected, &actual);
    let wanted = [
        "gone is missing",
        "kind has another type",
        "new should not be there",
        "null should be null",
        "text has another value",
    ];
    assert_eq!(lines, wanted.map(|line| format!("{id}: {line}")));
}

#[test]
fn missing_and_null_are_not_the_same() {
    assert_eq!(difference(Some(&Bson::Null), None), Some("is missing"));
    assert_eq!(difference(Some(&Bson::Int32(0)), Some(&Bson::Null)), Some("is null"));
    assert_eq!(difference(Some(&Bson::Null), Some(&Bson::Null)), None);
}
