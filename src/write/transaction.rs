//! Transactions under the lease. Each transaction first writes the document `ticker`, on condition of its term.
//! A later leader takes that document over before anything else, and the server accepts only one of these two writes.
//! So even a commit that arrives late changes nothing under a successor.

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::sync::Arc;

use bson::raw::cstr;
use bson::{DateTime, Document, RawDocumentBuf, doc, rawdoc};
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{ClientSession, Database};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::own_writes::{SentWrite, offers_of};
use super::update_reply::WriteOutcome;
use super::{Writer, fence_document, update_command};
use crate::error::Failure;
use crate::interruption::{Interruption, Unfinished};
use crate::model::names::STATE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::statements::Statement;

/// The session of a leadership's transactions. Its id is stored, so that a successor can end a transaction that a dead
/// process left open. Otherwise the server would hold the locks for a minute, against the stream too.
pub(crate) type Session = Arc<Mutex<ClientSession>>;

/// The fence of a leadership's transactions.
#[derive(Debug, Clone)]
pub struct Fence {
    /// The writer under the lease.
    pub writer: Writer,
    /// The term of the lease, which each transaction checks.
    pub term: i64,
    /// The session of all transactions of this term, one after another.
    pub session: Session,
}

impl Fence {
    /// Takes the fence over from the leader before, whose open transactions then fail. Also returns `through` of each
    /// time-based job: the time up to which the ledger has its occurrences.
    ///
    /// # Errors
    /// [`Interruption::LeaseLost`] when a later term has the fence, [`Failure::Write`].
    pub async fn take_over(writer: Writer, term: i64) -> Result<(Self, BTreeMap<String, DateTime>), Unfinished> {
        let session = session(writer.database()).await?;
        let id = session.lock().await.id().clone();
        let through = fence_document::take_over(writer.database(), term, &id).await?;
        Ok((Self { writer, term, session }, through))
    }
}

/// An open transaction. When it is dropped, it is aborted, at the latest when the next one begins.
#[derive(Debug)]
pub struct Transaction {
    database: Database,
    session: Either,
    writer: Option<Writer>,
    /// The writes to offers, whose events come with the commit.
    sent: Vec<SentWrite>,
}

/// The session of a transaction: that of the fence, or a new one for a transaction that only reads.
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

/// Starts a session for the transactions of a leadership.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn session(database: &Database) -> Result<Session, Failure> {
    let session = with_deadline(database.client().start_session()).await.map_err(Failure::Write)?;
    Ok(Arc::new(Mutex::new(session)))
}

impl Transaction {
    /// Begins a transaction. Without a fence it can only read.
    ///
    /// # Errors
    /// [`Failure::Write`], [`Interruption::LeaseLost`] when a later term has the fence.
    pub async fn begin(database: &Database, fence: Option<&Fence>) -> Result<Self, Unfinished> {
        let mut session = match fence {
            Some(fence) => Either::OwnedJob(Arc::clone(&fence.session).lock_owned().await),
            None => {
                let own = with_deadline(database.client().start_session()).await.map_err(Failure::Write)?;
                Either::Own(Box::new(own))
            }
        };
        // An earlier attempt that failed may still be open. This is rare, and a failure to abort does not matter.
        drop(with_deadline(session.get().abort_transaction()).await);
        let writer = fence.map(|fence| fence.writer.clone());
        let mut transaction = Self { database: database.clone(), session, writer, sent: Vec::new() };
        let begin = transaction.session.get().start_transaction();
        let begin = begin.read_concern(ReadConcern::snapshot()).write_concern(WriteConcern::majority());
        begin.await.map_err(Failure::Write)?;
        if let Some(fence) = fence {
            let passing = vec![fence_document::passing_fence(fence.term)];
            if transaction.update(STATE, passing).await?.unmatched > 0 {
                return Err(Interruption::LeaseLost.into());
            }
        }
        Ok(transaction)
    }

    /// Reads at most `limit` documents as they were when the transaction began. A limit of 0 means all.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn read(
        &mut self,
        name: &str,
        filter: Document,
        projection: Document,
        limit: usize,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let collection = collection(&self.database, name);
        let find = collection.find(filter).projection(projection).limit(i64::try_from(limit).unwrap_or_default());
        let find = find.batch_size(10_000).session(self.session.get());
        let mut cursor = with_deadline(find.into_future()).await.map_err(Failure::Read)?;
        let mut documents = Vec::new();
        while with_deadline(cursor.advance(self.session.get())).await.map_err(Failure::Read)? {
            documents.push(cursor.current().to_owned());
        }
        Ok(documents)
    }

    /// Sends statements. Without a fence nothing is sent.
    ///
    /// # Errors
    /// As [`update_command::update`]; [`Failure::Statement`] when the server refuses a statement. Then nothing of the
    /// transaction is done.
    pub async fn update(&mut self, collection: &str, statements: Vec<Statement>) -> Result<WriteOutcome, Unfinished> {
        let Some(writer) = &self.writer else { return Ok(WriteOutcome::default()) };
        self.sent.extend(writer.sends(|| offers_of(collection, &statements)));
        let outcome = update_command::update_in(writer, self.session.get(), collection, statements).await?;
        match outcome.refused.first() {
            Some(refused) => Err(Failure::Statement(refused.code).into()),
            None => Ok(outcome),
        }
    }

    /// Deletes the documents that `filter` selects, and returns their number. Without a fence nothing is deleted.
    ///
    /// # Errors
    /// As [`update_command::update`].
    pub async fn delete(&mut self, collection: &str, filter: Document) -> Result<u64, Unfinished> {
        let Some(writer) = &self.writer else { return Ok(0) };
        let deletes = doc! { "delete": collection, "deletes": [{ "q": filter, "limit": 0 }] };
        // The command has only texts, ids and numbers, so encoding cannot fail.
        let command = RawDocumentBuf::try_from(&deletes).unwrap_or_default();
        let reply = writer.send_in(self.session.get(), command).await?;
        Ok(reply.get("n").and_then(bson::Bson::as_i32).unwrap_or_default().unsigned_abs().into())
    }

    /// Inserts documents, or replaces the documents with the same `_id`.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn put(&mut self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<(), Unfinished> {
        let statement = |document: RawDocumentBuf| {
            let mut filter = RawDocumentBuf::new();
            if let Ok(Some(id)) = document.get("_id") {
                filter.append(cstr!("_id"), id);
            }
            Statement { id: None, body: rawdoc! { "q": filter, "u": document, "upsert": true } }
        };
        self.update(collection, documents.into_iter().map(statement).collect()).await.map(drop)
    }

    /// Commits the transaction. Without a fence the transaction is aborted.
    ///
    /// # Errors
    /// [`Failure::Write`]: the transaction may be done or not, and can be repeated.
    pub async fn commit(mut self) -> Result<(), Failure> {
        if self.writer.is_none() {
            return self.abort().await;
        }
        with_deadline(self.session.get().commit_transaction()).await.map_err(Failure::Write)?;
        self.sent.into_iter().for_each(SentWrite::answered);
        Ok(())
    }

    /// Aborts the transaction.
    ///
    /// # Errors
    /// [`Failure::Write`]: the transaction ends by itself later.
    pub async fn abort(mut self) -> Result<(), Failure> {
        with_deadline(self.session.get().abort_transaction()).await.map_err(Failure::Write)?;
        self.sent.into_iter().for_each(SentWrite::answered);
        Ok(())
    }
}
