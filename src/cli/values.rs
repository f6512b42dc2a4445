//! Reads the values of arguments. A value that can be checked without a database is refused here, before a connection
//! is made.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::oid::ObjectId;

use crate::config::Choice as _;
use crate::maintenance::command::pause_limit;
use crate::maintenance::stored_commands;
use crate::model::names::WatchedCollection;
use crate::phase::Phase;
use crate::ticker::job::TimedJob;
use crate::ticker::ticker_command::JobOrder;

/// Reads the name of a phase.
pub(super) fn phase(word: &str) -> Result<Phase, String> {
    Phase::from_word(word).ok_or_else(|| format!("not a phase; the phases are {}", Phase::WORDS.join(", ")))
}

/// Reads an `_id`. The driver's own message names no remedy.
pub(super) fn object_id(text: &str) -> Result<ObjectId, String> {
    ObjectId::parse_str(text)
        .map_err(|_| "not an _id: 24 hexadecimal digits, such as 65102a7347a6ef7545b05ef0".to_owned())
}

/// Reads the reason of an operator.
pub(super) fn reason(text: &str) -> Result<String, String> {
    stored_commands::reason(text)
}

/// Reads the name of the person who gives a command.
pub(super) fn name(text: &str) -> Result<String, String> {
    stored_commands::one_line(text, 100)
        .ok_or_else(|| "not a name: one line of 100 characters at most, and not blank".to_owned())
}

/// Reads the limit of a pause: from a second to 30 days.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    pause_limit(text).ok_or_else(|| "not a duration such as 30m or 2h, of 30 days at most".to_owned())
}

/// The ceiling of `throttle`, in writes per second; `None` for `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling(pub Option<u32>);

/// Reads the ceiling of `throttle`: a number of writes per second, or `off`.
pub(super) fn ceiling(text: &str) -> Result<Ceiling, String> {
    match text.parse() {
        _ if text == "off" => Ok(Ceiling(None)),
        Ok(ceiling @ 1..=1_000_000) => Ok(Ceiling(Some(ceiling))),
        _ => Err("not a number of writes per second from 1 to 1000000, and not `off`".to_owned()),
    }
}

/// Reads the name of a time-based job.
pub(super) fn job(name: &str) -> Result<TimedJob, String> {
    TimedJob::named(name).ok_or_else(|| format!("there is no such job; the jobs are {}", job_names().join(", ")))
}

/// Reads the name of a job in the ledger: a time-based job, or one that only runs by hand.
pub(super) fn recorded_job(name: &str) -> Result<String, String> {
    let names: Vec<&str> = job_names().into_iter().chain(JobOrder::BY_HAND).collect();
    let is_known = names.contains(&name);
    is_known.then(|| name.to_owned()).ok_or_else(|| format!("there is no such job; the jobs are {}", names.join(", ")))
}

fn job_names() -> Vec<&'static str> {
    TimedJob::ALL.into_iter().map(TimedJob::name).collect()
}

/// Reads the name of a collection whose events a replay can read.
pub(super) fn collection(name: &str) -> Result<WatchedCollection, String> {
    WatchedCollection::from_name(name).ok_or_else(|| {
        let all = WatchedCollection::ALL.into_iter().chain([WatchedCollection::Offers]);
        let names: Vec<&str> =
            all.filter(|one| *one != WatchedCollection::Canary).map(WatchedCollection::name).collect();
        format!("this collection is not read; choose one of {}", names.join(", "))
    })
}

/// Reads the id of a dead letter: the name of a collection, and the id of a document.
pub(super) fn dead_letter(id: &str) -> Result<String, String> {
    let parts = id.split_once('/').filter(|(_, document)| !document.is_empty());
    let is_id = parts.is_some_and(|(collection, _)| WatchedCollection::from_name(collection).is_some());
    is_id.then(|| id.to_owned()).ok_or_else(|| {
        "not the id of a dead letter such as recruiters/65102a7347a6ef7545b05ef0; `stream-processor dead-letters list` \
         shows the ids"
            .to_owned()
    })
}

/// Reads the id of an entry in the history of positions.
pub(super) fn history_id(id: &str) -> Result<String, String> {
    let is_id = super::position::is_id(id);
    is_id.then(|| id.to_owned()).ok_or_else(|| "not an id such as 1764000000-1; `tokens list` shows the ids".to_owned())
}

/// Reads the path of a file that can be read; `-` is the standard input.
pub(super) fn file_to_read(path: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(path);
    if path != "-" {
        let is_folder = if file.is_dir() { Err(std::io::Error::from(ErrorKind::IsADirectory)) } else { Ok(()) };
        is_folder
            .and_then(|()| File::open(&file))
            .map_err(|error| format!("cannot be read: {error}; give another file, or - and pipe the text"))?;
    }
    Ok(file)
}

/// Reads the path of a file that can be written; `-` is the standard output. A long command must not end without its
/// report.
pub(super) fn file_to_write(path: &str) -> Result<PathBuf, String> {
    let file = Path::new(path);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    match (file.is_dir(), folder.is_dir()) {
        (true, _) => Err("cannot be written: it is a folder; choose another file".to_owned()),
        (_, false) => Err("cannot be written: there is no such folder; choose another file".to_owned()),
        (false, true) => writable(file).map(|()| file.to_owned()),
    }
}

/// Checks that a file can be written, before hours of work. A file that is not there yet is created and removed again.
fn writable(file: &Path) -> Result<(), String> {
    let (is_new, mut options) = (!file.exists(), OpenOptions::new());
    if file.as_os_str() != "-" {
        options
            .append(true)
            .create(is_new)
            .open(file)
            .map_err(|error| format!("cannot be written: {error}; choose another file"))?;
        if is_new {
            // A file that stays is overwritten later.
            let _ = std::fs::remove_file(file);
        }
    }
    Ok(())
}

/// Reads the path of a file that must not exist yet; `-` is the standard output. An existing file is never overwritten:
/// an export may be the last copy of a position.
pub(super) fn new_file(path: &str) -> Result<PathBuf, String> {
    // A link that leads nowhere is a file too.
    if path != "-" && Path::new(path).symlink_metadata().is_ok() {
        return Err("the file exists; choose another file".to_owned());
    }
    file_to_write(path)
}
