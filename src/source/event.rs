//! A thin change event, as the pipeline asks for it: names of paths and no values (spec 03). Decoding is lenient:
//! unreadable keys and paths become values of their own kind. Only an event without its basic fields is an error.

use bson::{DateTime, RawBsonRef, RawDocument, Timestamp, oid::ObjectId};
use resume_tokens::{ResumeToken, TokenError};

use crate::error::EventError;
use crate::model::names::WatchedCollection;
use crate::model::other_id::OtherId;
use crate::model::other_id::key_text;
use crate::observe::labels::LabelValue;

/// The values of `operationType` (MongoDB manual, "Change Events").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Insert,
    Update,
    Replace,
    Delete,
    /// A watched collection was dropped.
    Drop,
    /// A watched collection was renamed, or another collection took its name.
    Rename,
    DropDatabase,
    /// The server ends the cursor after this event.
    Invalidate,
}

impl Operation {
    /// The operations that the pipeline selects.
    pub const ALL: [Self; 8] = [
        Self::Insert,
        Self::Update,
        Self::Replace,
        Self::Delete,
        Self::Drop,
        Self::Rename,
        Self::DropDatabase,
        Self::Invalidate,
    ];

    /// The value of `operationType`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Drop => "drop",
            Self::Rename => "rename",
            Self::DropDatabase => "dropDatabase",
            Self::Invalidate => "invalidate",
        }
    }
}

/// One event of the change stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `ns.coll`; `None` for events of the whole database.
    pub collection: Option<WatchedCollection>,
    /// `to.coll`, where a rename gave this watched name to another collection. No event tells of the documents in it.
    pub renamed_to: Option<WatchedCollection>,
    pub operation: Operation,
    /// `documentKey._id`; `None` for events that concern no single document.
    pub key: Option<DocumentKey>,
    /// `clusterTime`, else the time in the token.
    pub cluster_time: Timestamp,
    /// `wallTime` (server 6.0), else the seconds of `cluster_time`.
    pub wall_time: DateTime,
    /// The names of the paths that an update changed, removed or truncated. `None` where the names are unknown: one of
    /// them is no UTF-8, or they are too long together.
    pub paths: Option<Vec<String>>,
    /// True for an inserted offer that has another label than ours.
    pub is_foreign: bool,
    /// `_id`: the resume token of this event.
    pub token: ResumeToken,
}

/// The `_id` of a document. Spec 01 wants an ObjectId.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DocumentKey {
    Id(ObjectId),
    /// The text of an `_id` of another type, or of an unreadable one, for its dead letter: see [`OtherId::text`].
    Other(String),
}

impl Event {
    /// Reads one event of the thin pipeline ([`super::aggregation::stages`]), in one pass.
    ///
    /// # Errors
    /// See [`EventError`].
    pub fn read(document: &RawDocument) -> Result<Self, EventError> {
        let mut parts = Parts::default();
        for element in document {
            let (name, value) = element.map_err(damaged)?;
            parts.take(name.as_str(), value)?;
        }
        let token = parts.token.ok_or(EventError::Token(TokenError::NoData))?;
        let operation = Operation::ALL.into_iter().find(|operation| operation.name() == parts.operation);
        let operation = operation.ok_or_else(|| EventError::Operation(parts.operation.to_owned()))?;
        if matches!(operation, Operation::Insert | Operation::Update | Operation::Replace | Operation::Delete) {
            parts.collection.ok_or(EventError::Incomplete("ns"))?;
            parts.key.as_ref().ok_or(EventError::Incomplete("documentKey"))?;
        }
        let cluster_time = parts.cluster_time.unwrap_or_else(|| token.cluster_time());
        let of_seconds = || DateTime::from_millis(i64::from(cluster_time.time) * 1000);
        Ok(Self {
            collection: parts.collection,
            renamed_to: parts.renamed_to,
            operation,
            key: parts.key,
            cluster_time,
            wall_time: parts.wall_time.unwrap_or_else(of_seconds),
            paths: (!parts.has_other_paths).then_some(parts.paths),
            is_foreign: parts.is_foreign,
            token,
        })
    }

