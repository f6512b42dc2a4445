//! The store in MongoDB: one document in `stream_processor_state`, the history in
//! `stream_processor_checkpoints`. Reads and writes go to the primary whatever the client's options
//! say; writes are acknowledged by a majority.

use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::action::{Action, Delete, ReplaceOne};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Collection, Database, IndexModel};
use tokio::sync::OnceCell;
use tracing::warn;

use crate::format::integer;
use crate::{Checkpoint, HistoryEntry, StoreError};

/// Holds the checkpoint, under the `_id` `checkpoint`, and other documents of the service.
pub const STATE_COLLECTION: &str = "stream_processor_state";
/// Holds the history; `_id` is [`HistoryEntry::id`].
pub const HISTORY_COLLECTION: &str = "stream_processor_checkpoints";

const CHECKPOINT: &str = "checkpoint";
/// Server error: an insert, here that of an upsert, found the `_id` taken.
const DUPLICATE_KEY: i32 = 11000;

/// Keeps the checkpoint in a database; the methods are described at [`crate::Store`].
#[derive(Debug, Clone)]
pub struct MongoStore {
    state: Collection<Document>,
    history: Collection<Document>,
    history_index: OnceCell<()>,
    variables: Option<Document>,
}

impl MongoStore {
    /// Does not talk to the server yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            state: collection(&database, STATE_COLLECTION),
            history: collection(&database, HISTORY_COLLECTION),
            history_index: OnceCell::new(),
            variables: None,
        }
    }

    pub(crate) fn set_variables(&mut self, variables: Option<Document>) {
        self.variables = variables;
    }

    pub(crate) async fn load(&self) -> Result<Option<Checkpoint>, StoreError> {
        let document = self.state.find_one(doc! { "_id": CHECKPOINT }).await?;
        document.map(|document| read(&self.state, CHECKPOINT, &document)).transpose()
    }

    pub(crate) async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut tried_before = false;
        loop {
            let Err(error) = self.replace_unless_newer(checkpoint).await else { return Ok(()) };
            if !is_duplicate_key(&error) {
                return Err(error.into());
            }
            match self.stored_term().await? {
                Some(found) if found > checkpoint.term => {
                    return Err(StoreError::NewerTerm { found, ours: checkpoint.term });
                }
                _ if tried_before => return Err(error.into()),
                // Another save of no newer term inserted the document at the same moment.
                _ => tried_before = true,
            }
        }
    }

    /// One command. Where a newer term is stored, the filter matches nothing and the upsert's insert
    /// collides with the stored document. `$gt` compares numbers only, so a garbled term does not
    /// block.
    async fn replace_unless_newer(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let filter = doc! { "_id": CHECKPOINT, "term": { "$not": { "$gt": checkpoint.term } } };
        self.replace(&self.state, filter, checkpoint).await
    }

    async fn replace(
        &self,
        collection: &Collection<Document>,
        filter: Document,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        let replace = collection.replace_one(filter, checkpoint.to_document()).upsert(true);
        replace.optional(self.variables.clone(), ReplaceOne::let_vars).await?;
        Ok(())
    }

    async fn stored_term(&self) -> Result<Option<i64>, StoreError> {
        let term = self.state.find_one(doc! { "_id": CHECKPOINT }).projection(doc! { "term": 1 }).await?;
        Ok(term.and_then(|document| document.get("term").and_then(integer)))
    }

    pub(crate) async fn remember(&self, checkpoint: &Checkpoint, keep: Duration) -> Result<(), StoreError> {
        self.history_index.get_or_try_init(|| self.create_history_index()).await?;
        let entry = doc! { "_id": checkpoint.history_id() };
        self.replace(&self.history, entry, checkpoint).await?;
        let too_old = doc! { "updated_at": { "$lt": checkpoint.oldest_to_keep(keep) } };
        self.history.delete_many(too_old).optional(self.variables.clone(), Delete::let_vars).await?;
        Ok(())
    }

    /// For the order of the history and for dropping its end; a no-op when it is there.
    async fn create_history_index(&self) -> Result<(), Error> {
        self.history.create_index(IndexModel::builder().keys(newest_first()).build()).await?;
        Ok(())
    }

    pub(crate) async fn history(&self, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut entries = Vec::new();
        let mut documents = self.history.find(doc! {}).sort(newest_first()).await?;
        while entries.len() < limit {
            let Some(document) = documents.try_next().await? else { break };
            match read(&self.history, document.get_str("_id").unwrap_or("?"), &document) {
                Ok(checkpoint) => entries.push(HistoryEntry::of(checkpoint)),
                Err(error) => warn!(%error, "an entry of the history is left out"),
            }
        }
        Ok(entries)
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Option<HistoryEntry>, StoreError> {
        let document = self.history.find_one(doc! { "_id": id }).await?;
        document.map(|document| read(&self.history, id, &document).map(HistoryEntry::of)).transpose()
    }

    pub(crate) async fn clear(&self) -> Result<(), StoreError> {
        self.state.delete_one(doc! { "_id": CHECKPOINT }).optional(self.variables.clone(), Delete::let_vars).await?;
        Ok(())
    }
}

fn newest_first() -> Document {
    doc! { "updated_at": -1, "cluster_time": -1 }
}

/// A collection of ours, read on the primary and written with `w: majority`.
pub(crate) fn collection(database: &Database, name: &str) -> Collection<Document> {
    let options = CollectionOptions::builder()
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .read_concern(ReadConcern::local())
        .write_concern(WriteConcern::majority())
        .build();
    database.collection_with_options(name, options)
}

fn read(collection: &Collection<Document>, id: &str, document: &Document) -> Result<Checkpoint, StoreError> {
    Checkpoint::from_document(document).map_err(|reason| StoreError::Garbled {
        place: format!("the document `{id}` of `{}`", collection.namespace()),
        reason,
    })
}

fn is_duplicate_key(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY)
}
