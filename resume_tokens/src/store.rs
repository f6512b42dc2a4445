//! The two places where checkpoints are kept, behind one set of methods, and what can go wrong there.
//! Retries nothing: the caller's table of errors decides.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::Document;
use mongodb::error::{ErrorKind, WriteFailure};

use crate::{Checkpoint, FileStore, FormatError, HistoryEntry, MongoStore};

/// Where the checkpoint and its history are kept.
#[derive(Debug, Clone)]
pub enum Store {
    /// In the database that the stream is about (the default).
    MongoDb(MongoStore),
    /// In files, for those who want the token outside the database that it describes.
    Files(FileStore),
}

/// Why a store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// MongoDB refused, or did not answer; the driver's error, to be classified by the caller. Its text
    /// may name hosts and tokens, no person's data: these collections hold none.
    #[error("MongoDB failed on a checkpoint: {}", describe(&.0.kind))]
    Mongo(#[from] mongodb::error::Error),
    /// A file or folder refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What is stored cannot be read. It is there, so this is not a first start.
    #[error("the checkpoint stored in {place} cannot be read: {reason}")]
    Garbled {
        /// Where it is: a file, or a document of a collection.
        place: String,
        /// What is wrong with it.
        reason: FormatError,
    },
    /// Another instance was elected since and has saved a checkpoint: this one must stop writing.
    #[error("a checkpoint of the newer term {found} is stored; that of term {ours} is refused")]
    NewerTerm {
        /// The term of the stored checkpoint.
        found: i64,
        /// The term of the refused one.
        ours: i64,
    },
}

impl StoreError {
    /// For `map_err` on what the operating system answers.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Store {
    /// Sends these variables with every later command that writes (MongoDB manual, "update", `let`); files
    /// have no use for them. One that the server cannot compute makes it refuse the command: so a caller keeps a save
    /// that was held up on the way from being carried out when it is too late.
    pub fn set_variables(&mut self, variables: Option<Document>) {
        match self {
            Self::MongoDb(store) => store.set_variables(variables),
            Self::Files(_) => {}
        }
    }

    /// The checkpoint; `None` when none was ever saved or it was cleared.
    ///
    /// # Errors
    /// [`StoreError::Garbled`] when there is one that cannot be read; [`StoreError::Mongo`] or
    /// [`StoreError::Io`] when the store cannot be.
    pub async fn load(&self) -> Result<Option<Checkpoint>, StoreError> {
        match self {
            Self::MongoDb(store) => store.load().await,
            Self::Files(store) => store.load().await,
        }
    }

    /// Replaces the checkpoint, garbled or not; when this returns, the new one is durable.
    ///
    /// # Errors
    /// [`StoreError::NewerTerm`]; [`StoreError::Mongo`] or [`StoreError::Io`], after which the stored
    /// checkpoint is the old one or the new one, whole.
    pub async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        match self {
            Self::MongoDb(store) => store.save(checkpoint).await,
            Self::Files(store) => store.save(checkpoint).await,
        }
    }

    /// Copies a checkpoint to the history and drops the entries that are older than `keep` before its
    /// `updated_at` (files: some stay a sixteenth of `keep` longer, see [`FileStore`]).
    ///
    /// # Errors
    /// [`StoreError::Mongo`] or [`StoreError::Io`].
    pub async fn remember(&self, checkpoint: &Checkpoint, keep: Duration) -> Result<(), StoreError> {
        match self {
            Self::MongoDb(store) => store.remember(checkpoint, keep).await,
            Self::Files(store) => store.remember(checkpoint, keep).await,
        }
    }

    /// The `limit` last entries of the history, newest `updated_at` first. Those that cannot be read are
    /// left out with a warning in the log: the others matter after an incident.
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
    /// [`StoreError::Garbled`] when it is there and cannot be read; [`StoreError::Mongo`] or
    /// [`StoreError::Io`].
    pub async fn find(&self, id: &str) -> Result<Option<HistoryEntry>, StoreError> {
        match self {
            Self::MongoDb(store) => store.find(id).await,
            Self::Files(store) => store.find(id).await,
        }
    }

    /// Forgets the checkpoint, and with it the term that it guards; the history stays.
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

/// The driver prints its own types for a failed write.
fn describe(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) => format!("{} (code {})", error.message, error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("the write was not acknowledged by a majority: {} (code {})", error.message, error.code)
        }
        other => other.to_string(),
    }
}
