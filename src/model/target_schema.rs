//! What the schema of `jobs_partners` allows (spec 09, "The target's schema decides"). The applications put their
//! validator back at every start, so it changes while the service runs. Pure code.

use bson::{Bson, Document};

use super::OfferStatus;

/// The BSON type of `managed_by` in offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManagedByType {
    /// Hex digits, as in the plan of the migration.
    #[default]
    String,
    ObjectId,
}

impl ManagedByType {
    /// The type in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::ObjectId => "an ObjectId",
        }
    }
}

/// The only type in which the server accepts a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnlyType {
    Int32,
    ObjectId,
    Text,
}

/// The parts of the target's schema that decide what is written. The default allows every field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetSchema {
    /// The fields that the service would write and the validator refuses.
    omitted: Vec<&'static str>,
    /// True when the server refuses each write of an offer that has one of these fields.
    refuses: bool,
    /// The fields that earlier versions and other writers store with several types, of which the server accepts one.
    typed: Vec<(&'static str, OnlyType)>,
    managed_by: ManagedByType,
    has_pending: bool,
    /// True when the server refuses each write of an offer that is or was `Pending`.
    refuses_pending: bool,
}

/// A validator and whether the server enforces it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Validator {
    /// The validator; empty where there is none.
    pub rules: Document,
    /// `error` or `warn`; empty where there is no validator.
    pub action: &'static str,
    /// `strict`, `moderate` or `off`; empty where there is no validator.
    pub level: &'static str,
}

impl Validator {
    /// True when the server checks documents by the rules at all.
    #[must_use]
    pub(crate) fn is_in_force(&self) -> bool {
        !self.rules.is_empty() && self.level != "off"
    }

    /// True when the server refuses also a change of a document that was against the rules before.
    #[must_use]
    pub(crate) fn is_strict(&self) -> bool {
        self.action == "error" && self.level == "strict"
    }

    /// True when the server refuses a new document that is against the rules.
    #[must_use]
    pub(crate) fn refuses_creations(&self) -> bool {
        self.action == "error" && self.level != "off"
    }
}

impl TargetSchema {
    /// Reads a validator. `managed_by` is the type in force, and `written` has the names of all fields that the service
    /// would write.
    #[must_use]
    pub(crate) fn read(
        validator: &Validator,
        managed_by: ManagedByType,
        written: impl Iterator<Item = &'static str> + Clone,
    ) -> Self {
        let schema = validator.rules.get_document("$jsonSchema").ok();
        let properties = schema.and_then(|schema| schema.get_document("properties").ok());
        let is_closed = validator.level != "off"
            && schema.is_some_and(|it| it.get("additionalProperties") == Some(&Bson::Boolean(false)));
        let is_refused = |name: &&str| is_closed && properties.is_some_and(|known| !known.contains_key(name));
        let names = written.clone();
        let omitted: Vec<&'static str> = written.filter(is_refused).collect();
        let refuses = validator.is_strict() && !omitted.is_empty();
        let only_type = |name: &'static str| Some((name, only_type(name, properties?.get_document(name).ok()?)?));
        let typed = if validator.is_strict() { names.filter_map(only_type).collect() } else { Vec::new() };
        let status = properties.and_then(|known| known.get_document("offer_status").ok());
        let of_history = properties.and_then(|known| {
            let entry = known.get_document("offer_status_history").ok()?.get_document("items").ok()?;
            entry.get_document("properties").ok()?.get_document("status").ok()
        });
        let lacks_pending = [status, of_history].into_iter().any(|status| names_pending(status) == Some(false));
        let refuses_pending = validator.is_strict() && lacks_pending;
        // An offer gets such a status together with an entry of its history.
        let has_pending = names_pending(status) == Some(true) && names_pending(of_history) != Some(false);
        Self { omitted, refuses, typed, managed_by, has_pending, refuses_pending }
    }

    /// True for a field that is left out of offers, because the validator would refuse it.
    #[must_use]
    pub fn omits(&self, field: &str) -> bool {
        self.omitted.contains(&field)
    }

    /// The names of the fields that are left out.
    #[must_use]
    pub fn omitted(&self) -> &[&'static str] {
        &self.omitted
    }

    /// The fields that an update must remove from an offer. Without that the server would refuse the update, because an
    /// earlier validator allowed these fields and the offer has them.
    #[must_use]
    pub fn removed(&self) -> &[&'static str] {
        if self.refuses { &self.omitted } else { &[] }
    }

    /// The fields that an update must bring to their only type. Without that the server would refuse the update, because
    /// it checks the whole offer, and the offer may hold the field in another type.
    #[must_use]
    pub(crate) fn typed(&self) -> &[(&'static str, OnlyType)] {
        &self.typed
    }

    /// The type of `managed_by` that is written.
    #[must_use]
    pub fn managed_by(&self) -> ManagedByType {
        self.managed_by
    }

    /// True when an update must replace the status `Pending`, also in the history. Without that the server would refuse
    /// the update, because an earlier validator allowed this status and the offer has it.
    #[must_use]
    pub(crate) fn refuses_pending(&self) -> bool {
        self.refuses_pending
    }

    /// True when the validator names the status `Pending`.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.has_pending
    }

