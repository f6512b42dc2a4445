//! The phase in MongoDB: the document `phase` of `stream_processor_state` with its history, and the tombstone of
//! `retired`. The configuration gives only the initial phase of a database.

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId};
use mongodb::Database;

use super::Phase;
use super::step_conditions::StepFacts;
use super::stored_verification::StoredVerification;
use crate::config::Choice as _;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::lease;
use crate::model::dead_letter::Reason;
use crate::model::names::COMMANDS;
use crate::model::names::DEAD_LETTERS;
use crate::model::names::GAPS;
use crate::model::names::STATE;
use crate::model::names::command_state::UNFINISHED;
use crate::model::names::gap_state::OPEN;
use crate::model::names::state_id::{PHASE, RESYNC, TOMBSTONE};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::write::statements::Statement;
use crate::write::transaction::{Fence, Transaction};

/// The phase of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    pub phase: Phase,
    /// The time of the step to this phase; `None` before the first start of an instance.
    pub since: Option<DateTime>,
    /// The number of steps so far.
    pub revision: i64,
    /// True when there is a tombstone, and the document `phase` does not say `retired`.
    pub contradicted: bool,
}

/// One step to another phase, as the history records it.
#[derive(Debug, Clone)]
pub struct PhaseChange {
    pub from: Current,
    pub to: Phase,
    /// The `_id` of the stored command that asks for the step.
    pub command: ObjectId,
    /// The person who gave the command.
    pub who: String,
    /// The text of `--reason`; `None` when the option was not given.
    pub reason: Option<String>,
    /// The unmet conditions that `--force` overrides.
    pub overridden: Vec<String>,
    /// The position of the stream, for the tombstone: `{token, cluster_time}`.
    pub position: Document,
}

/// One step as the history has it. Every field may be missing: other versions wrote other ones.
#[derive(Debug)]
pub(crate) struct RecordedStep {
    pub at: Option<DateTime>,
    /// The person who gave the command, or `configuration` for the initial phase.
    pub who: Option<String>,
    /// `None` for the initial phase.
    pub from: Option<String>,
    pub to: Option<String>,
    pub reason: Option<String>,
    /// The unmet conditions that `--force` overrode.
    pub overridden: Vec<String>,
}

impl RecordedStep {
    fn of(entry: &Document) -> Self {
        let text = |field: &str| entry.get_str(field).ok().map(ToOwned::to_owned);
        let overridden = entry.get_array("overridden").map(Vec::as_slice).unwrap_or_default();
        Self {
            at: entry.get_datetime("at").ok().copied(),
            who: text("who"),
            from: text("from"),
            to: text("to"),
            reason: text("reason"),
            overridden: overridden.iter().filter_map(Bson::as_str).map(ToOwned::to_owned).collect(),
        }
    }
}

/// Reads the phase. A database without a stored phase has the phase `initial`.
///
/// # Errors
/// [`Failure::Read`], [`Failure::OwnDocument`].
pub(crate) async fn load(database: &Database, initial: Phase) -> Result<Current, Failure> {
    let states = collection(database, STATE);
    let tombstone = with_deadline(states.find_one(doc! { "_id": TOMBSTONE })).await.map_err(Failure::Read)?;
    let stored = states.find_one(doc! { "_id": PHASE }).projection(doc! { "history": 0 });
    let current = match with_deadline(stored).await.map_err(Failure::Read)? {
        Some(stored) => {
            let word = stored.get_str("phase").unwrap_or_default();
            let phase = Phase::from_word(word);
            Current {
                phase: phase.ok_or(Failure::OwnDocument { collection: STATE, field: "phase.phase" })?,
                since: stored.get_datetime("since").ok().copied(),
                revision: stored.get("revision").and_then(Bson::as_i64).unwrap_or_default(),
                contradicted: false,
            }
        }
        None => Current { phase: initial, since: None, revision: 0, contradicted: false },
    };
    Ok(match (tombstone, current.phase) {
        (None, _) | (_, Phase::Retired) => current,
        (Some(_), _) => Current { phase: Phase::Retired, contradicted: true, ..current },
    })
}

/// Stores the initial phase where no phase is stored, and reads the phase.
///
/// # Errors
/// As [`load`], and [`Failure::Write`].
pub(crate) async fn begin(database: &Database, initial: Phase) -> Result<Current, Failure> {
    let now = server_time(database).await?;
    let entry =
        doc! { "at": now, "who": "configuration", "from": null, "to": initial.word(), "reason": "phase.initial" };
    let fields = doc! { "phase": initial.word(), "since": now, "revision": 1_i64, "history": [entry] };
    let state = collection(database, STATE);
    let begun = state.update_one(doc! { "_id": PHASE }, doc! { "$setOnInsert": fields }).upsert(true);
    with_deadline(begun).await.map_err(Failure::Write)?;
    load(database, initial).await
}

