//! The queue of stored commands: documents of `stream_processor_commands`
//! (spec 06, "A command that writes while an instance is running"). The process that holds the lease carries them out.
//! Progress and result are stored, so that the command line can show them and a new leader can go on.

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use mongodb::Database;
use serde::{Deserialize, Serialize};
use tracing::error;

pub(crate) use super::command::{Command, Lane, Span, one_line, reason};
use crate::error::{DUPLICATE_KEY, Failure, command_code};
use crate::failpoint;
use crate::interruption::{Interruption, Unfinished};
use crate::model::names::COMMANDS;
use crate::model::names::command_state::{DONE, REQUESTED, RUNNING, UNFINISHED, UNREADABLE};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::refusal::{Exit, Refusal};

/// The reason of the refusal of a cancelled command.
pub(crate) const CANCELLED: &str = "an operator cancelled the command";

/// The time for which finished commands are kept, in milliseconds: 30 days.
const KEPT_MILLISECONDS: i64 = 30 * 24 * 3_600_000;

/// A command as it is stored in the database.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredCommand {
    pub id: ObjectId,
    pub command: Command,
    /// User and host that gave the command, or `ticker` for a command of a time-based job.
    pub who: String,
    /// The time of the server at which the command was stored.
    pub requested_at: DateTime,
    /// The progress so far. Each kind of command has fields of its own.
    pub progress: Document,
    /// The outcome; `None` until the command is finished.
    pub result: Option<CommandOutcome>,
}

/// The outcome of a stored command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandOutcome {
    /// False if the command was refused.
    pub done: bool,
    /// Counts, or the reasons of the refusal. Each kind of command has fields of its own.
    pub details: Document,
}

impl CommandOutcome {
    /// Makes the refusal that the command line prints, from the stored reasons.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let reasons = self.details.get_array("reasons").map(Vec::as_slice).unwrap_or_default();
        let reasons: Vec<&str> = reasons.iter().filter_map(Bson::as_str).collect();
        Refusal::new(Exit::Findings, format!("refused: {}", reasons.join("; ")))
    }
}

/// Stores a command and returns its id. If an equal command is not finished, its id is returned and nothing is stored.
///
/// # Errors
/// [`Failure::Read`], [`Failure::Write`].
pub(crate) async fn submit(database: &Database, command: &Command, who: &str) -> Result<ObjectId, Failure> {
    let commands = collection(database, COMMANDS);
    let stored = encoded(command)?;
    let same = doc! { "order": &stored, "state": { "$in": UNFINISHED.to_vec() } };
    if let Some(same) = with_deadline(commands.find_one(same)).await.map_err(Failure::Read)? {
        return same.get_object_id("_id").map_err(|_| unreadable("_id"));
    }
    let id = ObjectId::new();
    let document = doc! {
        "_id": id, "order": stored, "state": REQUESTED, "who": who, "requested_at": server_time(database).await?, "progress": {},
    };
    with_deadline(commands.insert_one(document)).await.map_err(Failure::Write)?;
    Ok(id)
}

/// Stores the command of the signal with this id, unless it is stored already. Returns false if another command has the id.
///
/// # Errors
/// [`Failure::Read`], [`Failure::Write`].
pub(crate) async fn submit_of_signal(
    database: &Database,
    signal: ObjectId,
    command: &Command,
    who: &str,
) -> Result<bool, Failure> {
    let document = doc! {
        "order": encoded(command)?, "state": REQUESTED, "who": who, "requested_at": server_time(database).await?,
        "progress": {},
    };
    let commands = collection(database, COMMANDS);
    let stored = commands.update_one(of_signal(signal), doc! { "$setOnInsert": document }).upsert(true);
    match with_deadline(stored).await {
        Ok(_) => Ok(true),
        Err(error) if command_code(&error) == Some(DUPLICATE_KEY) => Ok(false),
        Err(error) => Err(Failure::Write(error)),
    }
}

/// Reads the command of the signal with this id; `None` if there is none.
///
/// # Errors
/// [`Failure::Read`], [`Failure::OwnDocument`].
pub(crate) async fn load_of_signal(database: &Database, signal: ObjectId) -> Result<Option<StoredCommand>, Failure> {
    let stored = with_deadline(collection(database, COMMANDS).find_one(of_signal(signal))).await;
    stored.map_err(Failure::Read)?.as_ref().map(read).transpose()
}

