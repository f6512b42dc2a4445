//! The names of the fields for which the server refused a document, from its explanation (`errInfo`; MongoDB manual,
//! "Schema Validation"). The explanation quotes values too: these are never read.

use std::collections::BTreeSet;

use bson::{Bson, Document};

/// The largest number of names that are told.
const NAMED: usize = 10;
/// The longest name that is told, in characters.
const LONGEST: usize = 60;
/// How deep an explanation is read.
const DEPTH: usize = 20;

/// The parts of an explanation that have further parts.
const PARTS: [&str; 7] = [
    "details",
    "schemaRulesNotSatisfied",
    "propertiesNotSatisfied",
    "clausesNotSatisfied",
    "schemasNotSatisfied",
    "clausesSatisfied",
    "schemasSatisfied",
];
/// The lists of names in an explanation.
const NAMES: [&str; 2] = ["missingProperties", "additionalProperties"];

/// The fields that an explanation names, in the order of their names; ten at most, then the number of the others. A field
/// of an object has the name of the object before it.
pub(super) fn named_fields(explanation: &Document) -> Vec<String> {
    let mut found = BTreeSet::new();
    collect(explanation, "", DEPTH, &mut found);
    let more = found.len().saturating_sub(NAMED);
    let mut names: Vec<String> = found.into_iter().take(NAMED).collect();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names
}

fn collect(part: &Document, inside: &str, depth: usize, found: &mut BTreeSet<String>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let path = |name: &str| {
        let name: String = name.chars().take(LONGEST).collect();
        if inside.is_empty() { name } else { format!("{inside}.{name}") }
    };
    for name in NAMES.iter().filter_map(|list| part.get_array(list).ok()).flatten().filter_map(Bson::as_str) {
        found.insert(path(name));
    }
    // An operator of a query, such as `$ne`, names its field before its operands. A schema's rule has no `$`.
    if part.get_str("operatorName").is_ok_and(|operator| operator.starts_with('$') && operator != "$jsonSchema") {
        let fields = part.get_document("specifiedAs").into_iter().flat_map(Document::keys);
        found.extend(fields.filter(|name| !name.starts_with('$')).map(|name| path(name)));
    }
    let own = part.get_str("propertyName").ok().map(path);
    let before = found.len();
    let below = own.as_deref().unwrap_or(inside);
    for further in PARTS.iter().filter_map(|name| part.get(name)) {
        let documents = match further {
            Bson::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        documents.iter().filter_map(Bson::as_document).for_each(|further| collect(further, below, depth, found));
    }
    // The field itself is told only where no field inside it is.
    if let Some(own) = own.filter(|_| found.len() == before) {
        found.insert(own);
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn fields_are_named_with_their_path_and_no_value_is() {
        let explanation = doc! { "failingDocumentId": "secret", "details": { "operatorName": "$jsonSchema",
        "schemaRulesNotSatisfied": [
            { "operatorName": "properties", "propertiesNotSatisfied": [
                { "propertyName": "offer_title", "details": [
                    { "operatorName": "bsonType", "specifiedAs": { "bsonType": "string" }, "consideredValue": "secret" },
                ] },
                { "propertyName": "offer_status_history", "details": [{ "operatorName": "items", "itemIndex": 0,
                    "details": [{ "operatorName": "required", "missingProperties": ["granted_by"] }] }] },
            ] },
            { "operatorName": "required", "specifiedAs": { "required": ["x"] }, "missingProperties": ["partner_label"] },
            { "operatorName": "additionalProperties", "additionalProperties": ["mer_sent"] },
        ] } };
        let wanted = ["mer_sent", "offer_status_history.granted_by", "offer_title", "partner_label"];
        assert_eq!(named_fields(&explanation), wanted);
    }

    #[test]
    fn the_field_of_a_query_operator_is_named() {
        let clause = doc! { "operatorName": "$ne", "specifiedAs": { "offer_title": { "$ne": "secret" } } };
        let both = doc! { "operatorName": "$and", "clausesNotSatisfied": [{ "index": 0, "details": clause }] };
        assert_eq!(named_fields(&doc! { "details": both }), ["offer_title"]);
    }

    #[test]
    fn the_number_and_the_length_of_the_names_are_bounded() {
        let many: Vec<String> = (10..40).map(|number| format!("{number}{}", "x".repeat(1_000))).collect();
        let names = named_fields(&doc! { "details": { "missingProperties": many } });
        assert_eq!((names.len(), names.last().unwrap().as_str()), (NAMED + 1, "and 20 more"));
        assert!(names.iter().all(|name| name.chars().count() <= LONGEST));
    }
}
