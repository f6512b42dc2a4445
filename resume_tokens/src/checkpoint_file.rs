//! The file of one checkpoint. The functions block the thread. The caller of `save` must hold the lock.

use std::path::Path;
use std::{fs, io};

use serde_json::Value;
use tracing::warn;

use crate::{Checkpoint, StoreError, durable};

/// Reads the checkpoint; `None` when there is no file.
pub(crate) fn load(path: &Path) -> Result<Option<Checkpoint>, StoreError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let checkpoint = Checkpoint::from_json(&String::from_utf8_lossy(&bytes));
    let garbled = |reason| StoreError::Garbled { place: format!("`{}`", path.display()), reason };
    checkpoint.map(Some).map_err(garbled)
}

/// Replaces the file unless a newer term wrote it.
pub(crate) fn save(path: &Path, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    match stored_term(path)? {
        Some(found) if found > checkpoint.term => {
            return Err(StoreError::NewerTerm { found, ours: checkpoint.term });
        }
        _ => {}
    }
    let json = checkpoint.to_json().map_err(io::Error::other).map_err(StoreError::io("write", path))?;
    durable::replace(path, |file| file.write_all(json.as_bytes()))
}

/// Reads the term alone, because the term protects the file also when other fields are garbled.
fn stored_term(path: &Path) -> Result<Option<i64>, StoreError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let stored = serde_json::from_slice::<Value>(&bytes);
    let term = stored.ok().and_then(|stored| stored.get("term").and_then(Value::as_i64));
    if term.is_none() {
        warn!(path = %path.display(), "the stored checkpoint has no readable term; it is overwritten");
    }
    Ok(term)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}
