//! A transaction under the lease. Each one writes the ticker's own document first, on condition of its term: whoever
//! leads later takes that document over, and the server lets only one of both go through. So not even a commit that a
//! paused process sends late changes anything under its successor.

use std::future::IntoFuture as _;

use bson::raw::cstr;
use bson::{Document, RawDocumentBuf, doc, rawdoc};
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{ClientSession, Database};

use super::work::Hold;
use crate::answer::answered;
use crate::error::Failure;
use crate::fetch::raw;
use crate::model::dead_letter::Reason;
use crate::run::lease::STATE;
use crate::write::statements::Statement;
use crate::write::{Writer, command};

/// The document of `stream_processor_state` that belongs to the ticker of one term.
pub(super) const TICKER: &str = "ticker";

/// A transaction that has begun. Dropped, it is aborted.
#[derive(Debug)]
pub struct Transaction {
    database: Database,
    session: ClientSession,
    writer: Option<Writer>,
}

impl Transaction {
    /// Begins one; without a hold it can only read.
    ///
    /// # Errors
    /// [`Failure::Write`], [`Failure::LeaseLost`] when a later term has the ticker.
    pub async fn begin(database: &Database, hold: Option<&Hold>) -> Result<Self, Failure> {
        let session = answered(database.client().start_session()).await.map_err(Failure::Write)?;
        let writer = hold.map(|hold| hold.writer.clone());
        let mut transaction = Self { database: database.clone(), session, writer };
        let begin = transaction.session.start_transaction();
        let begin = begin.read_concern(ReadConcern::snapshot()).write_concern(WriteConcern::majority());
        begin.await.map_err(Failure::Write)?;
        if let Some(hold) = hold {
            let mine = rawdoc! { "q": { "_id": TICKER, "term": hold.term }, "u": [{ "$set": { "wrote": "$$NOW" } }] };
            let statement = Statement { id: None, body: mine };
            if transaction.update(STATE, vec![statement]).await?.unmatched > 0 {
                return Err(Failure::LeaseLost);
            }
        }
        Ok(transaction)
    }

    /// Documents as they were when the transaction began.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn read(
        &mut self,
        collection: &str,
        filter: Document,
        projection: Document,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let collection = raw(&self.database, collection);
        let find = collection.find(filter).projection(projection).batch_size(10_000).session(&mut self.session);
        let mut cursor = answered(find.into_future()).await.map_err(Failure::Read)?;
        let mut documents = Vec::new();
        while answered(cursor.advance(&mut self.session)).await.map_err(Failure::Read)? {
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
        let outcome = command::update_in(writer, &mut self.session, collection, statements).await?;
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
        let reply = writer.send_in(&mut self.session, command).await?;
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
            Some(_) => answered(self.session.commit_transaction()).await.map_err(Failure::Write),
            None => answered(self.session.abort_transaction()).await.map_err(Failure::Write),
        }
    }
}

/// The reason for which the server refuses a document for good, where that is what failed.
pub(super) fn refusal_of(failure: &Failure) -> Option<Reason> {
    let code = match failure {
        Failure::Statement(code) => Some(*code),
        Failure::Write(error) => crate::error::command_code(error),
        _ => None,
    };
    code.and_then(crate::error::refusal).filter(|reason| *reason != Reason::RefusedByServer)
}
