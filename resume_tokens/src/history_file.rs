//! The history of checkpoints as one file of JSON lines, the oldest first. Entries are appended. The whole file is
//! rewritten only to drop old entries. The functions block the thread. The caller of `append` and `prune` must hold the
//! lock.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use bson::Timestamp;
use tracing::warn;

use crate::{Checkpoint, FormatError, HistoryEntry, StoreError, durable};

/// The number of rewrites of the file in the time `keep`. The file is rewritten when its first entry is too old by a
/// sixteenth of `keep`, and not at every append.
const REWRITES: u32 = 16;

/// Appends an entry. The entry is durable when the function returns.
pub(crate) fn append(path: &Path, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let line = checkpoint.to_history_line().map_err(io::Error::other).map_err(StoreError::io("write", path))?;
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    let opened = options.create(true).read(true).append(true).open(path);
    let mut file = opened.map_err(StoreError::io("open", path))?;
    let written = mend_end(&mut file, path).and_then(|()| file.write_all(line.as_bytes()));
    written.and_then(|()| file.sync_all()).map_err(StoreError::io("write", path))?;
    if is_new { durable::sync_folder(durable::folder_of(path)) } else { Ok(()) }
}

/// Repairs a last line without line feed, as a crash leaves it. Otherwise the next line would continue it. A complete
/// line gets its line feed, and a torn line is removed.
fn mend_end(file: &mut File, path: &Path) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(());
    }
    let mut contents = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut contents)?;
    let end = contents.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
    if contents.get(end..).is_some_and(|line| read_line(line).is_ok()) {
        return file.write_all(b"\n");
    }
    warn!(path = %path.display(), "the last line of the history is incomplete; it is removed");
    file.set_len(end as u64)
}

/// Drops the entries that are older than `checkpoint` by more than `keep`, and unreadable lines. Does nothing while the
/// first entry is not old enough (see [`REWRITES`]).
pub(crate) fn prune(path: &Path, checkpoint: &Checkpoint, keep: Duration) -> Result<(), StoreError> {
    let far_too_old = checkpoint.oldest_to_keep(keep.saturating_add(keep / REWRITES));
    let first = lines(path)?.next().transpose().map_err(StoreError::io("read", path))?;
    let is_current = |entry: HistoryEntry| entry.checkpoint.cluster_time >= far_too_old;
    if first.is_none_or(|line| read_line(&line).is_ok_and(is_current)) {
        return Ok(());
    }
    let oldest = checkpoint.oldest_to_keep(keep);
    let kept = lines(path)?;
    durable::replace(path, |file| {
        let mut file = io::BufWriter::new(file);
        for line in kept {
            let line = line?;
            if is_kept(&line, oldest, path) {
                file.write_all(&line)?;
                file.write_all(b"\n")?;
            }
        }
        file.flush()
    })
}

fn is_kept(line: &[u8], oldest: Timestamp, path: &Path) -> bool {
    match read_line(line) {
        Ok(entry) => entry.checkpoint.cluster_time >= oldest,
        Err(error) => {
            warn!(path = %path.display(), %error, "a line of the history cannot be read; it is removed");
            false
        }
    }
}

/// The last `limit` entries, the newest first. Of several entries with the same id only the last one counts.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
    let mut by_id = HashMap::new();
    for (index, line) in lines(path)?.enumerate() {
        match read_line(&line.map_err(StoreError::io("read", path))?) {
            Ok(entry) => {
                by_id.insert(entry.id.clone(), entry);
            }
            Err(error) => {
                let number = index + 1;
                warn!(path = %path.display(), line = number, %error, "a line of the history cannot be read; it is skipped");
            }
        }
    }
    let mut entries: Vec<HistoryEntry> = by_id.into_values().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.checkpoint.updated_at, entry.checkpoint.cluster_time)));
    entries.truncate(limit);
    Ok(entries)
}

/// The last entry with this id.
pub(crate) fn find(path: &Path, id: &str) -> Result<Option<HistoryEntry>, StoreError> {
    let mut found = None;
    let quoted = format!("\"{id}\"");
    for (index, line) in lines(path)?.enumerate() {
        let line = line.map_err(StoreError::io("read", path))?;
        let place = || format!("line {} of `{}`", index + 1, path.display());
        match read_line(&line) {
            Ok(entry) if entry.id == id => found = Some(Ok(entry)),
            Err(reason) if String::from_utf8_lossy(&line).contains(&quoted) => {
                found = Some(Err(StoreError::Garbled { place: place(), reason }));
            }
            _ => {}
        }
    }
    found.transpose()
}

/// The lines without their line feeds. Without a file there are no lines.
fn lines(path: &Path) -> Result<impl Iterator<Item = io::Result<Vec<u8>>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    Ok(file.into_iter().flat_map(|file| BufReader::new(file).split(b'\n')))
}

fn read_line(line: &[u8]) -> Result<HistoryEntry, FormatError> {
    Checkpoint::from_json(&String::from_utf8_lossy(line)).map(HistoryEntry::of)
}
