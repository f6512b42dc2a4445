//! Files that survive a crash: replaced whole or not at all, on the disk when a function returns, one
//! writer at a time. Blocking: never call it on an async thread.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::StoreError;

const LOCK_POLL: Duration = Duration::from_millis(10);
/// Two seconds: a writer holds the lock for the time of a few `fsync`s. Longer means that its process is
/// suspended, or its disk stuck.
const LOCK_ATTEMPTS: usize = 200;

/// Gives `path` these contents, or leaves it as it is: written beside it under another name, synced,
/// renamed, and the folder synced. What an earlier attempt left there is overwritten.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), StoreError> {
    let aside = with_suffix(path, ".aside");
    let mut file = File::create(&aside).map_err(StoreError::io("create", &aside))?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    written.map_err(StoreError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(StoreError::io("replace", path))?;
    sync_folder(folder_of(path))
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed.map_err(StoreError::io("remove", path))?;
            sync_folder(folder_of(path))
        }
    }
}

/// Makes a new or removed name in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync", folder))
}

/// Creates a folder and those above it, each one durable.
pub(crate) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    if above != folder {
        create_folder(above)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        created => {
            created.map_err(StoreError::io("create", folder))?;
            sync_folder(above)
        }
    }
}

/// Waits until no other writer has `path` locked. The lock ends with the returned file, or with the
/// process, whatever ends it.
pub(crate) fn lock(path: &Path) -> Result<File, StoreError> {
    let opened = OpenOptions::new().create(true).write(true).truncate(false).open(path);
    let file = opened.map_err(StoreError::io("create", path))?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
    }
    let held = io::Error::new(io::ErrorKind::ResourceBusy, "another process keeps it locked");
    Err(StoreError::io("lock", path)(held))
}

/// `path` with something after its extension.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder of a relative path without one is the current one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}
