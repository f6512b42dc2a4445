//! The fields that changed in a span of the change stream: first and last write, and the number of writes, by collection and
//! path. Pure, and bounded in memory. A thin event names paths and has no values, so there are none here.

use std::collections::BTreeMap;

use bson::Timestamp;

use crate::masking::without_addresses;
use crate::model::names::WatchedCollection;
use crate::source::event::{Event, Operation};

/// The greatest number of different paths. Writes of further paths are counted together.
const MOST: usize = 1_000;
/// The longest path that is told, in characters.
const LONGEST: usize = 80;

/// What an event without names of paths changed.
const WHOLE: [(Operation, &str); 3] =
    [(Operation::Insert, "(inserted)"), (Operation::Replace, "(replaced)"), (Operation::Delete, "(deleted)")];
/// The paths of an update that has too many of them for one event.
const TOO_MANY: &str = "(very many fields)";
/// The paths beyond [`MOST`].
const FURTHER: &str = "(further fields)";

/// The writes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathWrites {
    pub first: Timestamp,
    pub last: Timestamp,
    pub writes: u64,
}

/// The writes by collection and path.
#[derive(Debug, Default)]
pub(super) struct ChangedFields(BTreeMap<(WatchedCollection, String), PathWrites>);

impl ChangedFields {
    /// Counts an event once for each path that it changed.
    pub(super) fn add(&mut self, event: &Event) {
        let Some(collection) = event.collection else { return };
        let whole =
            WHOLE.iter().find(|(operation, _)| *operation == event.operation).map(|(_, name)| (*name).to_owned());
        let mut paths: Vec<String> = match (&event.paths, whole) {
            (_, Some(whole)) => vec![whole],
            (Some(paths), None) => paths.iter().map(|path| folded(path)).collect(),
            (None, None) => vec![TOO_MANY.to_owned()],
        };
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let is_known = self.0.contains_key(&(collection, path.clone()));
            let path = if is_known || self.0.len() < MOST { path } else { FURTHER.to_owned() };
            let time = event.cluster_time;
            let first = PathWrites { first: time, last: time, writes: 0 };
            let writes = self.0.entry((collection, path)).or_insert(first);
            *writes =
                PathWrites { first: writes.first.min(time), last: writes.last.max(time), writes: writes.writes + 1 };
        }
    }

    /// The paths with their writes: by collection, the paths with the most writes first.
    pub(super) fn sorted(&self) -> Vec<(WatchedCollection, &str, PathWrites)> {
        let mut all: Vec<_> =
            self.0.iter().map(|((collection, path), writes)| (*collection, path.as_str(), *writes)).collect();
        all.sort_by_key(|(collection, _, writes)| (*collection, std::cmp::Reverse(writes.writes), writes.first));
        all
    }
}

/// The path with `*` in place of each index of a list, so that the same field of all jobs is one path. A name may be
/// anything, also an e-mail address.
fn folded(path: &str) -> String {
    let is_index = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = path.split('.').map(|part| if is_index(part) { "*" } else { part }).collect();
    without_addresses(&parts.join(".")).chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, oid::ObjectId, rawdoc};

    use super::*;

    fn event(operation: &str, time: u32, fields: RawDocumentBuf) -> Event {
        let mut event = rawdoc! {
            "_id": { "_data": "82650F1A2B000000012B0229296E04" }, "operationType": operation,
            "ns": { "coll": "recruiters" }, "documentKey": { "_id": ObjectId::new() },
            "clusterTime": Timestamp { time, increment: 1 },
        };
        fields.iter().flatten().for_each(|(name, value)| event.append(name, value));
        Event::read(&event).unwrap()
    }

    fn told(fields: &ChangedFields) -> Vec<(&str, u32, u32, u64)> {
        let line = |(_, path, writes): (WatchedCollection, _, PathWrites)| {
            (path, writes.first.time, writes.last.time, writes.writes)
        };
        fields.sorted().into_iter().map(line).collect()
    }

    #[test]
    fn an_event_counts_once_for_each_folded_path() {
        let mut fields = ChangedFields::default();
        for time in [7, 5, 9] {
            let paths = rawdoc! { "updated": ["jobs.0.job_title", "jobs.12.job_title"], "truncated": ["jobs"] };
            fields.add(&event("update", time, paths));
        }
        fields.add(&event("update", 6, rawdoc! { "removed": ["naf.2.code"], "updated": ["jobs.0.0"] }));
        fields.add(&event("delete", 3, rawdoc! {}));
        fields.add(&event("update", 4, rawdoc! { "updated": true }));
        let expected = [
            ("jobs", 5, 9, 3),
            ("jobs.*.job_title", 5, 9, 3),
            ("(deleted)", 3, 3, 1),
            ("(very many fields)", 4, 4, 1),
            ("jobs.*.*", 6, 6, 1),
            ("naf.*.code", 6, 6, 1),
        ];
        let mut found = told(&fields);
        found.sort_by_key(|(path, _, _, writes)| (std::cmp::Reverse(*writes), *path));
        assert_eq!(found, expected);
    }

    #[test]
    fn more_paths_than_the_memory_holds_are_counted_together() {
        let mut fields = ChangedFields::default();
        for number in 0..(MOST + 5) {
            fields.add(&event("update", 1, rawdoc! { "updated": [format!("f{number}")] }));
        }
        fields.add(&event("update", 1, rawdoc! { "updated": ["f0"] }));
        assert_eq!(fields.0.len(), MOST + 1);
        assert_eq!(told(&fields)[..2], [(FURTHER, 1, 1, 5), ("f0", 1, 1, 2)]);
        fields.add(&event("update", 2, rawdoc! { "updated": ["x".repeat(500)] }));
        assert_eq!(fields.0.len(), MOST + 1);
        assert_eq!(folded(&"x".repeat(500)).len(), LONGEST);
    }
}