    /// The status that is written for `status`: where the validator does not name `Pending`, such an offer is
    /// `Cancelled`.
    #[must_use]
    pub fn status(&self, status: OfferStatus) -> OfferStatus {
        if status == OfferStatus::Pending && !self.has_pending { OfferStatus::Cancelled } else { status }
    }
}

/// True when the enumeration of a status names `Pending`; `None` when there is no enumeration.
fn names_pending(status: Option<&Document>) -> Option<bool> {
    let statuses = status?.get_array("enum").ok()?;
    Some(statuses.contains(&OfferStatus::Pending.as_str().into()))
}

/// The type that a validator names for `managed_by`; `None` when it names none, or both.
#[must_use]
pub(crate) fn managed_by_type(validator: &Document) -> Option<ManagedByType> {
    let property = validator.get_document("$jsonSchema").ok()?.get_document("properties").ok()?;
    match only_type(MANAGED_BY, property.get_document(MANAGED_BY).ok()?)? {
        OnlyType::Text => Some(ManagedByType::String),
        OnlyType::ObjectId => Some(ManagedByType::ObjectId),
        OnlyType::Int32 => None,
    }
}

const MANAGED_BY: &str = "managed_by";

/// The only type that the rules of a field name; `None` when they name none or several, and for fields that no writer
/// stores with several types.
fn only_type(name: &str, property: &Document) -> Option<OnlyType> {
    let mut types = Vec::new();
    collect_types(property, &mut types);
    let any = |names: &[&str]| names.iter().any(|name| types.contains(name));
    let is_manager = name == MANAGED_BY;
    match (any(&["int"]), any(&["long", "double", "decimal", "number"]), any(&["string"]), any(&["objectId"])) {
        (true, false, false, false) => Some(OnlyType::Int32),
        (false, false, true, false) if is_manager => Some(OnlyType::Text),
        (false, false, false, true) if is_manager => Some(OnlyType::ObjectId),
        _ => None,
    }
}

/// Adds the names in `bsonType`, also those inside `anyOf`: the applications' models write nullable fields that way.
fn collect_types<'a>(property: &'a Document, types: &mut Vec<&'a str>) {
    match property.get("bsonType") {
        Some(Bson::String(name)) => types.push(name),
        Some(Bson::Array(names)) => types.extend(names.iter().filter_map(Bson::as_str)),
        _ => {}
    }
    for choices in ["anyOf", "oneOf"].into_iter().filter_map(|key| property.get_array(key).ok()) {
        choices.iter().filter_map(Bson::as_document).for_each(|choice| collect_types(choice, types));
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn of(rules: &Document) -> TargetSchema {
        let validator = Validator { rules: rules.clone(), action: "error", level: "strict" };
        TargetSchema::read(&validator, ManagedByType::String, ["offer_title", "mer_sent"].into_iter())
    }

    #[test]
    fn only_a_closed_schema_leaves_fields_out() {
        let read = |schema: Document| of(&doc! { "$jsonSchema": schema });
        let properties = doc! { "offer_title": {} };
        let closed = read(doc! { "additionalProperties": false, "properties": properties.clone() });
        assert!(closed.omits("mer_sent") && !closed.omits("offer_title"));
        for open in [doc! { "properties": properties }, doc! { "additionalProperties": false }, doc! {}] {
            assert!(!read(open.clone()).omits("mer_sent"), "{open}");
        }
        assert_eq!(closed.omitted(), ["mer_sent"]);
        assert!(!of(&doc! {}).omits("mer_sent"));
    }

    #[test]
    fn an_offer_is_pending_only_where_the_validator_names_that_status() {
        let status = |values: &[&str]| {
            let properties = doc! { "offer_status": { "enum": values.to_vec() } };
            of(&doc! { "$jsonSchema": { "properties": properties } }).status(OfferStatus::Pending)
        };
        assert_eq!(status(&["Active", "Pending"]), OfferStatus::Pending);
        assert_eq!(status(&["Active"]), OfferStatus::Cancelled);
        let of_history = doc! { "items": { "properties": { "status": { "enum": ["Active"] } } } };
        let known = doc! { "offer_status": { "enum": ["Active", "Pending"] }, "offer_status_history": of_history };
        let without_history = of(&doc! { "$jsonSchema": { "properties": known } });
        assert_eq!(without_history.status(OfferStatus::Pending), OfferStatus::Cancelled);
        assert_eq!(TargetSchema::default().status(OfferStatus::Filled), OfferStatus::Filled);
    }

    #[test]
    fn the_type_of_managed_by_is_what_the_validator_names_however_it_spells_it() {
        let named =
            |property: Document| managed_by_type(&doc! { "$jsonSchema": { "properties": { "managed_by": property } } });
        let object_id = Some(ManagedByType::ObjectId);
        assert_eq!(named(doc! { "bsonType": ["objectId", "null"] }), object_id);
        assert_eq!(named(doc! { "anyOf": [{ "bsonType": "objectId" }, { "bsonType": "null" }] }), object_id);
        assert_eq!(named(doc! { "bsonType": "string" }), Some(ManagedByType::String));
        assert_eq!(named(doc! { "bsonType": ["string", "objectId"] }), None);
        assert_eq!(named(doc! { "description": "any" }), None);
        assert_eq!(managed_by_type(&doc! {}), None);
    }
}
