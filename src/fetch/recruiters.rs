//! Reads current recruiters by id, in portions that keep memory flat whatever the documents weigh.

use bson::{Document, doc, oid::ObjectId};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{Collection, Database};

use super::{IDS_PER_READ, find, raw};
use crate::error::Failure;
use crate::source::event::Collection as Watched;

/// How many bytes of recruiters one portion aims at: about 260 of 8 KB. Two portions are in memory at a
/// time, each with its offers before and after, so this sets the peak.
const PORTION_BYTES: usize = 2 * 1024 * 1024;

/// Reader of recruiters that adapts its portions to the documents' weight.
#[derive(Debug)]
pub struct Recruiters {
    collection: Collection<Document>,
    /// A running average of the documents' weight, in bytes.
    average: usize,
}

impl Recruiters {
    /// Reads from `recruiters` of this database.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        // Starts careful: until the first portion was weighed, documents may be of a megabyte.
        Self { collection: raw(database, Watched::Recruiters.name()), average: PORTION_BYTES / 32 }
    }

    /// Reads the next portion of `rest` and takes it off; `None` when nothing is left.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn read_next(&mut self, rest: &mut &[ObjectId]) -> Result<Option<Vec<RawBatch>>, Failure> {
        let portion = (PORTION_BYTES / self.average.max(1)).clamp(4, IDS_PER_READ).min(rest.len());
        let (ids, later) = rest.split_at(portion);
        *rest = later;
        match ids.is_empty() {
            true => Ok(None),
            false => self.read(ids).await.map(Some),
        }
    }

    async fn read(&mut self, ids: &[ObjectId]) -> Result<Vec<RawBatch>, Failure> {
        let batches = find(&self.collection, doc! { "_id": { "$in": ids } }, doc! {}).await?;
        let bytes: usize = batches.iter().map(|batch| batch.as_raw_document().as_bytes().len()).sum();
        let weight = bytes / ids.len().max(1);
        self.average = (self.average + weight * 3) / 4;
        Ok(batches)
    }
}