/// Makes a step. False when the phase is no longer the one that the step starts from. One transaction changes the phase
/// and the tombstone. The transaction fails once another instance leads.
///
/// # Errors
/// As [`Transaction::begin`] and [`Transaction::update`].
pub(crate) async fn change(fence: &Fence, change: &PhaseChange, now: DateTime) -> Result<bool, Unfinished> {
    let mut transaction = Transaction::begin(fence.writer.database(), Some(fence)).await?;
    if transaction.update(STATE, vec![step(change, now)]).await?.unmatched > 0 {
        transaction.abort().await?;
        return Ok(false);
    }
    let mut tombstone = doc! { "_id": TOMBSTONE };
    if change.to == Phase::Retired {
        tombstone.extend(change.position.clone());
        tombstone.extend(doc! { "retired_at": now, "who": &change.who });
        transaction.put(STATE, vec![encoded(&tombstone)]).await?;
    } else {
        transaction.delete(STATE, tombstone).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Makes the statement of a step. It matches nothing when another process has changed the phase since.
#[must_use]
pub fn step(change: &PhaseChange, now: DateTime) -> Statement {
    let entry = doc! {
        "at": now, "who": &change.who, "from": change.from.phase.word(), "to": change.to.word(),
        "reason": change.reason.clone(), "overridden": change.overridden.clone(), "command": change.command,
    };
    let update = doc! {
        "$set": { "phase": change.to.word(), "since": now, "revision": change.from.revision + 1 },
        "$push": { "history": entry },
    };
    let filter = doc! { "_id": PHASE, "revision": change.from.revision };
    Statement { id: None, body: encoded(&doc! { "q": filter, "u": update }) }
}

/// Encodes a document of texts, ids, dates and a position that came from BSON. Such a document can always be encoded.
fn encoded(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).unwrap_or_default()
}

/// True when the step of this command was made. A leader asks this before it refuses: an earlier attempt of its own may
/// have got no answer to its commit, which is still on its way. The transaction of this look has the same session, so the
/// server does not accept that commit after it (MongoDB manual, "Transactions"). A look without a transaction would miss
/// it.
///
/// # Errors
/// As [`Transaction::begin`], [`Transaction::read`] and [`Transaction::commit`].
pub(crate) async fn was_made_by(fence: &Fence, command: ObjectId) -> Result<bool, Unfinished> {
    let mut transaction = Transaction::begin(fence.writer.database(), Some(fence)).await?;
    let made = doc! { "_id": PHASE, "history.command": command };
    let made = transaction.read(STATE, made, doc! { "_id": 1 }, 1).await?;
    // The commit waits for a majority, also for what the transaction has read.
    transaction.commit().await?;
    Ok(!made.is_empty())
}

/// The stored steps, the oldest first.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn history(database: &Database) -> Result<Vec<RecordedStep>, Failure> {
    let stored =
        with_deadline(collection(database, STATE).find_one(doc! { "_id": PHASE })).await.map_err(Failure::Read)?;
    let history = stored.as_ref().and_then(|stored| stored.get_array("history").ok()).into_iter().flatten();
    Ok(history.filter_map(Bson::as_document).map(RecordedStep::of).collect())
}

/// Reads the facts on which the conditions of a step rest. `asking` is the command that asks for the step: it does not
/// count as a running command.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn facts(
    database: &Database,
    current: &Current,
    asking: Option<ObjectId>,
    now: DateTime,
) -> Result<StepFacts, Failure> {
    let count = async |name: &str, filter: Document| {
        with_deadline(collection(database, name).count_documents(filter)).await.map_err(Failure::Read)
    };
    let verification = with_deadline(StoredVerification::read(database)).await.map_err(Failure::Read)?;
    let unfinished = doc! { "_id": { "$ne": asking }, "state": { "$in": UNFINISHED.to_vec() } };
    Ok(StepFacts {
        phase: current.phase,
        since: current.since,
        verification: verification.and_then(StoredVerification::last),
        lag: lease::current(database).await?.and_then(|leader| leader.lag),
        // What the mirror cannot bring back keeps from no step forward: the offers are the authority.
        dead_letters: count(DEAD_LETTERS, doc! { "reason": { "$ne": Reason::NotInvertible.as_str() } }).await?,
        open_gaps: count(GAPS, doc! { "state": OPEN }).await?,
        running: count(COMMANDS, unfinished).await? + count(STATE, doc! { "_id": RESYNC }).await?,
        now,
    })
}
