//! Some jobs of a portion through the stages: decode, look up, project, compare, write. A chunk is bounded in its jobs and
//! in the weight of the offers that they may come to, so that memory does not grow with the jobs of a recruiter.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use bson::oid::ObjectId;
use mongodb::raw_batch_cursor::RawBatch;

use super::stages::Projected;
use super::stages::{Findings, Stages, TouchedRecruiter};
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::references::{Answers, Keys, ReferenceCaches};
use crate::model::dead_letter::Reason;
use crate::model::names::OFFERS;
use crate::model::recruiter::{Job, JobFields};
use crate::model::value;
use crate::observe::facts::{ConflictWinner, SkippedJob, WriteResult};
use crate::phase::StreamWrites;
use crate::project::diff::OfferChange;
use crate::project::project;
use crate::write::command;
use crate::write::create::{WORTH_IT, create};
use crate::write::dead_letters::{Address, DeadLetter, EventPosition};
use crate::write::statements::{self, Statement};

/// At most this many jobs in a chunk.
const JOBS: usize = 1_000;
/// At most this many bytes of jobs, each with all that its offer may repeat of its recruiter. A usual portion is one chunk.
const BYTES: usize = 4 * 1024 * 1024;
/// So often an offer that somebody else changes before it is written is compared anew.
const COMPARISONS: usize = 4;

/// The jobs of a portion, chunk by chunk.
pub(crate) struct JobChunks<I: Iterator>(Peekable<I>);

