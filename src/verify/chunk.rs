//! Recruiters as they were read for a comparison, with the offers of their jobs in job chunks and in portions: a recruiter of 16 MB may
//! have ten thousand jobs, whose offers weigh more than the recruiter, and an offer may have a long history.

use std::collections::BTreeSet;

use mongodb::raw_batch_cursor::RawBatch;

use super::job_owners::offer_reader;
use super::losses::Readable;
use crate::error::Failure;
use crate::fetch::chunks::{ChunkReader, is_light, weight};
use crate::fetch::job_chunks::JOBS;
use crate::model::Recruiter;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::recruiter::Job;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::documents;

/// The weight at which a portion of offers ends, in bytes. The reply that reaches it may have 16 MB, where heavy offers follow light
/// ones. The offers of a usual chunk of recruiters are one portion.
const PORTION_BYTES: usize = 3 * 1024 * 1024;

/// A job of a recruiter.
pub(super) type OwnedJob<'r, 'a> = (&'r Recruiter<'a>, &'r Job<'a>);

/// Recruiters, and the first portion of the offers of their first job chunk.
pub(super) struct Chunk {
    pub recruiters: Vec<RawBatch>,
    pub offers: Vec<RawBatch>,
    /// The jobs of the first job chunk whose offers are not read yet, sorted.
    pub rest: Vec<JobId>,
}

impl Chunk {
    pub(super) fn is_light(&self) -> bool {
        // What is not read yet may be heavy.
        self.rest.is_empty() && is_light(self.recruiters.iter().chain(&self.offers))
    }
}

/// Reads recruiters chunk by chunk, each chunk with the first offers of its jobs. It remembers their weights.
#[derive(Debug, Clone)]
pub(super) struct ChunksReader {
    recruiters: ChunkReader,
    offers: ChunkReader,
}

impl ChunksReader {
    pub(super) fn of(database: &CausalDatabase) -> Self {
        Self { recruiters: ChunkReader::of_recruiters(database), offers: offer_reader(database) }
    }

    /// Reads the next recruiters of `rest`, and the first offers of their first job chunk; `None` when `rest` is empty.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn read_next(&mut self, rest: &mut &[RecruiterId]) -> Result<Option<Chunk>, Failure> {
        let Some(recruiters) = self.recruiters.read_next(rest).await? else { return Ok(None) };
        let mut readable = Vec::new();
        for document in documents(&recruiters) {
            let document = document?;
            readable.extend(Recruiter::read(document).ok().map(|recruiter| (recruiter, document)));
        }
        let first = job_chunks(&readable).next().map(|jobs| job_ids(&jobs)).unwrap_or_default();
        drop(readable);
        let mut rest = first.as_slice();
        let offers = read_portion(&mut self.offers, &mut rest).await?;
        Ok(Some(Chunk { recruiters, offers, rest: rest.to_vec() }))
    }
}

/// Reads a portion of the offers of these jobs, which are sorted, and removes the jobs of the portion from `rest`.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn read_portion(reader: &mut ChunkReader, rest: &mut &[JobId]) -> Result<Vec<RawBatch>, Failure> {
    let mut offers = Vec::new();
    while !rest.is_empty() && weight(&offers) < PORTION_BYTES {
        offers.extend(reader.read_next(rest).await?.into_iter().flatten());
    }
    Ok(offers)
}

/// The jobs of these recruiters in job chunks, in their order. Only the number of jobs is bounded: a projected offer is compared and
/// dropped, and existing offers come in portions.
pub(super) fn job_chunks<'r, 'a>(recruiters: &'r Readable<'a>) -> impl Iterator<Item = Vec<OwnedJob<'r, 'a>>> {
    let jobs = recruiters.iter().flat_map(|(recruiter, _)| recruiter.jobs.iter().map(move |job| (recruiter, job)));
    let mut jobs = jobs.peekable();
    std::iter::from_fn(move || jobs.peek().is_some().then(|| jobs.by_ref().take(JOBS).collect()))
}

/// The `_id`s of the jobs that have one, sorted and each once.
pub(super) fn job_ids(jobs: &[OwnedJob<'_, '_>]) -> Vec<JobId> {
    let ids: BTreeSet<JobId> = jobs.iter().filter_map(|(_, job)| job.id).collect();
    ids.into_iter().collect()
}
