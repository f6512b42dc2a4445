//! Remembers the schema of the target for which offers were written last, across restarts. A change that makes existing
//! offers differ from their projections needs a resync (spec 09, "The target's schema decides").

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::STATE;
use crate::model::names::state_id::TARGET_SCHEMA;
use crate::model::{ManagedByType, TargetSchema};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::target::TargetState;

/// The part of a schema that decides what an offer looks like. Stored as the document `target_schema`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SchemaMemory {
    omitted: BTreeSet<String>,
    managed_by: String,
    has_pending: bool,
}

/// What the pipeline knows of the target's schema.
#[derive(Debug, Default)]
pub(crate) struct KnownSchema {
    /// The schema as it was stored last; `None` until it was read.
    pub stored: Option<SchemaMemory>,
    /// The state of the target of which the timeline knows; `None` until the first look.
    pub told: Option<TargetState>,
}

impl SchemaMemory {
    pub(super) fn of(schema: &TargetSchema) -> Self {
        Self {
            omitted: schema.omitted().iter().map(|field| (*field).to_owned()).collect(),
            managed_by: match schema.managed_by() {
                ManagedByType::String => "string".to_owned(),
                ManagedByType::ObjectId => "object_id".to_owned(),
            },
            has_pending: schema.has_pending(),
        }
    }

    /// Reads the stored schema; `None` if no leadership has stored one.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn read(database: &Database) -> Result<Option<Self>, Failure> {
        let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": TARGET_SCHEMA })).await;
        Ok(stored.map_err(Failure::Read)?.as_ref().map(Self::of_stored))
    }

    fn of_stored(stored: &Document) -> Self {
        let omitted = stored.get_array("omitted").into_iter().flatten().filter_map(Bson::as_str);
        Self {
            omitted: omitted.map(ToOwned::to_owned).collect(),
            managed_by: stored.get_str("managed_by").unwrap_or_default().to_owned(),
            has_pending: stored.get_bool("has_pending").unwrap_or_default(),
        }
    }

    pub(super) fn to_document(&self) -> Document {
        let omitted: Vec<&str> = self.omitted.iter().map(String::as_str).collect();
        doc! { "omitted": omitted, "managed_by": &self.managed_by, "has_pending": self.has_pending }
    }

    /// True if offers that were made for this schema differ from those that are made for `now`. A field that is omitted
    /// from now on makes no difference: nothing is compared that is not written.
    pub(super) fn differs_in_offers(&self, now: &Self) -> bool {
        let is_managed = !now.omitted.contains("managed_by");
        (is_managed && self.managed_by != now.managed_by)
            || self.has_pending != now.has_pending
            || !self.omitted.is_subset(&now.omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(omitted: &[&str], managed_by: &str, has_pending: bool) -> SchemaMemory {
        let omitted = omitted.iter().map(|field| (*field).to_owned()).collect();
        SchemaMemory { omitted, managed_by: managed_by.to_owned(), has_pending }
    }

    #[test]
    fn a_schema_differs_in_offers_where_it_has_more_fields_another_type_or_another_status() {
        let known = schema(&["mer_sent"], "string", false);
        assert_eq!(SchemaMemory::of_stored(&known.to_document()), known);
        for (now, differs) in [
            (known.clone(), false),
            (schema(&[], "string", false), true),
            (schema(&["mer_sent", "origin"], "string", false), false),
            (schema(&["mer_sent"], "object_id", false), true),
            (schema(&["mer_sent", "managed_by"], "object_id", false), false),
            (schema(&["mer_sent"], "string", true), true),
        ] {
            assert_eq!(known.differs_in_offers(&now), differs, "{now:?}");
        }
    }
}
