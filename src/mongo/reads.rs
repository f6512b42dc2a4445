//! Reads of documents as raw bytes.

use bson::{Bson, Document, RawDocument, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{Collection, Database};

use super::causal::CausalDatabase;
use super::deadline::while_server_works;
use crate::error::Failure;

/// Runs one `find` and keeps the raw batches that the server sent.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn find(
    database: &CausalDatabase,
    name: &str,
    filter: Document,
    projection: Document,
) -> Result<Vec<RawBatch>, Failure> {
    let mut session = database.session().await?;
    let collection = self::collection(database, name);
    // There is no fixed time limit, because a search without an index goes through the whole collection.
    let (client, comment) = (database.client(), Bson::from(ObjectId::new()));
    let find = collection.find(filter).projection(projection).batch_size(10_000).comment(comment.clone());
    let find = find.session(&mut session).batch();
    let mut answers = while_server_works(client, &comment, find).await.map_err(Failure::Read)?;
    let mut answers = answers.stream(&mut session);
    let mut batches = Vec::new();
    while let Some(batch) = while_server_works(client, &comment, answers.try_next()).await.map_err(Failure::Read)? {
        batches.push(batch);
    }
    Ok(batches)
}

/// The documents of the batches, as raw bytes.
///
/// # Errors
/// [`Failure::Read`] when the server's bytes are not valid BSON.
pub fn documents(batches: &[RawBatch]) -> impl Iterator<Item = Result<&RawDocument, Failure>> {
    batches.iter().flat_map(|batch| {
        let (documents, unreadable) = match batch.doc_slices() {
            Ok(documents) => (Some(documents), None),
            Err(error) => (None, Some(Err(Failure::Read(error)))),
        };
        let documents = documents.into_iter().flatten().filter_map(|element| match element {
            Ok(element) => element.as_document().map(Ok),
            Err(error) => Some(Err(Failure::Read(error.into()))),
        });
        documents.chain(unreadable)
    })
}

#[must_use]
pub(crate) fn collection(database: &Database, name: &str) -> Collection<Document> {
    database.collection(name)
}
