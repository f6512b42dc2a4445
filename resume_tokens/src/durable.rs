//! Files that survive a crash. A file is replaced as a whole or not at all, and is on the disk when a function returns.
//! A lock allows one writer at a time. The functions block: an async thread must not call them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::StoreError;

const LOCK_POLL: Duration = Duration::from_millis(10);
/// Two seconds in all. A writer keeps the lock for the time of a few `fsync`s. A longer time means that its process is
/// suspended or its disk does not answer.
const LOCK_ATTEMPTS: usize = 200;

/// Replaces the file at `path`, or leaves it as it is. The new content is written to a second file, which is synced and
/// renamed to `path`. Then the folder is synced. A second file of an earlier attempt is overwritten.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), StoreError> {
    let aside = with_suffix(path, ".aside");
    let mut file = File::create(&aside).map_err(StoreError::io("create", &aside))?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    written.map_err(StoreError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(StoreError::io("replace", path))?;
    sync_folder(folder_of(path))
}

/// Removes a file if it exists.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed.map_err(StoreError::io("remove", path))?;
            sync_folder(folder_of(path))
        }
    }
}

/// Makes the creation or removal of a file in this folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync", folder))
}

/// Creates a folder and its missing parents, and makes each of them durable.
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

/// Locks `path`, and waits while another writer has the lock. The lock ends when the returned file is closed, or when
/// the process ends.
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

/// Appends `suffix` to the name of the file, after its extension.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder of a file. A path without a folder is in the current one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}
