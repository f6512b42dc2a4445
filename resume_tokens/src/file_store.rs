//! The store in files. It keeps the token outside the database that the token describes. All work on the disk runs on
//! threads for blocking work. `checkpoint_file.rs` and `history_file.rs` have the formats of the files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Checkpoint, HistoryEntry, StoreError, checkpoint_file, durable, history_file};

/// Keeps the checkpoint in the file `<name>.json` of a folder, and the history in `<name>.history.jsonl`.
/// [`crate::Store`] describes the methods.
///
/// The first write creates the folder. The file `<name>.lock` prevents two processes from writing at once. A file
/// `….aside` is a new version that is not complete yet. The history is shortened when its first entry is older than
/// `keep` and a sixteenth of it.
#[derive(Debug, Clone)]
pub struct FileStore {
    folder: PathBuf,
    checkpoint: PathBuf,
    history: PathBuf,
    lock: PathBuf,
}

impl FileStore {
    /// Does not touch the disk. `name` distinguishes processors that share a folder. In the names of the files, every
    /// byte of `name` that is not a letter, a digit, `-` or `_` of ASCII becomes `%` and its hexadecimal code.
    #[must_use]
    pub fn new(directory: PathBuf, name: &str) -> Self {
        let file = directory.join(file_name(name));
        Self {
            folder: directory,
            checkpoint: durable::with_suffix(&file, ".json"),
            history: durable::with_suffix(&file, ".history.jsonl"),
            lock: durable::with_suffix(&file, ".lock"),
        }
    }

    /// The path of the checkpoint, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.checkpoint
    }

    pub(crate) async fn load(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.off_thread(|store| checkpoint_file::load(&store.checkpoint)).await
    }

    pub(crate) async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let checkpoint = checkpoint.clone();
        self.writing(move |store| checkpoint_file::save(&store.checkpoint, &checkpoint)).await
    }

    pub(crate) async fn remember(&self, checkpoint: &Checkpoint, keep: Duration) -> Result<(), StoreError> {
        let checkpoint = checkpoint.clone();
        self.writing(move |store| {
            history_file::append(&store.history, &checkpoint)?;
            history_file::prune(&store.history, &checkpoint, keep)
        })
        .await
    }

    pub(crate) async fn history(&self, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        self.off_thread(move |store| history_file::read(&store.history, limit)).await
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Option<HistoryEntry>, StoreError> {
        let id = id.to_owned();
        self.off_thread(move |store| history_file::find(&store.history, &id)).await
    }

    pub(crate) async fn clear(&self) -> Result<(), StoreError> {
        self.writing(|store| durable::remove(&store.checkpoint)).await
    }

    /// Creates the folder if it is missing, and runs `write` under the lock.
    async fn writing(
        &self,
        write: impl FnOnce(&Self) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.off_thread(|store| {
            durable::create_folder(&store.folder)?;
            let _locked = durable::lock(&store.lock)?;
            write(store)
        })
        .await
    }

    /// Runs blocking work to its end, also when the caller stops waiting.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let finished = tokio::task::spawn_blocking(move || work(&store)).await;
        finished.map_err(std::io::Error::other).map_err(StoreError::io("finish the work on", &self.folder))?
    }
}

fn file_name(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let store = FileStore::new(PathBuf::from("data"), "../production é");
        assert_eq!(store.path(), Path::new("data/%2E%2E%2Fproduction%20%C3%A9.json"));
        let store = FileStore::new(PathBuf::from("data"), "stream-processor_1");
        assert_eq!(store.path(), Path::new("data/stream-processor_1.json"));
    }
}
