//! Reads the existing offers of the next chunk while a chunk is written, so that the server and this process wait less
//! for each other. Such a read is older than the writes of the chunk before. Two recruiters may hold the same job, so
//! offers that the chunk before has written are read again.

use std::collections::{BTreeMap, BTreeSet};

use bson::RawBsonRef;
use mongodb::raw_batch_cursor::RawBatch;

use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::value;
use crate::mongo::reads::documents;
use crate::plan::Touch;
use crate::write::statements::Statement;

/// Existing offers that were read before their chunk began.
#[derive(Debug)]
pub(crate) struct OffersAhead {
    /// All jobs that the touches of the chunk name, whether or not they have an offer.
    jobs: BTreeSet<JobId>,
    /// The offers that were read, not decoded.
    pub(super) standing: Vec<RawBatch>,
    /// Jobs whose offers are not read yet, sorted.
    pub(super) rest: Vec<JobId>,
}

impl OffersAhead {
    /// Reads the first offers of the touched jobs; `None` if these are more than `most`.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn read(
        offers: &mut ChunkReader,
        recruiters: &[RawBatch],
        touches: &BTreeMap<RecruiterId, Touch>,
        most: usize,
    ) -> Result<Option<Self>, Failure> {
        let Some(jobs) = touched_jobs(recruiters, touches, most) else { return Ok(None) };
        let sorted: Vec<JobId> = jobs.iter().copied().collect();
        let mut rest = sorted.as_slice();
        let standing = offers.read_next(&mut rest).await?;
        Ok(standing.map(|standing| Self { rest: rest.to_vec(), jobs, standing }))
    }

    /// True if this has all offers of these jobs, as far as they are not in `rest`.
    pub(super) fn has(&self, jobs: &BTreeSet<JobId>) -> bool {
        jobs.is_subset(&self.jobs)
    }
}

/// The jobs that the touches name; `None` if they are more than `most`. Documents that cannot be read have none.
fn touched_jobs(
    recruiters: &[RawBatch],
    touches: &BTreeMap<RecruiterId, Touch>,
    most: usize,
) -> Option<BTreeSet<JobId>> {
    let mut touched = BTreeSet::new();
    for recruiter in documents(recruiters).flatten() {
        let touch = recruiter.get_object_id("_id").ok().and_then(|id| touches.get(&RecruiterId(id)));
        let jobs = value::list(value::field(recruiter, "jobs")).into_iter().flatten().flatten();
        for (position, job) in jobs.enumerate() {
            let is_touched = match touch {
                None => false,
                Some(Touch::All) => true,
                Some(Touch::Positions(positions)) => positions.contains(&position),
            };
            if is_touched {
                let id = value::object(Some(job)).and_then(|job| value::field(job, "_id"));
                touched.extend(id.and_then(RawBsonRef::as_object_id).map(JobId));
            }
        }
        if touched.len() > most {
            return None;
        }
    }
    Some(touched)
}

/// The offers that were written since the last call of [`Self::clear`].
#[derive(Debug, Default)]
pub(crate) struct WrittenOffers {
    offers: BTreeSet<JobId>,
    /// True if a statement named no offer.
    others: bool,
}

impl WrittenOffers {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes the offers of these statements, whatever becomes of them.
    pub(super) fn note(&mut self, statements: &[Statement]) {
        self.others |= statements.iter().any(|statement| statement.id.is_none());
        self.offers.extend(statements.iter().filter_map(|statement| statement.id.map(JobId)));
    }

    pub(super) fn note_created(&mut self, offers: impl Iterator<Item = JobId>) {
        self.offers.extend(offers);
    }

    /// True if none of these offers was written since they were read.
    pub(super) fn spare(&self, ahead: &OffersAhead) -> bool {
        !self.others && self.offers.is_disjoint(&ahead.jobs)
    }
}
