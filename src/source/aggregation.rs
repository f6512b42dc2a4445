//! The aggregation pipeline of the change stream: it selects the events and thins them out (spec 03).
//! It matches on names only, because a match on content can make a token unfindable.

use std::hash::{DefaultHasher, Hash, Hasher};

use bson::{Bson, Document, doc};

use super::event::Operation;
use crate::model::names::WatchedCollection;

/// The greatest sum of the lengths of path names, in bytes. Beyond it an event has no names. So events stay far below
/// the server's limit of 16 MB. An update with more names would touch everything anyway.
const LONGEST_NAMES: i32 = 64 * 1024;

/// What a stream watches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched<'a> {
    pub(crate) collections: &'a [WatchedCollection],
    /// The label of our offers, where inserts of other offers are to be told apart ([`super::event::Event::is_foreign`]).
    pub(crate) own_label: Option<&'a str>,
    /// True where the server leaves out these inserts.
    pub(crate) omits_foreign: bool,
}

/// The stages after `$changeStream`.
#[must_use]
pub(crate) fn stages(watched: Watched<'_>) -> Vec<Document> {
    let mut stages = selecting(watched.collections);
    if let (Some(label), Some(shown)) = (watched.own_label, thin(&mut stages)) {
        shown.insert("foreign", is_foreign(label));
    }
    if watched.omits_foreign {
        // What an insert says never changes, so the position of the stream is found again in spite of this match.
        stages.push(doc! { "$match": { "foreign": { "$ne": true } } });
    }
    stages
}

/// The last stage, which names the fields of a thin event.
fn thin(stages: &mut [Document]) -> Option<&mut Document> {
    stages.last_mut()?.get_document_mut("$project").ok()
}

/// An expression that is true for an inserted offer under another label. So nobody has to read such an offer, and a
/// partner may import hundreds of thousands in a night. The event itself stays thin.
fn is_foreign(own_label: &str) -> Document {
    let label = "$fullDocument.partner_label";
    doc! { "$and": [
        { "$eq": ["$operationType", Operation::Insert.name()] },
        { "$eq": ["$ns.coll", WatchedCollection::Offers.name()] },
        { "$eq": [{ "$type": label }, "string"] },
        { "$ne": [label, { "$literal": own_label }] },
    ] }
}

/// The stages that select events, and show of each one what every stream wants.
fn selecting(collections: &[WatchedCollection]) -> Vec<Document> {
    let collections: Vec<&str> = collections.iter().map(|collection| collection.name()).collect();
    let operations: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
    // Events of the whole database (`dropDatabase`, `invalidate`) name no collection.
    let of_database =
        doc! { "operationType": { "$in": [Operation::DropDatabase.name(), Operation::Invalidate.name()] } };
    let keys = |path: &str| doc! { "$map": { "input": { "$objectToArray": path }, "in": "$$this.k" } };
    vec![
        doc! { "$match": { "$or": [
            { "ns.coll": { "$in": &collections }, "operationType": { "$in": operations } },
            // Another collection took the name of a watched one.
            { "to.coll": { "$in": &collections }, "operationType": Operation::Rename.name() },
            of_database,
        ] } },
        doc! { "$project": {
            "operationType": 1, "ns": 1, "to": 1, "documentKey": 1, "clusterTime": 1, "wallTime": 1,
            "updated": bounded(keys("$updateDescription.updatedFields").into()),
            "removed": bounded("$updateDescription.removedFields".into()),
            "truncated": bounded("$updateDescription.truncatedArrays.field".into()),
        } },
    ]
}

/// An expression that gives these names, or `true` where they are longer than [`LONGEST_NAMES`].
fn bounded(names: Bson) -> Document {
    let lengths = doc! { "$map": { "input": "$$names", "in": { "$strLenBytes": "$$this" } } };
    doc! { "$let": {
        "vars": { "names": { "$ifNull": [names, []] } },
        "in": { "$cond": [{ "$lte": [{ "$sum": lengths }, LONGEST_NAMES] }, "$$names", true] },
    } }
}

/// A text that is different for each pipeline. The server may refuse a token of another pipeline (error 280). So a
/// stream is opened by time after a checkpoint with another fingerprint (spec 03, "Own the cursor").
#[must_use]
pub(crate) fn fingerprint(collections: &[WatchedCollection]) -> String {
    // `DefaultHasher::new()` gives the same hash in every process of one build. Another compiler may give another hash:
    // that costs one opening by time.
    let mut hasher = DefaultHasher::new();
    // What is shown of an event does not decide which events there are.
    for stage in selecting(collections) {
        stage.to_string().hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_set_of_collections_has_another_fingerprint() {
        let all = fingerprint(&WatchedCollection::ALL);
        assert_eq!(all, fingerprint(&WatchedCollection::ALL));
        assert_ne!(all, fingerprint(&[WatchedCollection::Recruiters]));
    }

    #[test]
    fn the_pipeline_asks_for_no_values() {
        let all = Watched { collections: &WatchedCollection::ALL, own_label: None, omits_foreign: false };
        let text = format!("{:?}", stages(all));
        for content in ["fullDocument", "$$this.v"] {
            assert!(!text.contains(content), "{content}");
        }
        let mut stages = stages(Watched { own_label: Some("us"), ..all });
        assert!(thin(&mut stages).unwrap().remove("foreign").is_some());
        assert_eq!(format!("{stages:?}"), text, "nothing else is asked for");
    }
}
