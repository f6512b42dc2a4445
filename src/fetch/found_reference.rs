//! The result of looking a reference up. An unreadable document is not the same as no document.

use std::sync::Arc;

use bson::{Document, RawBsonRef, RawDocument};

use crate::model::names::WatchedCollection;
use crate::model::other_id::key_text;

/// The document under a key.
#[derive(Debug, Clone)]
pub(super) enum FoundReference<T> {
    /// No document has the key.
    Nothing,
    /// All of the document is readable.
    Document(Arc<T>),
    /// The document is not valid BSON. The text is its collection and `_id`.
    Undecodable(Arc<str>),
}

impl<T> FoundReference<T> {
    pub(super) fn read(
        watched: WatchedCollection,
        document: &RawDocument,
        read: impl Fn(&RawDocument) -> bson::error::Result<T>,
    ) -> Self {
        match read(document) {
            Ok(found) if is_readable(document) => Self::Document(Arc::new(found)),
            _ => Self::Undecodable(name(watched, document)),
        }
    }

    pub(super) fn document(found: Option<&Self>) -> Option<Arc<T>> {
        match found? {
            Self::Document(document) => Some(Arc::clone(document)),
            Self::Nothing | Self::Undecodable(_) => None,
        }
    }

    pub(super) fn undecodable(found: Option<&Self>) -> Option<Arc<str>> {
        match found? {
            Self::Undecodable(name) => Some(Arc::clone(name)),
            Self::Nothing | Self::Document(_) => None,
        }
    }
}

/// True when every field that was read, and every text inside, is valid BSON.
pub(super) fn is_readable(document: &RawDocument) -> bool {
    Document::try_from(document).is_ok()
}

pub(super) fn name(watched: WatchedCollection, document: &RawDocument) -> Arc<str> {
    let id = match document.get("_id") {
        Ok(Some(RawBsonRef::ObjectId(id))) => id.to_hex(),
        Ok(Some(id)) => key_text(id).unwrap_or_else(|| "?".to_owned()),
        _ => "?".to_owned(),
    };
    format!("{}/{id}", watched.name()).into()
}
