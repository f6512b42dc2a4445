//! Documents whose `_id` is no ObjectId: they cannot be worked with, so each has a dead letter for as long as it is
//! there, whoever comes across it. The stream tells of those that change, the walks here of all the others.

use bson::{Bson, doc};

use crate::apply::executor::Apply;
use crate::error::Failure;
use crate::model::names::WatchedCollection;
use crate::model::other_id::OtherId;
use crate::model::other_id::key_text;
use crate::mongo::reads::{documents, find};
use crate::source::scan::{self, STEP};
use crate::write::dead_letters::EventPosition;

/// Where such documents are looked for: what is read, and our offers.
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

/// Of the documents of a collection, those that are ours to care for.
#[must_use]
pub(crate) fn filter(collection: WatchedCollection, partner_label: &str) -> bson::Document {
    match collection {
        WatchedCollection::Offers => doc! { "partner_label": partner_label },
        _ => bson::Document::new(),
    }
}

impl Apply {
    /// Writes letters about the next of these documents after `after`; gives back where that ended, `None` at the end.
    ///
    /// # Errors
    /// [`Failure::Read`]; as [`crate::write::command::update`].
    pub async fn note_others(
        &mut self,
        collection: WatchedCollection,
        filter: &bson::Document,
        after: Option<&OtherId>,
        position: &EventPosition,
    ) -> Result<(Option<OtherId>, u64), Failure> {
        let others = scan::others_after(&self.stages.database, collection.name(), filter, after).await?;
        if let Some(dry_run) = &mut self.stages.dry_run {
            dry_run.add_unusable(others.len() as u64);
        } else {
            let keys = others.iter().map(OtherId::text);
            self.stages.dead_letters.write_unusable(collection, keys, position).await?;
        }
        let count = others.len() as u64;
        Ok((others.into_iter().last(), count))
    }

    /// Looks at the next documents that such letters stand about, after `after`, where `wanted` selects them: the letters
    /// of those that are gone go too. Gives back the keys that were looked at and those of them that stand, none at the end.
    ///
    /// # Errors
    /// As [`Self::note_others`].
    pub async fn recheck_others(
        &mut self,
        collection: WatchedCollection,
        after: Option<&str>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Rechecked, Failure> {
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

/// What became of some letters.
#[derive(Debug)]
pub struct Rechecked {
    /// The last one that was looked at; `None` at the end.
    pub last: Option<String>,
    /// Those that stand.
    pub stand: Vec<String>,
}

/// The `_id` of a key; `None` where the text does not tell all of it: then its deletion, or an operator, ends the letter.
fn id_of(key: &str) -> Option<Bson> {
    let value: serde_json::Value = serde_json::from_str(key).ok()?;
    let id = Bson::try_from(value).ok()?;
    // Of the fields of a document the text does not keep the order.
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
