//! The aggregation pipeline of the change stream: which events, and how little of them (spec 03).
//! It matches on names only: a match on content can make a token unfindable.

use std::hash::{DefaultHasher, Hash, Hasher};

use bson::{Bson, Document, doc};

use super::event::Operation;
use crate::model::names::WatchedCollection;

/// An update that names more bytes of paths than this is told without them: its event stays far below the server's limit of
/// 16 MB, and so many names would touch everything anyway.
const LONGEST_NAMES: i32 = 64 * 1024;

/// The stages after `$changeStream`.
#[must_use]
pub fn stages(collections: &[WatchedCollection]) -> Vec<Document> {
    let collections: Vec<&str> = collections.iter().map(|collection| collection.name()).collect();
    let operations: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
    // Events of the whole database (`dropDatabase`, `invalidate`) name no collection.
    let of_database =
        doc! { "operationType": { "$in": [Operation::DropDatabase.name(), Operation::Invalidate.name()] } };
    let keys = |path: &str| doc! { "$map": { "input": { "$objectToArray": path }, "in": "$$this.k" } };
    vec![
        doc! { "$match": { "$or": [
            { "ns.coll": { "$in": &collections }, "operationType": { "$in": operations } },
            // Something else took the name of a watched collection.
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

/// These names; `true` where they are too long.
fn bounded(names: Bson) -> Document {
    let lengths = doc! { "$map": { "input": "$$names", "in": { "$strLenBytes": "$$this" } } };
    doc! { "$let": {
        "vars": { "names": { "$ifNull": [names, []] } },
        "in": { "$cond": [{ "$lte": [{ "$sum": lengths }, LONGEST_NAMES] }, "$$names", true] },
    } }
}

/// Tells one pipeline from another: a token of another one may be refused (error 280), so a
/// checkpoint with another fingerprint is opened by its time (spec 03, "Own the cursor").
#[must_use]
pub fn fingerprint(collections: &[WatchedCollection]) -> String {
    // `DefaultHasher::new()` hashes the same way in every process of one build; a difference after
    // a change of compiler costs no more than one opening by time.
    let mut hasher = DefaultHasher::new();
    for stage in stages(collections) {
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
        let text = format!("{:?}", stages(&WatchedCollection::ALL));
        for content in ["fullDocument", "$$this.v"] {
            assert!(!text.contains(content), "{content}");
        }
    }
}
