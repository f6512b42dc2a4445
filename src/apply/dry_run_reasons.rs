//! The reasons for which a dry run would change fields of existing offers, counted by field.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::model::ids::JobId;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::documents;
use crate::project::diff::OfferChange;

/// The number of offers in which each field would change, by field and reason.
pub(crate) type FieldReasons = BTreeMap<String, BTreeMap<FieldReason, u64>>;

/// The reason why a field of an existing offer would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FieldReason {
    /// The offer does not have the field.
    Missing,
    /// The offer has null, and the projection has a value.
    Null,
    /// The value has another BSON type. All numbers count as one type, because they are compared by value.
    OtherType,
    /// The value is another one of the same type.
    OtherValue,
}

impl FieldReason {
    /// The name in the results of a dry run.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Null => "null",
            Self::OtherType => "other_type",
            Self::OtherValue => "other_value",
        }
    }

    /// The reason why `stored` would become `projected`, which differs from it.
    fn of(stored: Option<RawBsonRef<'_>>, projected: RawBsonRef<'_>) -> Self {
        let is_number = |value: RawBsonRef<'_>| {
            matches!(value, RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_))
        };
        match stored {
            None => Self::Missing,
            Some(RawBsonRef::Null) => Self::Null,
            Some(stored) if is_number(stored) && is_number(projected) => Self::OtherValue,
            Some(stored) if stored.element_type() != projected.element_type() => Self::OtherType,
            Some(_) => Self::OtherValue,
        }
    }
}

/// Counts the reasons of these changes. The existing offers are read again, with the changed fields only. A change of
/// an offer that is gone meanwhile has no reason.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn note_reasons(
    reasons: &mut FieldReasons,
    database: &CausalDatabase,
    changes: &[(JobId, OfferChange)],
) -> Result<(), Failure> {
    let updates: BTreeMap<JobId, &RawDocumentBuf> = changes
        .iter()
        .filter_map(|(id, change)| match change {
            OfferChange::Update { fields, .. } => Some((*id, fields)),
            OfferChange::Create | OfferChange::OtherLabel | OfferChange::Nothing => None,
        })
        .collect();
    let names: BTreeSet<&str> = updates.values().flat_map(|fields| names(fields)).collect();
    let ids: Vec<JobId> = updates.keys().copied().collect();
    let mut rest = ids.as_slice();
    let mut reader = ChunkReader::of_offer_fields(database, &names.into_iter().collect::<Vec<_>>());
    while let Some(batches) = reader.read_next(&mut rest).await? {
        for offer in documents(&batches) {
            let offer = offer?;
            let fields = offer.get_object_id("_id").ok().and_then(|id| updates.get(&JobId(id)));
            for (name, projected) in fields.into_iter().flat_map(|fields| fields.iter().flatten()) {
                let reason = FieldReason::of(offer.get(name.as_str()).ok().flatten(), projected);
                let of_field = reasons.entry(name.as_str().to_owned()).or_default();
                *of_field.entry(reason).or_default() += 1;
            }
        }
    }
    Ok(())
}

fn names(fields: &RawDocument) -> impl Iterator<Item = &str> {
    fields.iter().flatten().map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_another_type_is_another_value_and_null_is_a_reason_of_its_own() {
        let text = RawBsonRef::String("text");
        let cases = [
            (None, text, FieldReason::Missing),
            (Some(RawBsonRef::Null), text, FieldReason::Null),
            (Some(RawBsonRef::Int32(1)), text, FieldReason::OtherType),
            (Some(RawBsonRef::Int32(1)), RawBsonRef::Double(2.0), FieldReason::OtherValue),
            (Some(RawBsonRef::String("other")), text, FieldReason::OtherValue),
            (Some(text), RawBsonRef::Null, FieldReason::OtherType),
        ];
        for (stored, projected, reason) in cases {
            assert_eq!(FieldReason::of(stored, projected), reason, "{stored:?} {projected:?}");
        }
    }
}
