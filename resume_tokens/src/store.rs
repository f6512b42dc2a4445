//! The two stores of checkpoints behind one set of methods, and their errors. Nothing is retried here: the caller
//! decides by its table of errors.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::Document;
use mongodb::error::{ErrorKind, WriteFailure};

use crate::{Checkpoint, FileStore, FormatError, HistoryEntry, MongoStore};

/// The store of the checkpoint and its history.
#[derive(Debug, Clone)]
pub enum Store {
    /// The default: the database of the stream.
    MongoDb(MongoStore),
    /// Files keep the token outside the database that it describes.
    Files(FileStore),
}

/// The failure of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// MongoDB refused a command or did not answer. The caller classifies the driver's error. Its text may name hosts
    /// and tokens, but no personal data, because these collections have none.
    #[error("MongoDB could not read or write a checkpoint: {}", describe(&.0.kind))]
    Mongo(#[from] mongodb::error::Error),
    /// The operating system refused an action on a file or folder.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// A verb, such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The stored checkpoint cannot be read. A checkpoint exists, so this is not a first start.
    #[error("the checkpoint stored in {place} cannot be read: {reason}")]
    Garbled {
        /// The file, or the document and its collection.
        place: String,
        /// The fault of the stored checkpoint.
        reason: FormatError,
    },
    /// Another instance leads since then and has saved a checkpoint. This instance must stop writing.
    #[error("a checkpoint of the newer term {found} is stored; the checkpoint of term {ours} is refused")]
    NewerTerm {
        /// The term of the stored checkpoint.
        found: i64,
        /// The term of the refused checkpoint.
        ours: i64,
    },
}

impl StoreError {
    /// Makes a function for `map_err` on errors of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Store {
    /// Sets the variables of every later command that writes (MongoDB manual, "update", `let`). The server refuses a
    /// command whose variables it cannot compute. So a caller can prevent that a delayed save is carried out too late.
    /// Files do not use the variables.
    pub fn set_variables(&mut self, variables: Option<Document>) {
        match self {
            Self::MongoDb(store) => store.set_variables(variables),
            Self::Files(_) => {}
        }
    }

    /// Reads the checkpoint; `None` when none was saved, or it was cleared.
    ///
    /// # Errors
    /// [`StoreError::Garbled`] when the stored checkpoint cannot be read; [`StoreError::Mongo`] or [`StoreError::Io`]
    /// when the store cannot be read.
    pub async fn load(&self) -> Result<Option<Checkpoint>, StoreError> {
        match self {
            Self::MongoDb(store) => store.load().await,
            Self::Files(store) => store.load().await,
        }
    }

    /// Replaces the checkpoint, also a garbled one. The new checkpoint is durable when the method returns.
    ///
    /// # Errors
    /// [`StoreError::NewerTerm`]; [`StoreError::Mongo`] or [`StoreError::Io`], after which the old or the new
    /// checkpoint is stored as a whole.
    pub async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        match self {
            Self::MongoDb(store) => store.save(checkpoint).await,
            Self::Files(store) => store.save(checkpoint).await,
        }
    }

    /// Copies a checkpoint to the history, and deletes the entries whose cluster time is earlier than its own by more than
    /// `keep`. In files some entries stay longer, by a sixteenth of `keep` (see [`FileStore`]).
    ///
    /// # Errors
    /// [`StoreError::Mongo`] or [`StoreError::Io`].
    pub async fn remember(&self, checkpoint: &Checkpoint, keep: Duration) -> Result<(), StoreError> {
        match self {
            Self::MongoDb(store) => store.remember(checkpoint, keep).await,
            Self::Files(store) => store.remember(checkpoint, keep).await,
        }
    }

    /// The last `limit` entries of the history, the newest `updated_at` first. Unreadable entries are left out with a
    /// warning in the log, because the other entries are needed after an incident.
    ///
    /// # Errors
    /// [`StoreError::Mongo`] or [`StoreError::Io`].
    pub async fn history(&self, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        match self {
            Self::MongoDb(store) => store.history(limit).await,
            Self::Files(store) => store.history(limit).await,
        }
    }

    /// The entry of the history with this id.
    ///
    /// # Errors
    /// [`StoreError::Garbled`] when the entry cannot be read; [`StoreError::Mongo`] or [`StoreError::Io`].
    pub async fn find(&self, id: &str) -> Result<Option<HistoryEntry>, StoreError> {
        match self {
            Self::MongoDb(store) => store.find(id).await,
            Self::Files(store) => store.find(id).await,
        }
    }

    /// Deletes the checkpoint, and with it the protection by its term. The history stays.
    ///
    /// # Errors
    /// [`StoreError::Mongo`] or [`StoreError::Io`].
    pub async fn clear(&self) -> Result<(), StoreError> {
        match self {
            Self::MongoDb(store) => store.clear().await,
            Self::Files(store) => store.clear().await,
        }
    }
}

/// A readable text of the error. For a failed write, the text of the driver would show its internal types.
fn describe(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) => format!("{} (code {})", error.message, error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("the write was not acknowledged by a majority: {} (code {})", error.message, error.code)
        }
        other => other.to_string(),
    }
}
