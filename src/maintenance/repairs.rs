//! What still has to be repaired: open gaps, and the resync that runs or waits. Offers may be old until it has ended.

use bson::{Bson, doc};
use mongodb::Database;

use super::resync::StoredResync;
use super::stored_commands::Command;
use super::unfinished_commands;
use crate::error::Failure;
use crate::model::names::gap_state::OPEN;
use crate::model::names::{GAPS, WatchedCollection};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// The state of the resync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResyncCondition {
    /// None runs, and none is requested.
    Absent,
    /// An operator requested one, and it has not begun.
    Requested,
    /// One runs. `percent` is the part of the recruiters that is done; `None` in the stages beside them.
    Running { percent: Option<u64> },
}

/// What still has to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RepairCondition {
    /// The gaps that no resync has repaired yet.
    pub open_gaps: u64,
    pub resync: ResyncCondition,
}

/// Reads what still has to be repaired. `resync` is the stored resync.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn read(database: &Database, resync: Option<&StoredResync>) -> Result<RepairCondition, Failure> {
    let gaps = with_deadline(collection(database, GAPS).count_documents(doc! { "state": OPEN })).await;
    let resync = match resync {
        Some(resync) => ResyncCondition::Running { percent: recruiters_done(database, resync).await? },
        None if is_requested(database).await? => ResyncCondition::Requested,
        None => ResyncCondition::Absent,
    };
    Ok(RepairCondition { open_gaps: gaps.map_err(Failure::Read)?, resync })
}

/// The part of the recruiters that a resync has touched, in percent. The other stages are short, or may go through so many
/// offers that a survey must not count them.
async fn recruiters_done(database: &Database, resync: &StoredResync) -> Result<Option<u64>, Failure> {
    let recruiters = WatchedCollection::Recruiters.name();
    let (Some(Bson::ObjectId(after)), true) = (&resync.after, resync.stage.as_deref() == Some(recruiters)) else {
        return Ok(None);
    };
    let documents = collection(database, recruiters);
    let all = with_deadline(documents.estimated_document_count()).await.map_err(Failure::Read)?;
    let done = with_deadline(documents.count_documents(doc! { "_id": { "$lte": after } })).await;
    Ok((done.map_err(Failure::Read)? * 100).checked_div(all).map(|percent| percent.min(100)))
}

async fn is_requested(database: &Database) -> Result<bool, Failure> {
    let name = Command::Resync { reason: String::new() }.name();
    Ok(unfinished_commands::unfinished(database).await?.iter().any(|command| command.name == name))
}