/// Whoever may insert signals chooses their ids, so the id alone could name a command of somebody else.
fn of_signal(signal: ObjectId) -> Document {
    doc! { "_id": signal, "signal": true }
}

/// Removes a stored command that nobody has taken up yet. Returns false if it is taken up.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn withdraw(database: &Database, id: ObjectId) -> Result<bool, Failure> {
    let waiting = doc! { "_id": id, "state": REQUESTED };
    let withdrawn = with_deadline(collection(database, COMMANDS).delete_one(waiting)).await.map_err(Failure::Write)?;
    Ok(withdrawn.deleted_count > 0)
}

/// What became of a request to cancel a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancellation {
    /// Nobody had begun the command, and nobody will.
    Withdrawn,
    /// The holder of the lease, or the next one, ends the command after its current step.
    Requested,
    /// The ticker runs the command, and ends it by itself.
    OfTicker,
    /// The command has ended before.
    Ended,
    /// There is no such command.
    Unknown,
}

/// Cancels a command for the operator `who`. The process that submitted the command is told of it as of a refusal.
///
/// # Errors
/// [`Failure::Read`], [`Failure::Write`].
pub(crate) async fn cancel(database: &Database, id: ObjectId, who: &str) -> Result<Cancellation, Failure> {
    let commands = collection(database, COMMANDS);
    let now = server_time(database).await?;
    let cancel = doc! { "who": who, "at": now };
    let refused = doc! { "done": false, "details": { "reasons": [CANCELLED] } };
    let set = doc! { "state": DONE, "cancel": &cancel, "result": refused, "finished_at": now };
    let waiting = doc! { "_id": id, "state": REQUESTED };
    let withdrawn = with_deadline(commands.update_one(waiting, doc! { "$set": set })).await.map_err(Failure::Write)?;
    if withdrawn.matched_count > 0 {
        return Ok(Cancellation::Withdrawn);
    }
    let running = doc! { "_id": id, "state": RUNNING, "order.name": Lane::Pipeline.names() };
    let set = doc! { "$set": { "cancel": cancel } };
    let requested = with_deadline(commands.update_one(running, set)).await.map_err(Failure::Write)?;
    if requested.matched_count > 0 {
        return Ok(Cancellation::Requested);
    }
    let stored = with_deadline(commands.find_one(doc! { "_id": id })).await.map_err(Failure::Read)?;
    Ok(match stored.as_ref().map(|stored| stored.get_str("state")) {
        Some(Ok(RUNNING)) => Cancellation::OfTicker,
        Some(_) => Cancellation::Ended,
        None => Cancellation::Unknown,
    })
}

/// True if a person cancelled the command while it was being carried out.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn is_cancelled(database: &Database, id: ObjectId) -> Result<bool, Failure> {
    let filter = doc! { "_id": id, "cancel": { "$exists": true } };
    let cancelled = with_deadline(collection(database, COMMANDS).find_one(filter)).await.map_err(Failure::Read)?;
    Ok(cancelled.is_some())
}

/// Takes up a command that was cancelled while it was being carried out, under `term`.
///
/// # Errors
/// [`Failure::Write`], [`Failure::OwnDocument`].
pub(crate) async fn take_up_cancelled(database: &Database, term: i64) -> Result<Option<StoredCommand>, Failure> {
    let filter = doc! {
        "state": RUNNING, "cancel": { "$exists": true }, "term": { "$not": { "$gt": term } },
        "order.name": Lane::Pipeline.names(),
    };
    let commands = collection(database, COMMANDS);
    let taken = commands.find_one_and_update(filter, doc! { "$set": { "term": term } });
    with_deadline(taken).await.map_err(Failure::Write)?.as_ref().map(read).transpose()
}

/// Reads one stored command.
///
/// # Errors
/// [`Failure::Read`], [`Failure::OwnDocument`].
pub(crate) async fn load(database: &Database, id: ObjectId) -> Result<Option<StoredCommand>, Failure> {
    let stored =
        with_deadline(collection(database, COMMANDS).find_one(doc! { "_id": id })).await.map_err(Failure::Read)?;
    stored.as_ref().map(read).transpose()
}