    /// The approximate size of the event in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let paths = self.paths.as_deref().unwrap_or_default();
        let texts = paths.iter().map(String::len).sum::<usize>() + self.token.data().len();
        size_of::<Self>() + size_of_val(paths) + texts
    }

    /// The key; `None` when it is no ObjectId.
    #[must_use]
    pub fn id(&self) -> Option<ObjectId> {
        match self.key {
            Some(DocumentKey::Id(id)) => Some(id),
            _ => None,
        }
    }
}

/// The fields of an event that were read so far.
#[derive(Default)]
struct Parts<'a> {
    token: Option<ResumeToken>,
    operation: &'a str,
    collection: Option<WatchedCollection>,
    renamed_to: Option<WatchedCollection>,
    key: Option<DocumentKey>,
    cluster_time: Option<Timestamp>,
    wall_time: Option<DateTime>,
    paths: Vec<String>,
    /// True when some path names are unknown.
    has_other_paths: bool,
    is_foreign: bool,
}

impl<'a> Parts<'a> {
    fn take(&mut self, name: &str, value: RawBsonRef<'a>) -> Result<(), EventError> {
        match (name, value) {
            ("_id", RawBsonRef::Document(token)) => self.token = Some(ResumeToken::from_raw(token)?),
            ("operationType", RawBsonRef::String(operation)) => self.operation = operation,
            ("ns", RawBsonRef::Document(namespace)) => self.collection = watched(namespace),
            ("to", RawBsonRef::Document(namespace)) => self.renamed_to = watched(namespace),
            ("documentKey", RawBsonRef::Document(key)) => self.key = key_of(key),
            ("clusterTime", RawBsonRef::Timestamp(time)) => self.cluster_time = Some(time),
            ("wallTime", RawBsonRef::DateTime(time)) => self.wall_time = Some(time),
            ("foreign", RawBsonRef::Boolean(is_foreign)) => self.is_foreign = is_foreign,
            ("updated" | "removed" | "truncated", names) => self.add_paths(names),
            _ => {}
        }
        Ok(())
    }

    fn add_paths(&mut self, names: RawBsonRef<'_>) {
        let names = match names {
            RawBsonRef::Array(names) => names,
            RawBsonRef::Null => return,
            _ => return self.has_other_paths = true,
        };
        for name in names {
            match name.ok().and_then(RawBsonRef::as_str) {
                Some(name) => self.paths.push(name.to_owned()),
                None => self.has_other_paths = true,
            }
        }
    }
}

fn damaged(error: impl std::fmt::Display) -> EventError {
    EventError::Damaged(error.to_string())
}

fn watched(namespace: &RawDocument) -> Option<WatchedCollection> {
    namespace.get_str("coll").ok().and_then(WatchedCollection::from_name)
}

/// Finds `_id` among the fields of `documentKey`. In a sharded collection, `documentKey` has other fields too.
fn key_of(key: &RawDocument) -> Option<DocumentKey> {
    let id = key.iter_elements().filter_map(Result::ok).find(|element| element.key() == "_id")?;
    Some(match id.value() {
        Ok(RawBsonRef::ObjectId(id)) => DocumentKey::Id(id),
        Ok(other) => DocumentKey::Other(key_text(other).unwrap_or_else(|| OtherId::of(key).text())),
        Err(_) => DocumentKey::Other(OtherId::of(key).text()),
    })
}

impl LabelValue for Operation {
    fn label(self) -> &'static str {
        self.name()
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    const TOKEN: &str = "82650F1A2B000000012B0229296E04";

    #[test]
    fn a_thin_update_event_is_read() {
        let id = ObjectId::new();
        let event = Event::read(&rawdoc! {
            "_id": { "_data": TOKEN }, "operationType": "update", "ns": { "db": "d", "coll": "recruiters" },
            "documentKey": { "_id": id }, "clusterTime": Timestamp { time: 1_695_488_555, increment: 1 },
            "wallTime": DateTime::from_millis(5), "updated": ["jobs.0.x"], "removed": ["a"], "truncated": ["jobs"],
        })
        .unwrap();
        assert_eq!(event.collection, Some(WatchedCollection::Recruiters));
        assert_eq!(event.id(), Some(id));
        assert_eq!(event.paths.unwrap(), ["jobs.0.x", "a", "jobs"]);
        assert_eq!(event.wall_time, DateTime::from_millis(5));
    }

