//! The documents in which the worker that we replace keeps its resume tokens, one per collection
//! (spec 01, "`resumetokens`"): read to take over from it, written so that it can take over again.

use bson::{DateTime, Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database};

use crate::mongo_store::collection;
use crate::{ResumeToken, StoreError};

/// The old worker's collection; its documents keep its field names.
pub const OLD_WORKER_COLLECTION: &str = "resumetokens";

/// Access to the old worker's documents.
#[derive(Debug, Clone)]
pub struct OldWorkerTokens {
    documents: Collection<Document>,
}

/// What the old worker left.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OldTokens {
    /// The watched collection and the token after which the old worker would go on.
    pub tokens: Vec<(String, ResumeToken)>,
    /// The watched collections whose token cannot be decoded; the `_id` of a document that does not say
    /// its collection.
    pub garbled: Vec<String>,
}

impl OldTokens {
    /// The token with the earliest cluster time: whoever goes on from there misses nothing (spec 03,
    /// "Starting"). Garbled ones have no time, so they are not considered.
    #[must_use]
    pub fn oldest(&self) -> Option<&ResumeToken> {
        self.tokens.iter().map(|(_, token)| token).min_by_key(|token| token.cluster_time())
    }
}

impl OldWorkerTokens {
    /// Does not talk to the server yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { documents: collection(&database, OLD_WORKER_COLLECTION) }
    }

    /// Everything that is there, in the order of the collections' names.
    ///
    /// # Errors
    /// [`StoreError::Mongo`] only: what is garbled is part of the result.
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