/// Takes up the oldest unfinished command of a lane, or only the one with the id `only`, under `term`. A command that
/// cannot be read is put aside as `unreadable`: a newer version may have written it.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn take_up(
    database: &Database,
    lane: Lane,
    only: Option<ObjectId>,
    term: i64,
) -> Result<Option<StoredCommand>, Failure> {
    let mut filter = doc! {
        "state": { "$in": UNFINISHED.to_vec() }, "term": { "$not": { "$gt": term } }, "order.name": lane.names(),
    };
    if let Some(id) = only {
        filter.insert("_id", id);
    }
    let update = doc! { "$set": { "state": RUNNING, "term": term } };
    let commands = collection(database, COMMANDS);
    let taken = commands
        .find_one_and_update(filter, update)
        .sort(doc! { "_id": 1 })
        .return_document(mongodb::options::ReturnDocument::After);
    let Some(taken) = with_deadline(taken).await.map_err(Failure::Write)? else {
        return Ok(None);
    };
    if let Ok(stored) = read(&taken) {
        return Ok(Some(stored));
    }
    let command = taken.get_object_id("_id").ok().map(ObjectId::to_hex);
    error!(command, "a command cannot be read; it is marked `unreadable` in stream_processor_commands");
    // The process that stored the command can still read this refusal.
    let reason = "the leader cannot read this command, because it has another version: run one version everywhere";
    let refused = doc! { "done": false, "details": { "reasons": [reason] } };
    let aside =
        doc! { "$set": { "state": UNREADABLE, "finished_at": server_time(database).await?, "result": refused } };
    failpoint::passed("aside");
    // The term is a condition, because a successor that can read the command may have taken it up since.
    let mine = doc! { "_id": taken.get("_id"), "term": term };
    with_deadline(commands.update_one(mine, aside)).await.map_err(Failure::Write)?;
    Ok(None)
}

/// Stores the progress of a command.
///
/// # Errors
/// [`Interruption::LeaseLost`] when another leader has taken the command up, [`Failure::Write`].
pub(crate) async fn store_progress(database: &Database, stored: &StoredCommand, term: i64) -> Result<(), Unfinished> {
    update(database, stored.id, term, doc! { "progress": &stored.progress }).await
}

/// Stores the outcome of a command, and deletes commands that finished long ago.
///
/// # Errors
/// As [`store_progress`].
pub(crate) async fn finish(
    database: &Database,
    id: ObjectId,
    term: i64,
    outcome: &CommandOutcome,
) -> Result<(), Unfinished> {
    let result = bson::serialize_to_document(outcome).map_err(|_| unreadable("result"))?;
    let now = server_time(database).await?;
    update(database, id, term, doc! { "state": DONE, "result": result, "finished_at": now }).await?;
    let oldest = DateTime::from_millis(now.timestamp_millis().saturating_sub(KEPT_MILLISECONDS));
    let old = doc! { "finished_at": { "$lt": oldest } };
    with_deadline(collection(database, COMMANDS).delete_many(old)).await.map_err(Failure::Write)?;
    Ok(())
}

async fn update(database: &Database, id: ObjectId, term: i64, fields: Document) -> Result<(), Unfinished> {
    let mine = doc! { "_id": id, "term": term };
    let updated = with_deadline(collection(database, COMMANDS).update_one(mine, doc! { "$set": fields }))
        .await
        .map_err(Failure::Write)?;
    match updated.matched_count {
        0 => Err(Interruption::LeaseLost.into()),
        _ => Ok(()),
    }
}

/// The stored form of a command.
///
/// # Errors
/// [`Failure::OwnDocument`].
pub(crate) fn encoded(command: &Command) -> Result<Document, Failure> {
    bson::serialize_to_document(command).map_err(|_| unreadable("order"))
}

pub(super) fn read(stored: &Document) -> Result<StoredCommand, Failure> {
    let order = stored.get_document("order").cloned().unwrap_or_default();
    let result = stored.get_document("result").ok().cloned();
    let outcome = |result| bson::deserialize_from_document(result).map_err(|_| unreadable("result"));
    Ok(StoredCommand {
        id: stored.get_object_id("_id").map_err(|_| unreadable("_id"))?,
        command: bson::deserialize_from_document(order).map_err(|_| unreadable("order"))?,
        who: stored.get_str("who").unwrap_or_default().to_owned(),
        requested_at: *stored.get_datetime("requested_at").map_err(|_| unreadable("requested_at"))?,
        progress: stored.get_document("progress").cloned().unwrap_or_default(),
        result: result.map(outcome).transpose()?,
    })
}

