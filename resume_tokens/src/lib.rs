//! What a checkpoint of a change stream is, where it is kept, and its history.
//! Knows nothing of what the events mean, reads no clock and no configuration: the caller decides
//! when to save, what to do about an error, and what time it is. See `README.md` for the formats.

mod checkpoint;
mod checkpoint_file;
mod durable;
mod file_store;
mod format;
mod history_file;
mod mongo_store;
mod old_worker;
mod store;
mod token;

pub use checkpoint::{Checkpoint, History, HistoryEntry};
pub use file_store::FileStore;
pub use format::FormatError;
pub use mongo_store::{HISTORY_COLLECTION, MongoStore, STATE_COLLECTION};
pub use old_worker::{OLD_WORKER_COLLECTION, OldTokens, OldWorkerTokens};
pub use store::{Store, StoreError};
pub use token::{ResumeToken, TokenError, TokenKind};
