//! Checks that a checkpoint belongs to the history of the present database.
//! Any server whose oplog reaches back to the time of a resume token accepts the token, also a server with another
//! history. So the checkpoint names its history, and the server keeps a record of its own.

use bson::{Bson, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use resume_tokens::{Checkpoint, History, Store};

use crate::error::{Failure, command_code};
use crate::interruption::Unfinished;
use crate::model::names::STATE;
use crate::model::names::state_id::POSITION;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::{Writer, update_command};

/// The server's code `Unauthorized`.
const UNAUTHORIZED: i32 = 13;

/// Reads the names of replica set and database and the UUID of [`STATE`], which together name a history.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn current(database: &Database) -> Result<History, Failure> {
    let hello = with_deadline(database.run_command(doc! { "hello": 1 })).await.map_err(Failure::Read)?;
    let set = hello.get_str("setName").unwrap_or_default().to_owned();
    Ok(History { set, database: database.name().to_owned(), collection: uuid(database).await? })
}

/// Reads the UUID of [`STATE`]; `None` without the collection, or without the privilege to list collections.
async fn uuid(database: &Database) -> Result<Option<String>, Failure> {
    let listing = async {
        let listed = database.list_collections().filter(doc! { "name": STATE }).await?;
        listed.try_collect::<Vec<_>>().await
    };
    let listed = match with_deadline(listing).await {
        Err(error) if command_code(&error) == Some(UNAUTHORIZED) => return Ok(None),
        listed => listed.map_err(Failure::Read)?,
    };
    let uuid = listed.first().and_then(|collection| collection.info.uuid.as_ref());
    Ok(uuid.map(|uuid| uuid.bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Returns the reason why a checkpoint does not belong to the current history; `None` when it does. A checkpoint of
/// version 1.0.0 names no history and counts as belonging to the current one.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn contradiction(
    database: &Database,
    store: &Store,
    checkpoint: &Checkpoint,
) -> Result<Option<&'static str>, Failure> {
    let Some(history) = &checkpoint.history else {
        return Ok(None);
    };
    let difference = history.difference(&current(database).await?);
    if difference.is_some() || !matches!(store, Store::Files(_)) {
        return Ok(difference);
    }
    let recorded =
        with_deadline(collection(database, STATE).find_one(doc! { "_id": POSITION })).await.map_err(Failure::Read)?;
    let recorded = recorded.as_ref().and_then(|recorded| recorded.get("cluster_time")).and_then(Bson::as_timestamp);
    let is_known = match recorded {
        // The position is recorded before each save. A crash in between leaves a later one on the server, never an
        // earlier one.
        Some(recorded) => checkpoint.cluster_time <= recorded,
        // The record was dropped with its database. If the stream told of the drop, the checkpoint names no UUID (see
        // `Checkpoints::note_drop`).
        None => history.collection.is_none(),
    };
    Ok((!is_known).then_some("later than what the server knows to be saved: the server was restored since"))
}

/// Records a position on the server before it is saved in a file. A checkpoint in MongoDB needs no such record.
///
/// # Errors
/// As [`update_command::record`].
pub(crate) async fn record(writer: &Writer, store: &Store, position: Timestamp, term: i64) -> Result<(), Unfinished> {
    match store {
        Store::MongoDb(_) => Ok(()),
        Store::Files(_) => {
            let filter = doc! { "_id": POSITION, "term": { "$not": { "$gt": term } } };
            let set = doc! { "$set": { "cluster_time": position, "term": term } };
            update_command::record(writer, STATE, filter, set).await
        }
    }
}
