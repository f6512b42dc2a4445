//! The document `ticker` of `stream_processor_state`. It is the fence of all transactions, and it keeps the few values of
//! the time-based jobs that must change in one transaction with other documents.

use std::collections::BTreeMap;

use bson::raw::{CStr, cstr};
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, rawdoc};
use mongodb::Database;
use mongodb::error::Error as MongoError;
use mongodb::options::ReturnDocument;
use tracing::warn;

use super::statements::Statement;
use crate::error::{DUPLICATE_KEY, Failure, command_code, describe};
use crate::interruption::{Interruption, Unfinished};
use crate::model::ids::UserId;
use crate::model::names::STATE;
use crate::model::names::state_id::TICKER;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// The field with the users whose anonymisation has begun and has not ended.
const ANONYMIZING: &CStr = cstr!("anonymizing");

/// The document as it is stored.
#[derive(Debug, Default)]
pub(crate) struct StoredTicker {
    /// The time up to which the ledger has the occurrences of a time-based job, by the name of the job.
    pub through: BTreeMap<String, DateTime>,
    /// The users whose anonymisation has begun and has not ended.
    pub anonymizing: Vec<UserId>,
    /// The session of the transactions of the last leader.
    session: Option<Document>,
}

impl StoredTicker {
    /// Reads the document. It is empty before the first leadership.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database) -> Result<Self, Failure> {
        Ok(Self::find(database, doc! { "_id": TICKER }).await?.unwrap_or_default())
    }

    async fn find(database: &Database, filter: Document) -> Result<Option<Self>, Failure> {
        let stored = with_deadline(collection(database, STATE).find_one(filter)).await.map_err(Failure::Read)?;
        Ok(stored.as_ref().map(Self::of))
    }

    fn of(stored: &Document) -> Self {
        let through = stored.get_document("through").into_iter().flatten();
        let anonymizing = stored.get_array(ANONYMIZING.as_str()).map(Vec::as_slice).unwrap_or_default();
        Self {
            through: through.filter_map(|(job, time)| Some((job.clone(), time.as_datetime().copied()?))).collect(),
            anonymizing: anonymizing.iter().filter_map(Bson::as_object_id).map(UserId).collect(),
            session: stored.get_document("session").ok().cloned(),
        }
    }
}

/// Stores `term` and its session, and returns `through` of each time-based job.
///
/// # Errors
/// [`Interruption::LeaseLost`] when a later term has the document, [`Failure::Write`].
pub(super) async fn take_over(
    database: &Database,
    term: i64,
    session: &Document,
) -> Result<BTreeMap<String, DateTime>, Unfinished> {
    end_session_before(database, term).await?;
    let filter = not_later(term);
    let state = collection(database, STATE);
    let taken = state
        .find_one_and_update(filter, doc! { "$set": { "term": term, "session": session } })
        .upsert(true)
        .return_document(ReturnDocument::After);
    match with_deadline(taken).await {
        Ok(taken) => Ok(StoredTicker::of(&taken.unwrap_or_default()).through),
        // The filter excludes the document of a later term, so the insert collides with it.
        Err(error) if command_code(&error) == Some(DUPLICATE_KEY) => Err(Interruption::LeaseLost.into()),
        Err(error) => Err(Failure::Write(error).into()),
    }
}

/// Makes the filter of the document before a later term has it.
#[must_use]
pub fn not_later(term: i64) -> Document {
    doc! { "_id": TICKER, "term": { "$not": { "$gt": term } } }
}

/// Ends the session of the leader before. A leader that died may have left a transaction open, whose locks would make
/// others wait for a minute.
async fn end_session_before(database: &Database, term: i64) -> Result<(), Failure> {
    let before = StoredTicker::find(database, doc! { "_id": TICKER, "term": { "$lt": term } }).await?;
    if let Some(session) = before.and_then(|before| before.session) {
        let end = database.run_command(doc! { "killSessions": [session] });
        if let Err(error) = with_deadline::<_, MongoError>(end).await {
            warn!(
                error = describe(&error),
                "the session of the previous leader could not be ended; it expires by itself"
            );
        }
    }
    Ok(())
}

/// The statement that begins each transaction of `term`. Its filter matches nothing under a later term.
#[must_use]
pub fn passing_fence(term: i64) -> Statement {
    let body = rawdoc! { "q": { "_id": TICKER, "term": term }, "u": [{ "$set": { "wrote": "$$NOW" } }] };
    Statement { id: None, body }
}

/// The statement that sets `through` of one job.
#[must_use]
pub(crate) fn setting_through(job: &str, through: DateTime) -> Statement {
    let mut set = Document::new();
    set.insert(format!("through.{job}"), through);
    let body = doc! { "q": { "_id": TICKER }, "u": { "$set": set } };
    // The names of jobs and a time always encode.
    Statement { id: None, body: RawDocumentBuf::try_from(&body).unwrap_or_default() }
}

/// Removes `through` of these jobs.
///
/// # Errors
/// [`Interruption::LeaseLost`] when a later term has the document, [`Failure::Write`].
pub(crate) async fn forget_through(database: &Database, term: i64, jobs: &[String]) -> Result<(), Unfinished> {
    let unset: Document = jobs.iter().map(|job| (format!("through.{job}"), Bson::Null)).collect();
    let mine = doc! { "_id": TICKER, "term": term };
    let state = collection(database, STATE);
    let forgotten = with_deadline(state.update_one(mine, doc! { "$unset": unset })).await.map_err(Failure::Write)?;
    match forgotten.matched_count {
        0 => Err(Interruption::LeaseLost.into()),
        _ => Ok(()),
    }
}

/// The statement that adds the user to [`StoredTicker::anonymizing`] (`$addToSet`), or removes the user from it
/// (`$pull`).
#[must_use]
pub(crate) fn changing_anonymizing(user: UserId, operator: &CStr) -> Statement {
    let mut update = RawDocumentBuf::new();
    update.append(operator, &rawdoc! { ANONYMIZING: user });
    Statement { id: None, body: rawdoc! { "q": { "_id": TICKER }, "u": update } }
}
