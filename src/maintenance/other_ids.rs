//! Dead letters about documents whose `_id` is no ObjectId. The service cannot work with such a document, so it has a
//! dead letter as long as it exists. The stream finds such documents when they change. The scans here find all of them.

use bson::{Bson, doc};

use crate::apply::executor::Apply;
use crate::interruption::Unfinished;
use crate::model::names::WatchedCollection;
use crate::model::other_id::OtherId;
use crate::model::other_id::key_text;
use crate::mongo::reads::{documents, find};
use crate::source::scan::{self, STEP};
use crate::write::dead_letters::EventPosition;

/// The collections that are scanned for such documents: all sources, and the offers.
pub(crate) const COLLECTIONS: [WatchedCollection; 8] = [
    WatchedCollection::Recruiters,
    WatchedCollection::AnonymizedRecruiters,
    WatchedCollection::Users,
    WatchedCollection::AnonymizedUsers,
    WatchedCollection::Cfas,
    WatchedCollection::RomeSheets,
    WatchedCollection::Engagements,
    WatchedCollection::Offers,
];

/// Returns the filter for the documents that are scanned: our offers only, and all documents of other collections.
#[must_use]
pub(crate) fn filter(collection: WatchedCollection, partner_label: &str) -> bson::Document {
    match collection {
        WatchedCollection::Offers => doc! { "partner_label": partner_label },
        _ => bson::Document::new(),
    }
}

impl Apply {
    /// Writes dead letters about the next of these documents after `after`. Returns the last `_id`, or `None` at the
    /// end of the scan, and the number of documents.
    ///
    /// # Errors
    /// A failed read; as [`crate::write::update_command::update`].
    pub(crate) async fn note_others(
        &mut self,
        collection: WatchedCollection,
        filter: &bson::Document,
        after: Option<&OtherId>,
        position: &EventPosition,
    ) -> Result<(Option<OtherId>, u64), Unfinished> {
        let others = scan::others_after(&self.stages.database, collection.name(), filter, after).await?;
        self.stages.output.note_unusable(others.len());
        let keys = others.iter().map(OtherId::text);
        self.stages.dead_letters.write_unusable(collection, keys, position).await?;
        let count = others.len() as u64;
        Ok((others.into_iter().last(), count))
    }

    /// Rechecks the next of these dead letters after the key `after`, as far as `wanted` selects them. The dead letters
    /// of deleted documents are removed.
    ///
    /// # Errors
    /// As [`Self::note_others`].
    pub(crate) async fn recheck_others(
        &mut self,
        collection: WatchedCollection,
        after: Option<&str>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Rechecked, Unfinished> {
        let mut keys = self.stages.dead_letters.unusable_after(collection, after, STEP as usize);
        let last = keys.last().cloned();
        keys.retain(|key| wanted(key));
        if keys.is_empty() {
            return Ok(Rechecked { last, stand: keys });
        }
        let ids: Vec<(&String, Bson)> = keys.iter().filter_map(|key| Some((key, id_of(key)?))).collect();
        let asked: Vec<&Bson> = ids.iter().map(|(_, id)| id).collect();
        let filter = doc! { "_id": { "$in": asked } };
        let batches = find(&self.stages.database, collection.name(), filter, doc! { "_id": 1 }).await?;
        let mut there = std::collections::BTreeSet::new();
        for document in documents(&batches) {
            there.extend(document?.get("_id").ok().flatten().and_then(key_text));
        }
        let absent: Vec<String> =
            ids.iter().filter(|(key, _)| !there.contains(*key)).map(|(key, _)| (*key).clone()).collect();
        for key in &absent {
            self.stages.dead_letters.remove_unusable(collection, key).await?;
        }
        keys.retain(|key| !absent.contains(key));
        Ok(Rechecked { last, stand: keys })
    }
}

/// The result of a recheck of some dead letters.
#[derive(Debug)]
pub(crate) struct Rechecked {
    /// The key of the last dead letter, selected or not; `None` when there is none left.
    pub(super) last: Option<String>,
    /// The keys of the selected dead letters that remain.
    pub(super) stand: Vec<String>,
}

/// Reads the `_id` back from a key; `None` if the key does not hold the whole `_id`. Such a dead letter ends only with
/// the event of the deletion, or when an operator drops it.
fn id_of(key: &str) -> Option<Bson> {
    let value: serde_json::Value = serde_json::from_str(key).ok()?;
    let id = Bson::try_from(value).ok()?;
    // A document as `_id` is left out: the text does not keep the order of its fields.
    let told = id.clone().into_relaxed_extjson().to_string();
    (!matches!(id, Bson::Document(_)) && told == key).then_some(id)
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, RawBson};

    use super::*;

    #[test]
    fn an_id_reads_back_from_its_key_or_is_not_looked_for() {
        for id in
            ["x".into(), Bson::Int32(7), Bson::Int64(1 << 40), Bson::DateTime(DateTime::from_millis(1)), Bson::Null]
        {
            let raw = RawBson::try_from(id.clone()).unwrap();
            assert_eq!(key_text(raw.as_raw_bson_ref()).as_deref().and_then(id_of), Some(id));
        }
        let long = RawBson::String("é".repeat(300));
        for key in [
            key_text(long.as_raw_bson_ref()).unwrap(),
            "bytes:0a0b".to_owned(),
            "{\"b\":1,\"a\":2}".to_owned(),
            "no JSON".to_owned(),
        ] {
            assert_eq!(id_of(&key), None, "{key}");
        }
    }
}
