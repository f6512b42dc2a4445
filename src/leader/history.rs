//! Which history of the database a checkpoint is of. A token is resumed by any server whose oplog holds its time: whether
//! that is the history that was read up to there, only what is stored with the checkpoint and on the server can tell.

use bson::{Bson, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use resume_tokens::{Checkpoint, History, Store};

use crate::error::{Failure, command_code};
use crate::model::names::STATE;
use crate::model::names::state_id::POSITION;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::{Writer, command};

/// `Unauthorized`
const UNAUTHORIZED: i32 = 13;

/// The history of the database as it is now.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn current(database: &Database) -> Result<History, Failure> {
    let hello = with_deadline(database.run_command(doc! { "hello": 1 })).await.map_err(Failure::Read)?;
    let set = hello.get_str("setName").unwrap_or_default().to_owned();
    Ok(History { set, database: database.name().to_owned(), collection: uuid(database).await? })
}

/// The UUID of [`STATE`], whose document the lease is; `None` where it may not be read.
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

/// Why the checkpoint is not of the current history; `None` when it is, or is one of 1.0.0, which does not tell.
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
        // Recorded before each save: a crash in between leaves a later one on the server, never an earlier one.
        Some(recorded) => checkpoint.cluster_time <= recorded,
        // Dropped with its database, which the stream told of: see `Checkpoints::note_drop`.
        None => history.collection.is_none(),
    };
    Ok((!is_known).then_some("later than what the server knows to be saved: the server was restored since"))
}

/// Records on the server that the position is about to be saved in a file; in MongoDB, the checkpoint says so itself.
///
/// # Errors
/// As [`command::record`].
pub(crate) async fn record(writer: &Writer, store: &Store, position: Timestamp, term: i64) -> Result<(), Failure> {
    match store {
        Store::MongoDb(_) => Ok(()),
        Store::Files(_) => {
            let filter = doc! { "_id": POSITION, "term": { "$not": { "$gt": term } } };
            let set = doc! { "$set": { "cluster_time": position, "term": term } };
            command::record(writer, STATE, filter, set).await
        }
    }
}