    #[test]
    fn an_event_that_lacks_almost_everything_is_still_an_event() {
        let event = Event::read(&rawdoc! { "_id": { "_data": TOKEN }, "operationType": "dropDatabase" }).unwrap();
        assert_eq!((event.collection, event.key.clone(), event.paths.clone()), (None, None, Some(Vec::new())));
        assert_eq!(event.cluster_time, event.token.cluster_time());
    }

    #[test]
    fn a_key_that_is_no_object_id_is_kept_as_text() {
        let event = Event::read(&rawdoc! {
            "_id": { "_data": TOKEN }, "operationType": "insert", "ns": { "coll": "recruiters" },
            "documentKey": { "_id": "abc" },
        });
        assert_eq!(event.unwrap().key, Some(DocumentKey::Other("\"abc\"".to_owned())));
    }

    #[test]
    fn the_key_of_a_sharded_collection_also_has_the_shard_key_and_only_its_id_counts() {
        let id = ObjectId::new();
        let event = Event::read(&rawdoc! {
            "_id": { "_data": TOKEN }, "operationType": "delete", "ns": { "coll": "recruiters" },
            "documentKey": { "region": ObjectId::new(), "_id": id },
        });
        assert_eq!(event.unwrap().id(), Some(id));
    }

    #[test]
    fn an_event_without_a_token_or_with_an_unknown_type_is_refused() {
        assert!(matches!(Event::read(&rawdoc! { "operationType": "insert" }), Err(EventError::Token(_))));
        let unknown = rawdoc! { "_id": { "_data": TOKEN }, "operationType": "shardCollection" };
        assert!(matches!(Event::read(&unknown), Err(EventError::Operation(_))));
    }

    #[test]
    fn names_that_are_no_text_or_no_utf8_or_too_many_are_unknown_and_none_are_none() {
        let with = |updated: bson::RawBson| {
            let mut bytes = rawdoc! {
                "_id": { "_data": TOKEN }, "operationType": "update", "ns": { "coll": "recruiters" },
                "documentKey": { "_id": "XXXX" }, "updated": updated,
            }
            .into_bytes();
            for place in (0..bytes.len() - 4).filter(|place| bytes[*place..].starts_with(b"XXXX")).collect::<Vec<_>>() {
                bytes[place..place + 2].copy_from_slice(&[0xff, 0xfe]);
            }
            Event::read(&bson::RawDocumentBuf::from_bytes(bytes).unwrap()).unwrap()
        };
        for unknown in [bson::rawbson!(["jobs.0.x", "noteXXXX"]), bson::rawbson!(["a", 1]), bson::rawbson!(true)] {
            assert_eq!(with(unknown).paths, None);
        }
        for none in [bson::rawbson!([]), bson::rawbson!(null)] {
            let event = with(none);
            assert_eq!(event.paths, Some(Vec::new()));
            let Some(DocumentKey::Other(key)) = event.key else { panic!("a key of its own") };
            assert!(key.starts_with("bytes:") && key.contains("fffe5858"), "{key}");
        }
    }

    #[test]
    fn a_change_that_does_not_tell_of_which_document_is_refused() {
        for event in [
            rawdoc! { "_id": { "_data": TOKEN }, "operationType": "insert", "documentKey": { "_id": 1 } },
            rawdoc! { "_id": { "_data": TOKEN }, "operationType": "insert", "ns": { "coll": "cfas" } },
        ] {
            assert!(matches!(Event::read(&event), Err(EventError::Incomplete(_))));
        }
    }

    #[test]
    fn an_event_that_is_damaged_is_refused_and_not_taken_for_one_that_changes_nothing() {
        let whole = rawdoc! { "_id": { "_data": TOKEN }, "operationType": "update", "updated": ["jobs"] };
        let mut bytes = whole.into_bytes();
        let kind = bytes.iter().rposition(|byte| *byte == 0x04).unwrap();
        bytes[kind] = 0x42;
        let damaged = bson::RawDocumentBuf::from_bytes(bytes).unwrap();
        assert!(matches!(Event::read(&damaged), Err(EventError::Damaged(_))));
    }
}
