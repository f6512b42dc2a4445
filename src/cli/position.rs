//! Finds a position in the change stream by its name on the command line: an id of the history, a file with an exported
//! token, or a time.

use std::path::Path;
use std::time::Duration;

use bson::{DateTime, Timestamp};
use resume_tokens::{Checkpoint, ResumeToken};

use crate::context::Context;
use crate::error::Failure;
use crate::leader::lead::store;
use crate::mongo::deadline::with_deadline;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::source::cursor::operation_time;

/// The position that a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedPosition {
    /// A checkpoint, from the history or a file.
    Checkpoint(Box<Checkpoint>),
    /// A resume token without a checkpoint, from a file.
    Token(ResumeToken),
    /// A cluster time.
    Time(Timestamp),
}

impl NamedPosition {
    /// The cluster time of the position.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.cluster_time,
            Self::Token(token) => token.cluster_time(),
            Self::Time(time) => *time,
        }
    }
}

/// Finds the position that `name` stands for.
///
/// # Errors
/// A [`Refusal`] when `name` is no such name, when the history has no such id, or when the store or the server fails.
pub async fn find(context: &Context, name: &str) -> Result<NamedPosition, Refusal> {
    if is_id(name) {
        let entry = with_deadline(store(context).find(name)).await.map_err(Failure::from)?;
        return entry.map(|entry| NamedPosition::Checkpoint(Box::new(entry.checkpoint))).ok_or_else(|| {
            let message = format!("{name}: the history has no such token; `stream-processor tokens list` shows all");
            Refusal::new(Exit::Findings, message)
        });
    }
    if let Some(time) = time(context, name).await? {
        return Ok(NamedPosition::Time(time));
    }
    if Path::new(name).exists() {
        return in_file(Path::new(name));
    }
    Err(Refusal::new(
        Exit::Usage,
        format!(
            "`{name}` is not an id of the history such as 1764000000-1, not a file, and not a time such as 2026-01-31T08:00:00Z \
             or `2h ago`"
        ),
    ))
}

/// Parses a time: RFC 3339, or a duration before the server's time, such as `2h ago`. `None` for any other text.
///
/// # Errors
/// A [`Refusal`] for a time that a MongoDB timestamp cannot hold, or when the server cannot be asked for its time.
pub async fn time(context: &Context, name: &str) -> Result<Option<Timestamp>, Refusal> {
    if let Ok(date) = DateTime::parse_rfc3339_str(name) {
        let seconds = u32::try_from(date.timestamp_millis().div_euclid(1_000));
        let seconds =
            seconds.map_err(|_| Refusal::new(Exit::Usage, format!("`{name}`: a position cannot have this time")))?;
        return Ok(Some(Timestamp { time: seconds, increment: 0 }));
    }
    let Some(length) = name.strip_suffix(" ago").and_then(|length| humantime::parse_duration(length.trim()).ok())
    else {
        return Ok(None);
    };
    // The server's clock counts: the clock of this machine may differ.
    let now = operation_time(&context.database).await?;
    Ok(Some(before(now, length)))
}

fn before(now: Timestamp, length: Duration) -> Timestamp {
    let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX);
    Timestamp { time: now.time.saturating_sub(seconds), increment: 0 }
}

/// Reads a position from a file: a checkpoint that `tokens export` wrote, or a resume token as MongoDB writes it.
///
/// # Errors
/// A [`Refusal`] when the file cannot be read, or has neither.
pub fn in_file(path: &Path) -> Result<NamedPosition, Refusal> {
    let unusable = |reason: &dyn std::fmt::Display| {
        let expected = "expected a file from `tokens export`, or {\"_data\": \"82…\"}";
        Refusal::new(Exit::Usage, format!("{}: {reason}; {expected}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let reason = match Checkpoint::from_json(&text) {
        Ok(checkpoint) => return Ok(NamedPosition::Checkpoint(Box::new(checkpoint))),
        Err(reason) => reason,
    };
    let bare = serde_json::from_str::<bson::Document>(&text).ok();
    let bare = bare.filter(|document| document.contains_key("_data"));
    match bare.map(|document| ResumeToken::from_document(&document)) {
        Some(Ok(token)) => Ok(NamedPosition::Token(token)),
        Some(Err(reason)) => Err(unusable(&reason)),
        None => Err(unusable(&reason)),
    }
}

/// True for `<seconds>-<increment>`, the form of the ids in the history.
fn is_id(name: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(seconds, increment)| is_number(seconds) && is_number(increment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_from_a_date_and_a_file() {
        assert!(is_id("1764000000-1"));
        for other in ["2026-01-31T08:00:00Z", "2h ago", "token.json", "-1", "1-", ""] {
            assert!(!is_id(other), "{other}");
        }
    }
}
