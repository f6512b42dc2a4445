//! The store in MongoDB: the checkpoint is one document of `stream_processor_state`, the history is
//! `stream_processor_checkpoints`. Whatever the client's options say, reads and writes go to the primary, and writes
//! wait for a majority.

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

/// The collection of the checkpoint, whose `_id` is `checkpoint`, and of other documents of the service.
pub const STATE_COLLECTION: &str = "stream_processor_state";
/// The collection of the history. The `_id` of an entry is [`HistoryEntry::id`].
pub const HISTORY_COLLECTION: &str = "stream_processor_checkpoints";

const CHECKPOINT: &str = "checkpoint";
/// The server's error code for an insert whose `_id` exists already. Here an upsert makes the insert.
const DUPLICATE_KEY: i32 = 11000;

/// Keeps checkpoints in a database. [`crate::Store`] describes the methods.
#[derive(Debug, Clone)]
pub struct MongoStore {
    state: Collection<Document>,
    history: Collection<Document>,
    history_indexes: OnceCell<()>,
    variables: Option<Document>,
}

impl MongoStore {
    /// Sends nothing to the server.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            state: collection(&database, STATE_COLLECTION),
            history: collection(&database, HISTORY_COLLECTION),
            history_indexes: OnceCell::new(),
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
                // Another save, whose term is not newer, inserted the document at the same time.
                _ => tried_before = true,
            }
        }
    }

    /// Saves with one command. Where a newer term is stored, the filter matches nothing, and the insert of the upsert
    /// fails on the stored document. `$gt` compares numbers only, so a garbled term does not block a save.
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
        self.history_indexes.get_or_try_init(|| self.create_history_indexes()).await?;
        let entry = doc! { "_id": checkpoint.history_id() };
        self.replace(&self.history, entry, checkpoint).await?;
        let too_old = doc! { "cluster_time": { "$lt": checkpoint.oldest_to_keep(keep) } };
        self.history.delete_many(too_old).optional(self.variables.clone(), Delete::let_vars).await?;
        Ok(())
    }

    /// Creates the indexes for reading the history in order and for deleting old entries. Does nothing when they exist.
    async fn create_history_indexes(&self) -> Result<(), Error> {
        let keys = [newest_first(), doc! { "cluster_time": 1 }];
        self.history.create_indexes(keys.map(|keys| IndexModel::builder().keys(keys).build())).await?;
        Ok(())
    }

    pub(crate) async fn history(&self, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut entries = Vec::new();
        let mut documents = self.history.find(doc! {}).sort(newest_first()).await?;
        while entries.len() < limit {
            let Some(document) = documents.try_next().await? else { break };
            match read(&self.history, document.get_str("_id").unwrap_or("?"), &document) {
                Ok(checkpoint) => entries.push(HistoryEntry::of(checkpoint)),
                Err(error) => warn!(%error, "an entry of the history cannot be read; it is skipped"),
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

/// A collection that is read from the primary and written with `w: majority`.
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
