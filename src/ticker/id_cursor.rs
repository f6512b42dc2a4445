//! A cursor over the ids of the documents that a query selects. The ids come in batches from a cursor of the server, so
//! a run needs the same memory for ten documents and for a million.

use bson::{Bson, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::ClientSession;
use mongodb::raw_batch_cursor::SessionRawBatchCursor;

use crate::error::Failure;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::while_server_works;
use crate::mongo::reads::{collection, documents};
use crate::source::scan::STEP;

/// A cursor over ids. `comment` marks its commands, so that the server can be asked whether it still works on them.
pub struct IdCursor {
    cursor: SessionRawBatchCursor,
    session: ClientSession,
    comment: Bson,
}

impl IdCursor {
    /// Opens a cursor over the documents of the collection `name` that `filter` selects.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn begin(database: &CausalDatabase, name: &str, filter: Document) -> Result<Self, Failure> {
        let collection = collection(database, name);
        let mut session = database.session().await?;
        let (client, comment) = (database.client(), Bson::from(ObjectId::new()));
        let find = collection.find(filter).projection(doc! { "_id": 1 }).batch_size(STEP).comment(comment.clone());
        let find = find.session(&mut session).batch();
        let cursor = while_server_works(client, &comment, find).await.map_err(Failure::Read)?;
        Ok(Self { cursor, session, comment })
    }

    /// The next batch of at most a thousand documents: its ids, and the number of documents whose `_id` is no ObjectId.
    /// `None` at the end.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<ObjectId>, u64)>, Failure> {
        let client = self.session.client();
        let mut batches = self.cursor.stream(&mut self.session);
        let batch = while_server_works(&client, &self.comment, batches.try_next()).await.map_err(Failure::Read)?;
        let Some(batch) = batch else {
            return Ok(None);
        };
        let batch = [batch];
        let (mut ids, mut others) = (Vec::new(), 0);
        for document in documents(&batch) {
            match document?.get_object_id("_id") {
                Ok(id) => ids.push(id),
                Err(_) => others += 1,
            }
        }
        Ok(Some((ids, others)))
    }
}
