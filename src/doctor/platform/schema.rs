//! The validator of `jobs_partners` as it is now: its action and level, and the fields that the service writes and the
//! validator does not name (spec 09, "The target's schema decides").

use bson::{Bson, Document, doc};
use serde_json::json;

use super::super::Check;
use super::Part;
use crate::context::Context;
use crate::error::Failure;
use crate::model::names::OFFERS;
use crate::mongo::deadline::with_deadline;
use crate::project::WRITTEN;

/// The fields that the service writes only when it creates an offer (spec 02).
const CREATED_ONLY: [&str; 11] = [
    "stats_detail_view",
    "stats_search_view",
    "stats_postuler",
    "offer_status_history",
    "offer_multicast",
    "workplace_description",
    "contract_remote",
    "workplace_address_street_label",
    "workplace_name",
    "workplace_website",
    "apply_url",
];

/// The validator of a collection with its options.
#[derive(Debug, Default)]
struct Schema {
    validator: Document,
    /// `error` or `warn`.
    action: String,
    /// `strict`, `moderate` or `off`.
    level: String,
}

pub(super) async fn part(context: &Context) -> Result<Part, Failure> {
    let schema = read(context).await?;
    let (closed, unnamed) = (schema.is_closed(), schema.unnamed());
    let types = schema.names_of("managed_by", "bsonType");
    let pending = schema.names_of("offer_status", "enum").is_some_and(|values| values.contains("Pending"));
    let facts = json!({
        "has_validator": !schema.validator.is_empty(), "validation_action": schema.action,
        "validation_level": schema.level, "additional_properties": !closed, "unnamed_fields": unnamed,
        "managed_by_type": types, "names_pending": pending,
    });
    Ok(Part { name: "schema", checks: vec![told(&schema, closed, &unnamed, types.as_deref(), pending)], facts })
}

fn told(schema: &Schema, closed: bool, unnamed: &[&str], types: Option<&str>, pending: bool) -> Check {
    if schema.validator.is_empty() {
        return Check::ok("schema", format!("{OFFERS} has no validator"));
    }
    let unknown = match (closed, schema.action.as_str()) {
        (false, _) => "allows",
        (true, "warn") => "only warns about",
        (true, _) => "refuses",
    };
    let found = format!(
        "the validator of {OFFERS} {unknown} fields that it does not name; validationAction {}, validationLevel {}; \
         managed_by is {}; Pending is {}a status",
        schema.action,
        schema.level,
        types.unwrap_or("of any type"),
        if pending { "" } else { "not " }
    );
    if unnamed.is_empty() {
        return Check::ok("schema", found);
    }
    let found = format!("{found}; it does not name {}", unnamed.join(", "));
    let remedy = if schema.action == "error" {
        "add these fields to the platform's model of jobs_partners; `stream-processor setup` adds them to the validator \
         until the next start of the platform's server"
    } else {
        "add these fields to the platform's model of jobs_partners; until then the server only warns about them in its log"
    };
    Check::warning("schema", found, remedy)
}

async fn read(context: &Context) -> Result<Schema, Failure> {
    let command = doc! { "listCollections": 1, "filter": { "name": OFFERS } };
    let reply = with_deadline(context.database.run_command(command)).await.map_err(Failure::Read)?;
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let batch = batch.map_err(|_| Failure::Reply("cursor.firstBatch"))?;
    let options = batch.first().and_then(Bson::as_document).and_then(|found| found.get_document("options").ok());
    let Some(options) = options else { return Ok(Schema::default()) };
    let text = |name: &str, default: &str| options.get_str(name).unwrap_or(default).to_owned();
    Ok(Schema {
        validator: options.get_document("validator").cloned().unwrap_or_default(),
        action: text("validationAction", "error"),
        level: text("validationLevel", "strict"),
    })
}

impl Schema {
    fn properties(&self) -> Option<&Document> {
        self.validator.get_document("$jsonSchema").ok()?.get_document("properties").ok()
    }

    /// True when the server checks, and refuses or reports, fields that the validator does not name.
    fn is_closed(&self) -> bool {
        let schema = self.validator.get_document("$jsonSchema");
        self.level != "off"
            && schema.is_ok_and(|schema| schema.get("additionalProperties") == Some(&Bson::Boolean(false)))
    }

    /// The fields that the service writes and a closed validator does not name, in the order of spec 02.
    fn unnamed(&self) -> Vec<&'static str> {
        let Some(properties) = self.properties().filter(|_| self.is_closed()) else { return Vec::new() };
        let written = WRITTEN.iter().map(|name| name.as_str()).chain(CREATED_ONLY);
        written.filter(|name| !properties.contains_key(name)).collect()
    }

    /// The texts under `key` of a property, joined by commas; `None` where the property has none.
    fn names_of(&self, property: &str, key: &str) -> Option<String> {
        let names = match self.properties()?.get_document(property).ok()?.get(key)? {
            Bson::Array(names) => names.iter().filter_map(Bson::as_str).collect::<Vec<_>>().join(", "),
            Bson::String(name) => name.clone(),
            _ => return None,
        };
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(level: &str, additional: bool) -> Schema {
        let mut properties: Document = WRITTEN.iter().map(|name| (name.to_string(), doc! {}.into())).collect();
        properties.extend(CREATED_ONLY.map(|name| (name.to_owned(), doc! {}.into())));
        properties.remove("mer_sent");
        properties.insert("managed_by", doc! { "bsonType": ["objectId", "null"] });
        let validator = doc! { "$jsonSchema": { "additionalProperties": additional, "properties": properties } };
        Schema { validator, action: "error".to_owned(), level: level.to_owned() }
    }

    #[test]
    fn only_a_closed_validator_that_is_in_force_leaves_fields_unnamed() {
        assert_eq!(schema("strict", false).unnamed(), ["mer_sent"]);
        assert!(schema("off", false).unnamed().is_empty() && schema("strict", true).unnamed().is_empty());
        assert_eq!(schema("strict", false).names_of("managed_by", "bsonType").as_deref(), Some("objectId, null"));
    }
}
