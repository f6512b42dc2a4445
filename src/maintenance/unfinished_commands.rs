//! Reads the stored commands that have not ended, for `status`.

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::stored_commands::{StoredCommand, read};
use crate::error::Failure;
use crate::model::names::COMMANDS;
use crate::model::names::command_state::{RUNNING, UNFINISHED};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// The few facts about an unfinished command that `status` shows, also about a command of another version.
#[derive(Debug)]
pub(crate) struct UnfinishedCommand {
    pub name: String,
    /// One of [`UNFINISHED`].
    pub state: String,
    pub requested_at: DateTime,
}

/// Reads the commands that have not ended. A document without one of the fields is left out.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn unfinished(database: &Database) -> Result<Vec<UnfinishedCommand>, Failure> {
    let filter = doc! { "state": { "$in": UNFINISHED.to_vec() } };
    let commands = with_deadline(collection(database, COMMANDS).find(filter)).await.map_err(Failure::Read)?;
    let commands: Vec<Document> = with_deadline(commands.try_collect()).await.map_err(Failure::Read)?;
    let command = |stored: &Document| {
        Some(UnfinishedCommand {
            name: stored.get_document("order").ok()?.get_str("name").ok()?.to_owned(),
            state: stored.get_str("state").ok()?.to_owned(),
            requested_at: *stored.get_datetime("requested_at").ok()?,
        })
    };
    Ok(commands.iter().filter_map(command).collect())
}

/// Reads the commands that are being carried out. One that this version cannot read is left out.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn running(database: &Database) -> Result<Vec<StoredCommand>, Failure> {
    let commands = with_deadline(collection(database, COMMANDS).find(doc! { "state": RUNNING })).await;
    let commands: Vec<Document> =
        with_deadline(commands.map_err(Failure::Read)?.try_collect()).await.map_err(Failure::Read)?;
    Ok(commands.iter().filter_map(|stored| read(stored).ok()).collect())
}
