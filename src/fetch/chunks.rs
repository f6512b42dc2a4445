//! Reads current documents by id, in chunks that keep memory flat however large the documents are.

use bson::{Bson, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::raw_batch_cursor::RawBatch;

use super::IDS_PER_READ;
use crate::error::Failure;
use crate::model::names::OFFERS;
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents};

/// The intended size of a chunk in bytes: about 190 documents of 8 KB. Two chunks of recruiters are in memory at the
/// same time with their existing offers, one of them also with its projected offers. So this size determines the peak of
/// memory.
const CHUNK_BYTES: usize = 1536 * 1024;
/// The greatest weight of a chunk with its offers beside which the next one is read, in bytes: four times the intended size of a chunk.
const LIGHT: usize = 6 * 1024 * 1024;
/// Fields of an offer that the projection does not write and that may be long. To leave them out costs the server less
/// than to name the 55 projected fields. The other fields are short, and the comparison ignores them.
const NOT_READ: [&str; 2] = ["duplicates", "workplace_description"];

/// True where the next chunk may be read beside this one. Two heavy chunks must not be in memory at the same time: one recruiter may
/// have 16 MB, and the driver holds it twice while it reads it.
pub(crate) fn is_light<'a>(batches: impl IntoIterator<Item = &'a RawBatch>) -> bool {
    weight(batches) <= LIGHT
}

/// The size of these replies, in bytes.
pub(crate) fn weight<'a>(batches: impl IntoIterator<Item = &'a RawBatch>) -> usize {
    batches.into_iter().map(|batch| batch.as_raw_document().as_bytes().len()).sum()
}

/// A reader that adapts the number of documents of a chunk to their size.
#[derive(Debug, Clone)]
pub struct ChunkReader {
    database: CausalDatabase,
    collection: &'static str,
    projection: Document,
    /// A condition besides the ids; empty where there is none.
    filter: Document,
    /// A running average of the documents' sizes, in bytes.
    average: usize,
}

impl ChunkReader {
    #[must_use]
    pub fn of_recruiters(database: &CausalDatabase) -> Self {
        // The first chunk is small, because the documents may have a megabyte each.
        let average = CHUNK_BYTES / 2;
        let collection = WatchedCollection::Recruiters.name();
        Self { database: database.clone(), collection, projection: Document::new(), filter: Document::new(), average }
    }

    /// Reads recruiters without these fields.
    #[must_use]
    pub(crate) fn of_recruiters_without(database: &CausalDatabase, fields: &[&str]) -> Self {
        let projection = fields.iter().map(|name| ((*name).to_owned(), 0.into())).collect();
        Self { projection, ..Self::of_recruiters(database) }
    }

    /// Reads only these fields of existing offers, and `_id`.
    #[must_use]
    pub(crate) fn of_offer_fields(database: &CausalDatabase, fields: &[&str]) -> Self {
        let projection = fields.iter().map(|name| ((*name).to_owned(), 1.into())).collect();
        Self { projection, ..Self::of_offers(database) }
    }

    /// Reads existing offers, without long fields that are not compared.
    #[must_use]
    pub fn of_offers(database: &CausalDatabase) -> Self {
        // The history is read whole. A `$slice` of its last entries would take the server off its fast way to leave
        // fields out, which costs more than the entries.
        let projection = NOT_READ.iter().map(|name| ((*name).to_owned(), 0.into())).collect();
        // The first chunk has the greatest number of ids, because before a first backfill no offer can be measured.
        let average = CHUNK_BYTES / IDS_PER_READ;
        Self { database: database.clone(), collection: OFFERS, projection, filter: Document::new(), average }
    }

    /// Reads those existing offers that have this label, with all their fields but the list of duplicates.
    #[must_use]
    pub(crate) fn of_own_offers(database: &CausalDatabase, partner_label: &str) -> Self {
        let filter = doc! { "partner_label": partner_label };
        Self { projection: doc! { "duplicates": 0 }, filter, ..Self::of_offers(database) }
    }

    /// The number of documents that the next chunk has at most.
    #[must_use]
    pub(crate) fn next_size(&self) -> usize {
        (CHUNK_BYTES / self.average.max(1)).clamp(1, IDS_PER_READ)
    }

    /// Reads the next chunk of `rest`, which holds sorted ids, and removes its ids from `rest`. `None` when `rest` is
    /// empty.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn read_next<I>(&mut self, rest: &mut &[I]) -> Result<Option<Vec<RawBatch>>, Failure>
    where
        I: From<ObjectId> + Into<Bson> + Copy + Ord + Sync,
    {
        let (ids, later) = rest.split_at(self.next_size().min(rest.len()));
        if ids.is_empty() {
            return Ok(None);
        }
        debug_assert!(ids.is_sorted(), "what a cut reply did not reach is found by its order");
        let (batches, is_whole) = self.read(ids).await?;
        let read = documents(&batches).collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = read.iter().map(|document| document.as_bytes().len()).sum();
        // Where no document was found, the next chunk has more ids. That is safe, because a chunk is one reply at most.
        self.average = (self.average + bytes.checked_div(read.len()).unwrap_or_default() * 3) / 4;
        *rest = match read.last() {
            Some(last) if !is_whole => {
                // Heavy documents follow light ones, so the average is too low.
                self.average = self.average.max(last.as_bytes().len());
                let reached = last.get_object_id("_id").map(I::from).map_err(|error| Failure::Read(error.into()))?;
                rest.split_at(rest.partition_point(|id| *id <= reached)).1
            }
            _ => later,
        };
        Ok(Some(batches))
    }

    /// Reads one reply. The flag is true when the reply has all documents. The server cuts a reply at 16 MB, so heavy
    /// documents after light ones need no more memory than that.
    async fn read<I: Into<Bson> + Copy>(&self, ids: &[I]) -> Result<(Vec<RawBatch>, bool), Failure> {
        // One more than the number of ids, so that the server closes the cursor with its first reply.
        let batch_size = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
        let mut session = self.database.session().await?;
        let collection = collection(&self.database, self.collection);
        let mut filter = doc! { "_id": { "$in": ids } };
        filter.extend(self.filter.clone());
        let find = collection.find(filter).projection(self.projection.clone());
        let find = find.sort(doc! { "_id": 1 }).batch_size(batch_size).session(&mut session).batch();
        let mut replies = with_deadline(find).await.map_err(Failure::Read)?;
        let reply = with_deadline(replies.stream(&mut session).try_next()).await.map_err(Failure::Read)?;
        let cursor = reply.as_ref().map(|reply| reply.as_raw_document().get_document("cursor")).transpose();
        let cursor = cursor.map_err(|error| Failure::Read(error.into()))?;
        let is_whole = cursor.is_none_or(|cursor| cursor.get_i64("id").is_ok_and(|id| id == 0));
        Ok((Vec::from_iter(reply), is_whole))
    }
}