impl<'a, 'b> JobChunks<Box<dyn Iterator<Item = (&'b TouchedRecruiter<'a>, Job<'a>)> + Send + 'b>> {
    pub(crate) fn of(touched: &'b [TouchedRecruiter<'a>]) -> Self {
        let jobs = touched.iter().flat_map(|touched| touched.jobs.iter().map(move |job| (touched, *job)));
        Self((Box::new(jobs) as Box<dyn Iterator<Item = _> + Send + 'b>).peekable())
    }
}

impl<'a: 'b, 'b, I: Iterator<Item = (&'b TouchedRecruiter<'a>, Job<'a>)>> Iterator for JobChunks<I> {
    type Item = Vec<(&'b TouchedRecruiter<'a>, Job<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while let Some((touched, job)) = self.0.peek() {
            bytes += touched.weight + job.weight();
            if !chunk.is_empty() && (chunk.len() >= JOBS || bytes > BYTES) {
                break;
            }
            chunk.extend(self.0.next());
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Decoded jobs, and what they come to.
#[derive(Default)]
pub(crate) struct JobChunk<'a, 'b> {
    jobs: Vec<(&'b TouchedRecruiter<'a>, ObjectId, JobFields<'a>)>,
    pub(crate) offers: Projected,
    pub(crate) told: Findings,
}

/// What a chunk is projected from and compared with.
pub(crate) struct Fetched {
    standing: Option<Vec<RawBatch>>,
    /// Jobs whose offers are still to be read.
    rest: Vec<ObjectId>,
    answers: Answers,
}

impl JobChunk<'_, '_> {
    pub(crate) async fn fetch(
        &self,
        offers: &mut ChunkReader,
        references: &mut ReferenceCaches,
    ) -> Result<Fetched, Failure> {
        let mut keys = Keys::default();
        let mut recruiter = None;
        for (touched, _, job) in &self.jobs {
            if recruiter.replace(touched.recruiter.id) != Some(touched.recruiter.id) {
                keys.add_recruiter(&touched.recruiter.fields);
            }
            keys.add_job(job);
        }
        // Each job once, though two recruiters may hold it.
        let jobs: BTreeSet<ObjectId> = self.jobs.iter().map(|(_, id, _)| *id).collect();
        let jobs: Vec<ObjectId> = jobs.into_iter().collect();
        let mut rest = jobs.as_slice();
        // The longer one first: they are sent in this order.
        let (standing, answers) = futures::try_join!(offers.read_next(&mut rest), references.look_up(keys))?;
        Ok(Fetched { standing, rest: rest.to_vec(), answers })
    }
}

impl Stages {
    /// Decodes jobs, unless their recruiter is not projected (spec 02).
    pub(crate) fn decode_jobs<'a, 'b>(
        &self,
        jobs: &[(&'b TouchedRecruiter<'a>, Job<'a>)],
        told: &mut Findings,
    ) -> JobChunk<'a, 'b> {
        let mut chunk = JobChunk::default();
        for (touched, job) in jobs {
            let recruiter = &touched.recruiter;
            let address = Address::of(recruiter.id, job.id);
            let repeated = job.id.and_then(|id| touched.repeated.get(&id));
            if let Some([first, second]) = repeated {
                let detail = format!("jobs.{first} and jobs.{second} have this _id");
                chunk.told.dead_letters.insert(address, DeadLetter::of_projection(Reason::DuplicateJobId, detail));
            }
            // A letter about the whole recruiter is one of the portion: several chunks may have cause for it.
            let dead_letters = if job.id.is_some() { &mut chunk.told.dead_letters } else { &mut told.dead_letters };
            let has_address = value::non_empty(recruiter.fields.address).is_some();
            match (job.id, job.fields()) {
                _ if repeated.is_some_and(|[first, _]| *first != job.position) => {}
                _ if !has_address => self.metrics.job_skipped(SkippedJob::NoAddress),
                (Some(id), Ok(fields)) => chunk.jobs.push((touched, id, fields)),
                (None, Ok(_)) => {
                    let detail = format!("jobs.{}._id is no ObjectId", job.position);
                    dead_letters.insert(address, DeadLetter::of_projection(Reason::InvalidJobId, detail));
                }
                (_, Err(_)) => {
                    let detail = format!("jobs.{} is not valid BSON", job.position);
                    dead_letters.insert(address, DeadLetter::of_projection(Reason::Undecodable, detail));
                }
            }
            match job.id {
                Some(_) => chunk.told.looked_at.insert(address),
                None => told.looked_at.insert(address),
            };
        }
        chunk
    }

    /// What the phase lets be written of what differs.
    pub(crate) async fn project_and_compare(
        &mut self,
        chunk: &mut JobChunk<'_, '_>,
        fetched: Fetched,
    ) -> Result<Vec<(ObjectId, OfferChange)>, Failure> {
        let Fetched { standing, rest, answers } = fetched;
        for (touched, id, job) in std::mem::take(&mut chunk.jobs) {
            let recruiter = &touched.recruiter;
            let references = answers.of(&recruiter.fields, &job);
            match project(&recruiter.fields, id, &job, &references, &self.settings) {
                Ok(offer) => {
                    self.metrics.jobs_projected.inc();
                    chunk.offers.insert(id, (recruiter.id, offer));
                }
                Err(reason) => {
                    let reference = references.undecodable(self.settings.cancels_deactivated);
                    let dead_letter = DeadLetter::of_projection(reason, reference.unwrap_or_default().to_owned());
                    // Of a job that is there twice, the letter says that, whichever of the two is touched.
                    chunk.told.dead_letters.entry(Address::of(recruiter.id, Some(id))).or_insert(dead_letter);
                }
            }
        }
        let mut changes = self.compare_all(&chunk.offers, standing, &rest).await?;
        self.keep_what_may_be_written(&mut changes, chunk);
        Ok(changes)
    }

    /// Writes what differs, but for offers of `unlinked` recruiters, and the letters about the jobs.
    pub(crate) async fn write_chunk(
        &mut self,
        chunk: JobChunk<'_, '_>,
        mut changes: Vec<(ObjectId, OfferChange)>,
        unlinked: &BTreeSet<ObjectId>,
        position: &EventPosition,
    ) -> Result<(), Failure> {
        let JobChunk { offers, mut told, .. } = chunk;
        if self.dry_run.is_some() {
            self.dry_run_changes(&offers, &changes).await?;
            return self.tell(told, position).await;
        }
        if !unlinked.is_empty() {
            let linked = |id: &ObjectId| offers.get(id).is_none_or(|(recruiter, _)| !unlinked.contains(recruiter));
            changes.retain(|(id, _)| linked(id));
        }
        let unchanged = changes.iter().filter(|(_, change)| *change == OfferChange::Nothing).count() as u64;
        self.metrics.offers_written(WriteResult::Unchanged, unchanged);
        self.write_counts.unchanged += unchanged;
        let mut unsure = self.write(&offers, changes, &mut told.dead_letters).await?;
        for _ in 1..COMPARISONS {
            if unsure.is_empty() {
                break;
            }
            let some: Projected = unsure.iter().filter_map(|id| Some((*id, offers.get(id)?.clone()))).collect();
            let ids: Vec<ObjectId> = some.keys().copied().collect();
            let mut rest = ids.as_slice();
            let standing = self.offers.read_next(&mut rest).await?;
            let mut changes = self.compare_all(&some, standing, rest).await?;
            if self.phase.stream() == StreamWrites::UnlessNewer {
                self.leave_newer(&mut changes, &some);
            }
            unsure = self.write(&some, changes, &mut told.dead_letters).await?;
        }
        for id in unsure {
            if let Some((recruiter, _)) = offers.get(&id) {
                let dead_letter = DeadLetter::of_projection(Reason::Overtaken, String::new());
                told.dead_letters.insert(Address::of(*recruiter, Some(id)), dead_letter);
            }
        }
        self.tell(told, position).await
    }

    /// Writes what differs, with letters for what the server refuses. Gives back offers that may have become others since
    /// they were compared, and so may not have been written.
    async fn write(
        &mut self,
        offers: &Projected,
        changes: Vec<(ObjectId, OfferChange)>,
        dead_letters: &mut BTreeMap<Address, DeadLetter>,
    ) -> Result<Vec<ObjectId>, Failure> {
        let newest_wins = self.phase.stream() == StreamWrites::UnlessNewer;
        let statement = |(id, change): &(ObjectId, OfferChange)| {
            offers.get(id).and_then(|(_, offer)| statements::of_change(offer, change, newest_wins))
        };
        let (creations, mut changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(_, change)| *change == OfferChange::Create);
        let mut created = 0;
        if creations.len() < WORTH_IT {
            changes.extend(creations)
        } else {
            let offer = |(id, _): &(ObjectId, OfferChange)| offers.get(id).map(|(_, offer)| statements::created(offer));
            let creations = creations.iter().filter_map(offer).collect();
            let done = create(&self.writer, OFFERS, creations).await?;
            created = done.created;
            changes.extend(done.unsure.into_iter().map(|id| (id, OfferChange::Create)));
        }
        let statements: Vec<Statement> = changes.iter().filter_map(statement).collect();
        drop(changes);
        let mut outcome = command::update(&self.writer, OFFERS, statements).await?;
        outcome.created += created;
        if newest_wins {
            self.metrics.conflicts(ConflictWinner::Projection, outcome.changed);
        }
        self.metrics.offers_written(WriteResult::Created, outcome.created);
        self.metrics.offers_written(WriteResult::Changed, outcome.changed);
        self.write_counts.created += outcome.created;
        self.write_counts.changed += outcome.changed;
        let address = |offer: ObjectId| Some(Address::of(offers.get(&offer)?.0, Some(offer)));
        let refused = self.refused(&outcome.refused).into_iter();
        dead_letters.extend(refused.filter_map(|(offer, dead_letter)| Some((address(offer)?, dead_letter))));
        Ok(outcome.unsure)
    }
}
