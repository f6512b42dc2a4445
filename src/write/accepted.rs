//! Changes a statement to what the schema of the target accepts (spec 09, "The target's schema decides").

use bson::raw::{CString, RawArrayBuf, cstr};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::statements::Statement;
use crate::model::target_schema::OnlyType;
use crate::model::{OfferStatus, TargetSchema};
use crate::project::closing::HISTORY;

impl Statement {
    /// The same statement as the target's schema accepts it: without the fields that the schema omits. An update also
    /// removes or converts what would keep the server from accepting it.
    #[must_use]
    pub(crate) fn accepted_by(self, schema: &TargetSchema) -> Self {
        if schema.omitted().is_empty() && schema.typed().is_empty() && !schema.refuses_pending() {
            return self;
        }
        let only_creates = self.only_creates();
        let mut body = RawDocumentBuf::new();
        for (name, value) in self.body.iter().flatten() {
            match value {
                RawBsonRef::Document(update) if name == cstr!("u") => {
                    let mut update = kept(update, schema);
                    // A statement that only creates must not change an existing offer.
                    if !schema.removed().is_empty() && !only_creates {
                        update.append(cstr!("$unset"), schema.removed().iter().fold(rawdoc! {}, unset));
                    }
                    body.append(name, update);
                }
                RawBsonRef::Array(stages) if name == cstr!("u") => {
                    let stages = stages.into_iter().flatten().filter_map(RawBsonRef::as_document);
                    let stages = stages.map(|stage| kept(stage, schema)).filter(|stage| !stage.is_empty());
                    let removed = schema.removed().iter().copied().collect::<RawArrayBuf>();
                    let removes = (!removed.is_empty()).then(|| rawdoc! { "$unset": removed });
                    // The conditions of the first stage are about the offer as it was compared.
                    let converts = conversions(schema);
                    body.append(name, stages.chain(converts).chain(removes).collect::<RawArrayBuf>());
                }
                value => body.append(name, value),
            }
        }
        Self { id: self.id, body }
    }
}

/// Makes the stage that brings the fields of an existing offer to the only type that the server accepts; `None` if there
/// is no such field, and that replaces `Pending` where the server refuses it. A value without an equal one of that type
/// stays, and so does a missing field.
fn conversions(schema: &TargetSchema) -> Option<RawDocumentBuf> {
    let mut set = RawDocumentBuf::new();
    for (name, only_type) in schema.typed() {
        let path = format!("${name}");
        let path = path.as_str();
        let converted = |to: &str| rawdoc! { "$convert": { "input": path, "to": to, "onError": path, "onNull": path } };
        let of_type = |name: &str| rawdoc! { "$eq": [{ "$type": path }, name] };
        let value = match only_type {
            OnlyType::Int32 => rawdoc! { "$let": {
                "vars": { "converted": converted("int") },
                "in": { "$cond": [{ "$eq": ["$$converted", path] }, "$$converted", path] },
            } },
            OnlyType::ObjectId => rawdoc! { "$cond": [of_type("string"), converted("objectId"), path] },
            OnlyType::Text => rawdoc! { "$cond": [of_type("objectId"), converted("string"), path] },
        };
        // The names come from the code and have no zero byte, so the conversion never fails.
        if let Ok(name) = CString::try_from(*name) {
            set.append(&name, value);
        }
    }
    if schema.refuses_pending() {
        let [pending, instead] = [OfferStatus::Pending.as_str(), schema.status(OfferStatus::Pending).as_str()];
        set.append(
            cstr!("offer_status"),
            rawdoc! { "$cond": [{ "$eq": ["$offer_status", pending] }, instead, "$offer_status"] },
        );
        let replaced = rawdoc! { "$mergeObjects": ["$$entry", { "status": instead }] };
        let entry = rawdoc! { "$cond": [{ "$eq": ["$$entry.status", pending] }, replaced, "$$entry"] };
        let entries = rawdoc! { "$map": { "input": "$offer_status_history", "as": "entry", "in": entry } };
        let is_list = rawdoc! { "$isArray": "$offer_status_history" };
        set.append(HISTORY, rawdoc! { "$cond": [is_list, entries, "$offer_status_history"] });
    }
    (!set.is_empty()).then(|| rawdoc! { "$set": set })
}

fn unset(mut fields: RawDocumentBuf, name: &&'static str) -> RawDocumentBuf {
    // The names come from the code and have no zero byte, so the conversion never fails.
    if let Ok(name) = CString::try_from(*name) {
        fields.append(&name, "");
    }
    fields
}

/// The same update, in which no operator names a field that the schema omits.
fn kept(update: &RawDocument, schema: &TargetSchema) -> RawDocumentBuf {
    let mut kept = RawDocumentBuf::new();
    for (operator, fields) in update.iter().flatten() {
        let mut written = RawDocumentBuf::new();
        let all = fields.as_document().into_iter().flat_map(|fields| fields.iter().flatten());
        for (name, value) in all.filter(|(name, _)| !schema.omits(name.as_str())) {
            written.append(name, value);
        }
        if !written.is_empty() {
            kept.append(operator, written);
        }
    }
    kept
}
