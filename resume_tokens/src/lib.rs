//! Checkpoints of a change stream, their history, and the stores that keep them. The crate does not know the meaning of
//! events, and reads no clock and no configuration. The caller decides when to save and what to do about an error, and
//! gives the time. `README.md` has the formats.

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
