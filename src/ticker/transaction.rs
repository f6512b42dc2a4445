//! A transaction under the lease. Each one writes the document `ticker` first, on condition of its term: whoever leads
//! later takes that document over before anything else, and the server lets only one of both go through. So not even a
//! commit that arrives late changes anything under a successor.

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::sync::Arc;

use bson::raw::cstr;
use bson::{DateTime, Document, RawDocumentBuf, doc, rawdoc};
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{ClientSession, Database};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::ledger;
use crate::deadline::with_deadline;
use crate::error::Failure;
use crate::fetch::raw;
use crate::run::lease::STATE;
use crate::write::statements::Statement;
use crate::write::{Writer, command};

/// The document of `stream_processor_state` that belongs to the leadership of one term.
pub const TICKER: &str = "ticker";

/// The session of a leadership's transactions. Its id is stored, so that a successor can end what a dead process has left
/// open: the server itself would hold its locks for a minute, against the stream too.
pub type Session = Arc<Mutex<ClientSession>>;

/// What the transactions of a leadership rest on.
#[derive(Debug, Clone)]
pub struct Fence {
    /// Writes under the lease.
    pub writer: Writer,
    /// The lease's term.
    pub term: i64,
    /// Of its transactions.
    pub session: Session,
}

impl Fence {
    /// Takes the transactions over from whoever led before: what is still open of theirs comes to nothing. Also gives back
    /// up to when the ledger has the occurrences of each job.
    ///
    /// # Errors
    /// As [`ledger::take_over`].
    pub async fn take_over(writer: Writer, term: i64) -> Result<(Self, BTreeMap<String, DateTime>), Failure> {
        let session = session(writer.database()).await?;
        let id = session.lock().await.id().clone();
        let through = ledger::take_over(writer.database(), term, &id).await?;
        Ok((Self { writer, term, session }, through))
    }
}

/// A transaction that has begun. Dropped, it is aborted, at the latest when the next one begins.
#[derive(Debug)]
pub struct Transaction {
    database: Database,
    session: Either,
    writer: Option<Writer>,
}

/// One of its own for who only reads.
#[derive(Debug)]
enum Either {
    Own(Box<ClientSession>),
    OwnedJob(OwnedMutexGuard<ClientSession>),
}

impl Either {
    fn get(&mut self) -> &mut ClientSession {
        match self {
            Self::Own(session) => session,
            Self::OwnedJob(session) => session,
        }
    }
}

/// A session for the transactions of a leadership.
///
/// # Errors
/// [`Failure::Write`].
pub async fn session(database: &Database) -> Result<Session, Failure> {
    let session = with_deadline(database.client().start_session()).await.map_err(Failure::Write)?;
    Ok(Arc::new(Mutex::new(session)))
}

impl Transaction {
    /// Begins one; without a fence it can only read.
    ///
    /// # Errors
    /// [`Failure::Write`], [`Failure::LeaseLost`] when a later term has the ticker.
    pub async fn begin(database: &Database, fence: Option<&Fence>) -> Result<Self, Failure> {
        let mut session = match fence {
            Some(fence) => Either::OwnedJob(Arc::clone(&fence.session).lock_owned().await),
            None => {
                let own = with_deadline(database.client().start_session()).await.map_err(Failure::Write)?;
                Either::Own(Box::new(own))
            }
        };
        // Of an attempt that failed; there seldom is one, and then it may have ended already.
        drop(with_deadline(session.get().abort_transaction()).await);
        let writer = fence.map(|fence| fence.writer.clone());
        let mut transaction = Self { database: database.clone(), session, writer };
        let begin = transaction.session.get().start_transaction();
        let begin = begin.read_concern(ReadConcern::snapshot()).write_concern(WriteConcern::majority());
        begin.await.map_err(Failure::Write)?;
        if let Some(fence) = fence {
            let mine = rawdoc! { "q": { "_id": TICKER, "term": fence.term }, "u": [{ "$set": { "wrote": "$$NOW" } }] };
            let statement = Statement { id: None, body: mine };
            if transaction.update(STATE, vec![statement]).await?.unmatched > 0 {
                return Err(Failure::LeaseLost);
            }
        }
        Ok(transaction)
    }

    /// Documents as they were when the transaction began, so many at most; all of them for 0.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn read(
        &mut self,
        collection: &str,
        (filter, projection): (Document, Document),
        limit: usize,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let collection = raw(&self.database, collection);
        let find = collection.find(filter).projection(projection).limit(i64::try_from(limit).unwrap_or_default());
        let find = find.batch_size(10_000).session(self.session.get());
        let mut cursor = with_deadline(find.into_future()).await.map_err(Failure::Read)?;
        let mut documents = Vec::new();
        while with_deadline(cursor.advance(self.session.get())).await.map_err(Failure::Read)? {
            documents.push(cursor.current().to_owned());
        }
        Ok(documents)
    }

    /// Sends statements.
    ///
    /// # Errors
    /// As [`command::update`]; [`Failure::Statement`] for one that the server refuses: nothing of the transaction is
    /// done then.
    pub async fn update(&mut self, collection: &str, statements: Vec<Statement>) -> Result<command::Outcome, Failure> {
        let Some(writer) = &self.writer else { return Ok(command::Outcome::default()) };
        let outcome = command::update_in(writer, self.session.get(), collection, statements).await?;
        match outcome.refused.first() {
            Some(refused) => Err(Failure::Statement(refused.code)),
            None => Ok(outcome),
        }
    }

    /// Deletes what `filter` selects; gives back how many.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn delete(&mut self, collection: &str, filter: Document) -> Result<u64, Failure> {
        let Some(writer) = &self.writer else { return Ok(0) };
        let deletes = doc! { "delete": collection, "deletes": [{ "q": filter, "limit": 0 }] };
        // Built here of texts, ids and numbers, so it always encodes.
        let command = RawDocumentBuf::try_from(&deletes).unwrap_or_default();
        let reply = writer.send_in(self.session.get(), command).await?;
        Ok(reply.get("n").and_then(bson::Bson::as_i32).unwrap_or_default().unsigned_abs().into())
    }

    /// Puts documents under their `_id`, in place of what is there.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn put(&mut self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<(), Failure> {
        let statement = |document: RawDocumentBuf| {
            let mut filter = RawDocumentBuf::new();
            if let Ok(Some(id)) = document.get("_id") {
                filter.append(cstr!("_id"), id);
            }
            Statement { id: None, body: rawdoc! { "q": filter, "u": document, "upsert": true } }
        };
        self.update(collection, documents.into_iter().map(statement).collect()).await.map(drop)
    }

    /// Makes everything done, or nothing where nothing may be written.
    ///
    /// # Errors
    /// [`Failure::Write`]: it may or may not be done, and can be done again.
    pub async fn commit(mut self) -> Result<(), Failure> {
        match self.writer {
            Some(_) => with_deadline(self.session.get().commit_transaction()).await.map_err(Failure::Write),
            None => self.abort().await,
        }
    }

    /// Does nothing of it.
    ///
    /// # Errors
    /// [`Failure::Write`]: it ends by itself.
    pub async fn abort(mut self) -> Result<(), Failure> {
        with_deadline(self.session.get().abort_transaction()).await.map_err(Failure::Write)
    }
}
