//! The resume tokens of the old worker: one document per watched collection (spec 01, "`resumetokens`"). They are read
//! to take over from the old worker, and written so that the old worker can take over again.

use bson::{DateTime, Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database};

use crate::mongo_store::collection;
use crate::{ResumeToken, StoreError};

/// The collection of the old worker. Its documents have the field names of the old worker.
pub const OLD_WORKER_COLLECTION: &str = "resumetokens";

/// Reads and writes the tokens of the old worker.
#[derive(Debug, Clone)]
pub struct OldWorkerTokens {
    documents: Collection<Document>,
}

/// The stored tokens of the old worker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OldTokens {
    /// Each watched collection with the token after which the old worker would resume.
    pub tokens: Vec<(String, ResumeToken)>,
    /// The watched collections whose token cannot be decoded. A document that names no collection has its `_id` here.
    pub garbled: Vec<String>,
}

impl OldTokens {
    /// The token with the earliest cluster time. A stream that resumes after it misses no event (spec 03, "Starting").
    /// Garbled tokens have no time and are ignored.
    #[must_use]
    pub fn oldest(&self) -> Option<&ResumeToken> {
        self.tokens.iter().map(|(_, token)| token).min_by_key(|token| token.cluster_time())
    }
}

impl OldWorkerTokens {
    /// Sends nothing to the server.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { documents: collection(&database, OLD_WORKER_COLLECTION) }
    }

    /// Reads all tokens, in the order of the collections' names.
    ///
    /// # Errors
    /// [`StoreError::Mongo`] only: garbled tokens are part of the result.
    pub async fn load(&self) -> Result<OldTokens, StoreError> {
        let mut old = OldTokens::default();
        let mut documents = self.documents.find(doc! {}).sort(doc! { "collection": 1 }).await?;
        while let Some(document) = documents.try_next().await? {
            let token = document.get_document("resumeTokenData").ok();
            let token = token.and_then(|token| ResumeToken::from_document(token).ok());
            match (document.get_str("collection"), token) {
                (Ok(collection), Some(token)) => old.tokens.push((collection.to_owned(), token)),
                (Ok(collection), None) => old.garbled.push(collection.to_owned()),
                (Err(_), _) => {
                    old.garbled.push(document.get("_id").map_or_else(|| "?".to_owned(), ToString::to_string));
                }
            }
        }
        Ok(old)
    }

    /// Stores the token of the last event of `collection`, as the old worker does.
    ///
    /// # Errors
    /// [`StoreError::Mongo`].
    pub async fn save(&self, collection: &str, token: &ResumeToken, updated_at: DateTime) -> Result<(), StoreError> {
        let update = doc! { "$set": { "resumeTokenData": token.to_document(), "updatedAt": updated_at } };
        self.documents.update_one(doc! { "collection": collection }, update).upsert(true).await?;
        Ok(())
    }
}