fn unreadable(field: &'static str) -> Failure {
    Failure::OwnDocument { collection: COMMANDS, field }
}

/// Reads a count from a progress or an outcome. A missing count is 0.
#[must_use]
pub(crate) fn count(document: &Document, field: &str) -> u64 {
    document.get(field).and_then(Bson::as_i64).unwrap_or_default().unsigned_abs()
}

/// Makes the stored form of a count.
#[must_use]
pub(crate) fn counted(count: u64) -> Bson {
    Bson::Int64(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use bson::Timestamp;

    use super::*;
    use crate::model::ids::{RecruiterId, UserId};

    #[test]
    fn an_id_in_a_command_is_stored_and_logged_as_an_object_id() {
        let id = ObjectId::new();
        let command = Command::Backfill { recruiter: Some(RecruiterId(id)), active_only: true };
        let stored = doc! { "name": "backfill", "recruiter": id, "active_only": true };
        assert_eq!(encoded(&command).unwrap(), stored);
        assert!(format!("{command:?}").contains(&format!("Some({id:?})")), "{command:?}");
        let command = Command::AnonymizeUser { user: UserId(id) };
        assert_eq!(encoded(&command).unwrap(), doc! { "name": "anonymize-user", "user": id });
    }

    /// Whether the condition of the lane selects the name.
    fn takes(lane: Lane, name: &str) -> bool {
        let is_in = |names: &[Bson]| names.contains(&name.into());
        let names = lane.names();
        names.get_array("$in").is_ok_and(|names| is_in(names))
            || names.get_array("$nin").is_ok_and(|names| !is_in(names))
    }

    #[test]
    fn every_command_reads_back_as_it_was_written() {
        let commands = [
            Command::Backfill { recruiter: Some(RecruiterId(ObjectId::new())), active_only: true },
            Command::BackfillSelected { filter: r#"{"status":"Actif"}"#.to_owned(), active_only: false },
            Command::BackfillMirror,
            Command::Repair,
            Command::Resync { reason: "a restored backup".to_owned() },
            Command::RetryDeadLetters { ids: Vec::new(), due_at: Some(DateTime::from_millis(1)) },
            Command::RetryDeadLetters { ids: vec!["cfas/1".to_owned()], due_at: None },
            Command::Replay(Span {
                from: Timestamp { time: 1_700_000_000, increment: 3 },
                until: Some(Timestamp { time: u32::MAX, increment: 0 }),
                collection: Some("recruiters".to_owned()),
            }),
            Command::DropDeadLetters { ids: vec!["cfas/1".to_owned()], reason: Some("stays".to_owned()) },
            Command::SetPhase { to: "shadow".to_owned(), force: true, reason: Some("tried".to_owned()) },
            Command::RunJob { job: "verify".to_owned(), now: Some(DateTime::from_millis(2)) },
            Command::AnonymizeUser { user: UserId(ObjectId::new()) },
            Command::Obfuscate,
            Command::Pause { reason: "an incident".to_owned(), limit_seconds: 3_600 },
            Command::Resume { reason: "it is over".to_owned() },
            Command::Stepdown { seconds: 60 },
            Command::Throttle { max_writes_per_second: Some(50), reason: "a busy server".to_owned() },
            Command::Throttle { max_writes_per_second: None, reason: "it is over".to_owned() },
        ];
        for command in commands {
            let name = encoded(&command).unwrap().get_str("name").unwrap().to_owned();
            let lanes = [Lane::Pipeline, Lane::Ticker, Lane::Control];
            let taken: Vec<Lane> = lanes.into_iter().filter(|lane| takes(*lane, &name)).collect();
            assert_eq!(taken, [command.lane()], "{name}");
            let stored =
                doc! { "_id": ObjectId::new(), "order": encoded(&command).unwrap(), "requested_at": DateTime::MIN };
            assert_eq!(read(&stored).unwrap().command, command);
        }
    }
}
