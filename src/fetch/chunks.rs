//! Reads current documents by id, in portions that keep memory flat whatever the documents weigh.

use bson::{Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::raw_batch_cursor::RawBatch;

use super::IDS_PER_READ;
use crate::error::Failure;
use crate::model::names::OFFERS;
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents};

/// How many bytes of documents one portion aims at: about 260 of 8 KB. Two portions of recruiters are in memory at a
/// time, one of them with its offers before and after, so this sets the peak.
const CHUNK_BYTES: usize = 2 * 1024 * 1024;
/// Fields of an offer that are not ours and may be long. Not reading them costs the server less than naming the
/// 55 that are ours would; all others are short, and comparing passes over them.
const NOT_READ: [&str; 3] = ["duplicates", "offer_status_history", "workplace_description"];

/// Reader that adapts its portions to the documents' weight.
#[derive(Debug)]
pub struct ChunkReader {
    database: CausalDatabase,
    collection: &'static str,
    projection: Document,
    /// A running average of the documents' weight, in bytes.
    average: usize,
}

impl ChunkReader {
    /// Reads from `recruiters` of this database.
    #[must_use]
    pub fn of_recruiters(database: &CausalDatabase) -> Self {
        // Starts careful: until the first portion was weighed, documents may be of a megabyte.
        let average = CHUNK_BYTES / 2;
        let collection = WatchedCollection::Recruiters.name();
        Self { database: database.clone(), collection, projection: Document::new(), average }
    }

    /// Reads the offers that stand, as far as they are compared.
    #[must_use]
    pub fn of_offers(database: &CausalDatabase) -> Self {
        let projection = NOT_READ.iter().map(|name| ((*name).to_owned(), 0.into())).collect();
        // Starts with all: of those that do not stand yet, no portion can be weighed.
        let average = CHUNK_BYTES / IDS_PER_READ;
        Self { database: database.clone(), collection: OFFERS, projection, average }
    }

    /// Reads the next portion of `rest`, ids in their order, and takes it off; `None` when nothing is left.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn read_next(&mut self, rest: &mut &[ObjectId]) -> Result<Option<Vec<RawBatch>>, Failure> {
        let chunk = (CHUNK_BYTES / self.average.max(1)).clamp(1, IDS_PER_READ).min(rest.len());
        let (ids, later) = rest.split_at(chunk);
        if ids.is_empty() {
            return Ok(None);
        }
        debug_assert!(rest.is_sorted(), "what a cut reply did not reach is found by its order");
        let (batches, is_whole) = self.read(ids).await?;
        let read = documents(&batches).collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = read.iter().map(|document| document.as_bytes().len()).sum();
        // Where nothing was found, more is asked for: what comes then is one reply at most.
        self.average = (self.average + bytes.checked_div(read.len()).unwrap_or_default() * 3) / 4;
        *rest = match read.last() {
            Some(last) if !is_whole => {
                // The average tells little of documents that are light first and heavy then.
                self.average = self.average.max(last.as_bytes().len());
                let reached = last.get_object_id("_id").map_err(|error| Failure::Read(error.into()))?;
                rest.split_at(rest.partition_point(|id| *id <= reached)).1
            }
            _ => later,
        };
        Ok(Some(batches))
    }

    /// One reply, and whether it is all there is. The server ends it at 16 MB: heavy documents after light ones weigh no
    /// more than that together.
    async fn read(&self, ids: &[ObjectId]) -> Result<(Vec<RawBatch>, bool), Failure> {
        // One more than there can be, so that the server closes the cursor with the last of them.
        let batch_size = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
        let mut session = self.database.session().await?;
        let collection = collection(&self.database, self.collection);
        let find = collection.find(doc! { "_id": { "$in": ids } }).projection(self.projection.clone());
        let find = find.sort(doc! { "_id": 1 }).batch_size(batch_size).session(&mut session).batch();
        let mut replies = with_deadline(find).await.map_err(Failure::Read)?;
        let reply = with_deadline(replies.stream(&mut session).try_next()).await.map_err(Failure::Read)?;
        let cursor = reply.as_ref().map(|reply| reply.as_raw_document().get_document("cursor")).transpose();
        let cursor = cursor.map_err(|error| Failure::Read(error.into()))?;
        let is_whole = cursor.is_none_or(|cursor| cursor.get_i64("id").is_ok_and(|id| id == 0));
        Ok((Vec::from_iter(reply), is_whole))
    }
}
