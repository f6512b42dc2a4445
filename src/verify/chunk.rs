//! Recruiters as they were read for a comparison, with the offers of their jobs in job chunks: a recruiter of 16 MB may have ten
//! thousand jobs, whose offers weigh more than the recruiter.

use mongodb::raw_batch_cursor::RawBatch;

use super::job_owners::read_offers;
use super::losses::Readable;
use crate::error::Failure;
use crate::fetch::chunks::{ChunkReader, is_light};
use crate::fetch::job_chunks::JobChunks;
use crate::model::Recruiter;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::recruiter::Job;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::documents;

/// A job of a recruiter.
pub(super) type OwnedJob<'r, 'a> = (&'r Recruiter<'a>, &'r Job<'a>);

/// Recruiters, and the offers of their first job chunk.
pub(super) struct Chunk {
    pub recruiters: Vec<RawBatch>,
    pub offers: Vec<RawBatch>,
}

impl Chunk {
    /// Reads the next recruiters of `rest`, and the offers of their first job chunk; `None` when `rest` is empty.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn read(
        database: &CausalDatabase,
        reader: &mut ChunkReader,
        rest: &mut &[RecruiterId],
    ) -> Result<Option<Self>, Failure> {
        let Some(recruiters) = reader.read_next(rest).await? else { return Ok(None) };
        let mut readable = Vec::new();
        for document in documents(&recruiters) {
            let document = document?;
            readable.extend(Recruiter::read(document).ok().map(|recruiter| (recruiter, document)));
        }
        let first = job_chunks(&readable).next().map(|jobs| job_ids(&jobs)).unwrap_or_default();
        drop(readable);
        let offers = read_offers(database, &first).await?;
        Ok(Some(Self { recruiters, offers }))
    }

    pub(super) fn is_light(&self) -> bool {
        is_light(self.recruiters.iter().chain(&self.offers))
    }
}

/// The jobs of these recruiters in job chunks, in their order.
pub(super) fn job_chunks<'r, 'a>(recruiters: &'r Readable<'a>) -> impl Iterator<Item = Vec<OwnedJob<'r, 'a>>> {
    JobChunks::of(recruiters.iter().flat_map(|(recruiter, document)| {
        let own = recruiter.own_weight(document);
        recruiter.jobs.iter().map(move |job| (own + job.weight(), (recruiter, job)))
    }))
}

/// The `_id`s of the jobs that have one.
pub(super) fn job_ids(jobs: &[OwnedJob<'_, '_>]) -> Vec<JobId> {
    jobs.iter().filter_map(|(_, job)| job.id).collect()
}
