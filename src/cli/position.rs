//! Finds a position in the change stream by its name on the command line: an id of the history, a file with an exported
//! token, or a time. A name is read before a connection is made; only then are the history and the server asked.

use std::path::Path;
use std::str::FromStr;

use bson::Timestamp;
use resume_tokens::{Checkpoint, ResumeToken};

use super::time::{self, TimeName};
use crate::context::Context;
use crate::error::Failure;
use crate::leader::lead::store;
use crate::mongo::deadline::with_deadline;
use crate::refusal::Exit;
use crate::refusal::Refusal;

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

/// The name of a position, as an argument gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum PositionName {
    /// The id of an entry in the history.
    Id(String),
    Time(TimeName),
    /// The content of a file.
    Content(NamedPosition),
}

impl FromStr for PositionName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if is_id(name) {
            return Ok(Self::Id(name.to_owned()));
        }
        if name == "-" {
            return in_file(name).map(Self::Content);
        }
        if let Some(time) = time::read(name)? {
            return Ok(Self::Time(time));
        }
        if Path::new(name).exists() {
            return in_file(name).map(Self::Content);
        }
        Err("not an id of the history such as 1764000000-1, not a file, and not a time such as 2026-01-31T08:00:00Z, 2h ago, \
             01:30, `yesterday 14:00` or 2026-01-31"
            .to_owned())
    }
}

/// The position at which a halted leader goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum ResumePosition {
    Now,
    Named(PositionName),
}

impl FromStr for ResumePosition {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "now" { Ok(Self::Now) } else { name.parse().map(Self::Named) }
    }
}

impl PositionName {
    /// Finds the position that the name stands for.
    ///
    /// # Errors
    /// A [`Refusal`] when the history has no such id, or when the store or the server fails.
    pub async fn find(&self, context: &Context) -> Result<NamedPosition, Refusal> {
        match self {
            Self::Id(id) => Ok(NamedPosition::Checkpoint(Box::new(in_history(context, id).await?))),
            Self::Time(time) => Ok(NamedPosition::Time(time.position(context).await?)),
            Self::Content(position) => Ok(position.clone()),
        }
    }
}

/// Finds the checkpoint with this id in the history.
///
/// # Errors
/// A [`Refusal`] when the history has no such id, or when the store fails.
pub async fn in_history(context: &Context, id: &str) -> Result<Checkpoint, Refusal> {
    let entry = with_deadline(store(context).find(id)).await.map_err(Failure::from)?;
    entry.map(|entry| entry.checkpoint).ok_or_else(|| {
        let message = format!("{id}: the history has no such token; `stream-processor tokens list` shows all");
        Refusal::new(Exit::Findings, message)
    })
}

/// Reads a position from a file: a checkpoint that `tokens export` wrote, or a resume token as MongoDB writes it. `-` is
/// the standard input.
///
/// # Errors
/// A text that says why the file cannot be read, or that it has neither.
pub fn in_file(path: &str) -> Result<NamedPosition, String> {
    let unusable = |reason: &dyn std::fmt::Display| {
        format!("{reason}; expected a file from `tokens export`, or {{\"_data\": \"82…\"}}")
    };
    let text = if path == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| unusable(&error))?;
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
#[must_use]
pub(super) fn is_id(name: &str) -> bool {
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
