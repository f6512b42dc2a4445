//! A change event as the pipeline asks for it: thin, names only (spec 03). Decoding must not fail
//! the stream: what cannot be understood is an event of its own kind, never an error.

use bson::{Bson, DateTime, Document, Timestamp, oid::ObjectId};
use resume_tokens::{ResumeToken, TokenError};

/// The collections that are watched. Every `match` on it is exhaustive, so a new one is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Collection {
    /// `recruiters`
    Recruiters,
    /// `anonymized_recruiters`
    AnonymizedRecruiters,
    /// `userswithaccounts`
    Users,
    /// `anonymized_userswithaccounts`
    AnonymizedUsers,
    /// `cfas`
    Cfas,
    /// `referentielromes`
    RomeSheets,
    /// `referentiel_engagement_entreprise`
    Engagements,
    /// `stream_processor_canary`
    Canary,
}

impl Collection {
    /// All of them, in the order in which the pipeline names them.
    pub const ALL: [Self; 8] = [
        Self::Recruiters,
        Self::AnonymizedRecruiters,
        Self::Users,
        Self::AnonymizedUsers,
        Self::Cfas,
        Self::RomeSheets,
        Self::Engagements,
        Self::Canary,
    ];

    /// The collection's name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recruiters => "recruiters",
            Self::AnonymizedRecruiters => "anonymized_recruiters",
            Self::Users => "userswithaccounts",
            Self::AnonymizedUsers => "anonymized_userswithaccounts",
            Self::Cfas => "cfas",
            Self::RomeSheets => "referentielromes",
            Self::Engagements => "referentiel_engagement_entreprise",
            Self::Canary => "stream_processor_canary",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|collection| collection.name() == name)
    }
}

/// What happened, as `operationType` tells (MongoDB manual, "Change Events").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `insert`
    Insert,
    /// `update`
    Update,
    /// `replace`
    Replace,
    /// `delete`
    Delete,
    /// `drop` of a watched collection
    Drop,
    /// `rename` of a watched collection
    Rename,
    /// `dropDatabase`
    DropDatabase,
    /// `invalidate`: the cursor ends here
    Invalidate,
}

impl Operation {
    /// All of them, as the pipeline asks for them.
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

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `ns.coll`; `None` for events of the whole database.
    pub collection: Option<Collection>,
    /// `to.coll`: a rename gave this name to another collection, with documents that no event tells of.
    pub renamed_to: Option<Collection>,
    /// `operationType`.
    pub operation: Operation,
    /// `documentKey._id`.
    pub key: Option<Key>,
    /// `clusterTime`.
    pub cluster_time: Timestamp,
    /// `wallTime` (server 6.0), else the seconds of `cluster_time`.
    pub wall_time: DateTime,
    /// The names of the paths that an update changed, removed or truncated.
    pub paths: Vec<String>,
    /// `_id`: the event's own resume token.
    pub token: ResumeToken,
}

/// A document's `_id`: an ObjectId, as spec 01 says, or anything else as text for its dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// As it should be.
    Id(ObjectId),
    /// Extended JSON of an `_id` of another type.
    Other(String),
}

/// Why an event could not be read. The stream was opened by us, so this means that the server sent
/// something that the manual does not describe.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No usable `_id`.
    #[error("a change event without a usable resume token: {0}")]
    Token(#[from] TokenError),
    /// No `operationType` that we asked for.
    #[error("a change event of the unknown operation type `{0}`")]
    Operation(String),
}

impl Event {
    /// Reads one event of the thin pipeline ([`super::pipeline::stages`]).
    ///
    /// # Errors
    /// See [`EventError`].
    pub fn read(document: &Document) -> Result<Self, EventError> {
        let token = document.get_document("_id").cloned().unwrap_or_default();
        let token = ResumeToken::from_document(&token)?;
        let name = document.get_str("operationType").unwrap_or_default();
        let operation = Operation::ALL.into_iter().find(|operation| operation.name() == name);
        let operation = operation.ok_or_else(|| EventError::Operation(name.to_owned()))?;
        let named = |field: &str| document.get_document(field).and_then(|ns| ns.get_str("coll")).ok();
        let watched = |field: &str| named(field).and_then(Collection::from_name);
        let cluster_time = document.get_timestamp("clusterTime").unwrap_or_else(|_| token.cluster_time());
        let of_seconds = || DateTime::from_millis(i64::from(cluster_time.time) * 1000);
        Ok(Self {
            collection: watched("ns"),
            renamed_to: watched("to"),
            operation,
            key: document.get_document("documentKey").ok().and_then(|key| key.get("_id")).map(key),
            cluster_time,
            wall_time: document.get_datetime("wallTime").copied().unwrap_or_else(|_| of_seconds()),
            paths: paths(document),
            token,
        })
    }

    /// About how many bytes the event takes in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = self.paths.iter().map(String::len).sum::<usize>() + self.token.data().len();
        size_of::<Self>() + self.paths.len() * size_of::<String>() + texts
    }

    /// The key when it is an ObjectId.
    #[must_use]
    pub fn id(&self) -> Option<ObjectId> {
        match self.key {
            Some(Key::Id(id)) => Some(id),
            _ => None,
        }
    }
}

fn key(id: &Bson) -> Key {
    match id {
        Bson::ObjectId(id) => Key::Id(*id),
        other => Key::Other(other.clone().into_relaxed_extjson().to_string()),
    }
}

fn paths(document: &Document) -> Vec<String> {
    let names = ["updated", "removed", "truncated"];
    let lists = names.iter().filter_map(|name| document.get_array(name).ok());
    lists.flatten().filter_map(Bson::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    const TOKEN: &str = "82650F1A2B000000012B0229296E04";

    #[test]
    fn a_thin_update_event_is_read() {
        let id = ObjectId::new();
        let event = Event::read(&doc! {
            "_id": { "_data": TOKEN }, "operationType": "update", "ns": { "db": "d", "coll": "recruiters" },
            "documentKey": { "_id": id }, "clusterTime": Timestamp { time: 1_695_488_555, increment: 1 },
            "wallTime": DateTime::from_millis(5), "updated": ["jobs.0.x"], "removed": ["a"], "truncated": ["jobs"],
        })
        .unwrap();
        assert_eq!(event.collection, Some(Collection::Recruiters));
        assert_eq!(event.id(), Some(id));
        assert_eq!(event.paths, ["jobs.0.x", "a", "jobs"]);
        assert_eq!(event.wall_time, DateTime::from_millis(5));
    }

    #[test]
    fn an_event_that_lacks_almost_everything_is_still_an_event() {
        let event = Event::read(&doc! { "_id": { "_data": TOKEN }, "operationType": "dropDatabase" }).unwrap();
        assert_eq!((event.collection, event.key.clone(), event.paths.len()), (None, None, 0));
        assert_eq!(event.cluster_time, event.token.cluster_time());
    }

    #[test]
    fn a_key_that_is_no_object_id_is_kept_as_text() {
        let event = Event::read(&doc! {
            "_id": { "_data": TOKEN }, "operationType": "insert", "ns": { "coll": "recruiters" },
            "documentKey": { "_id": "abc" },
        });
        assert_eq!(event.unwrap().key, Some(Key::Other("\"abc\"".to_owned())));
    }

    #[test]
    fn an_event_without_a_token_or_with_an_unknown_type_is_refused() {
        assert!(matches!(Event::read(&doc! { "operationType": "insert" }), Err(EventError::Token(_))));
        let unknown = doc! { "_id": { "_data": TOKEN }, "operationType": "shardCollection" };
        assert!(matches!(Event::read(&unknown), Err(EventError::Operation(_))));
    }
}
