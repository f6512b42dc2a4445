//! Adds the new fields to the `$jsonSchema` of `jobs_partners`, and removes them again. Pure. The rest of the validator
//! and the order of its keys stay unchanged.

use bson::{Bson, Document, doc};

use super::new_fields::NEW;
use crate::model::target_schema::OnlyType;

const SCHEMA: &str = "$jsonSchema";
const PROPERTIES: &str = "properties";

/// The property of a new field in the schema. It has no type: values are copied as they are, and a wrong type in dirty
/// data must not keep an offer from being written (spec 02).
fn property() -> Bson {
    doc! { "description": "Added by stream-processor setup" }.into()
}

/// The new fields that this validator refuses. Only a schema with `additionalProperties: false` refuses any.
#[must_use]
pub fn refused(validator: &Document) -> Vec<&'static str> {
    let Ok(schema) = validator.get_document(SCHEMA) else { return Vec::new() };
    let is_closed = schema.get("additionalProperties") == Some(&Bson::Boolean(false));
    match schema.get_document(PROPERTIES) {
        Ok(known) if is_closed => NEW.into_iter().filter(|name| !known.contains_key(name)).collect(),
        _ => Vec::new(),
    }
}

/// The validator with these fields added.
#[must_use]
pub fn allowing(mut validator: Document, names: &[&str]) -> Document {
    if let Some(properties) = properties(&mut validator) {
        properties.extend(names.iter().map(|name| ((*name).to_owned(), property())));
    }
    validator
}

/// The validator with rules that also accept the values which convert to the only type of these fields.
#[must_use]
pub(crate) fn accepting(mut validator: Document, typed: &[(&'static str, OnlyType)]) -> Document {
    let Some(properties) = properties(&mut validator) else { return validator };
    for (name, only_type) in typed {
        let converts = match only_type {
            OnlyType::Int32 => {
                doc! { "bsonType": "number", "multipleOf": 1, "minimum": i32::MIN, "maximum": i32::MAX }
            }
            OnlyType::ObjectId => doc! { "bsonType": "string", "pattern": "^[0-9a-fA-F]{24}$" },
            OnlyType::Text => doc! { "bsonType": "objectId" },
        };
        if let Some(rules) = properties.remove(*name) {
            properties.insert(*name, doc! { "anyOf": [rules, converts] });
        }
    }
    validator
}

/// The validator without the properties that [`allowing`] added for these fields. A property that was changed since
/// then stays.
#[must_use]
pub fn refusing_again(mut validator: Document, names: &[String]) -> Document {
    if let Some(properties) = properties(&mut validator) {
        for name in names {
            if properties.get(name) == Some(&property()) {
                properties.remove(name);
            }
        }
    }
    validator
}

fn properties(validator: &mut Document) -> Option<&mut Document> {
    validator.get_document_mut(SCHEMA).ok()?.get_document_mut(PROPERTIES).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> Document {
        let properties = doc! { "_id": {}, "managed_by": { "bsonType": "string" }, "rank": {} };
        doc! { "$jsonSchema": { "additionalProperties": false, "properties": properties, "title": "x" }, "a": 1 }
    }

    #[test]
    fn what_is_allowed_and_taken_back_leaves_the_same_bytes() {
        let names = refused(&strict());
        assert!(names.contains(&"mer_sent") && !names.contains(&"managed_by"));
        let allowing = allowing(strict(), &names);
        assert!(refused(&allowing).is_empty());
        let names: Vec<String> = NEW.map(ToOwned::to_owned).to_vec();
        let bytes = |validator: &Document| bson::serialize_to_vec(validator).unwrap();
        assert_eq!(bytes(&refusing_again(allowing, &names)), bytes(&strict()));
    }

    #[test]
    fn a_validator_that_allows_unknown_fields_is_left_alone() {
        for validator in [doc! {}, doc! { "rank": 1 }, doc! { "$jsonSchema": { "properties": {} } }] {
            assert!(refused(&validator).is_empty(), "{validator}");
        }
    }

    #[test]
    fn a_property_that_somebody_wrote_anew_stays() {
        let mut validator = allowing(strict(), &["mer_sent"]);
        let anew = doc! { "bsonType": "date" };
        properties(&mut validator).unwrap().insert("mer_sent", anew);
        assert_eq!(refusing_again(validator.clone(), &["mer_sent".to_owned()]), validator);
    }
}
