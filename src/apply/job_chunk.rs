//! Puts one job chunk through the stages: decode, fetch, project, compare, write. A job chunk is some jobs of a chunk
//! of recruiters.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mongodb::raw_batch_cursor::RawBatch;

use super::dry_run::Projected;
use super::dry_run_reasons::note_reasons;
use super::offers_ahead::OffersAhead;
use super::output::{Output, note_changes};
use super::refused_changes::refused_changes;
use super::stages::{Findings, Stages, TouchedRecruiter};
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::job_chunks::JobChunks;
use crate::fetch::references::{Answers, Keys, ReferenceCaches};
use crate::interruption::Unfinished;
use crate::model::dead_letter::Reason;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::recruiter::{Job, JobFields};
use crate::model::value;
use crate::observe::facts::{ConflictWinner, SkippedJob, WriteResult};
use crate::phase::StreamWrites;
use crate::project::closing_alone::closing_alone;
use crate::project::diff::OfferChange;
use crate::project::project;
use crate::write::create::WORTH_IT;
use crate::write::dead_letters::{Address, DeadLetter, EventPosition};
use crate::write::statements::{self, Statement};
use crate::write::update_reply::WriteOutcome;

/// The greatest number of comparisons of one offer, the first one included. The offer is compared again when another
/// process changes it before it is written.
const COMPARISONS: usize = 4;

/// The number of jobs that are projected before other work of this thread has its turn.
const AT_A_STRETCH: usize = 64;

/// A touched job with its recruiter.
type TouchedJob<'a, 'b> = (&'b TouchedRecruiter<'a>, Job<'a>);

/// The jobs of a chunk of recruiters in job chunks.
pub(super) fn job_chunks<'a, 'b>(touched: &'b [TouchedRecruiter<'a>]) -> impl Iterator<Item = Vec<TouchedJob<'a, 'b>>> {
    let jobs = touched
        .iter()
        .flat_map(|touched| touched.jobs.iter().map(move |job| (touched.weight + job.weight(), (touched, *job))));
    // Boxed, because the compiler cannot show of the closures that this may go to another thread.
    JobChunks::of(Box::new(jobs) as Box<dyn Iterator<Item = _> + Send + 'b>)
}

/// Decoded jobs, the offers that are projected from them, and dead letters about them.
#[derive(Default)]
pub(crate) struct JobChunk<'a, 'b> {
    /// Empty once the jobs are projected.
    jobs: Vec<(&'b TouchedRecruiter<'a>, JobId, JobFields<'a>)>,
    pub(super) offers: Projected,
    /// The jobs whose existing offers are as projected.
    pub(super) as_projected: BTreeSet<JobId>,
    pub(super) told: Findings,
}

/// Existing offers and references of a job chunk.
pub(crate) struct Fetched {
    /// The existing offers that were read, not decoded; `None` for a job chunk without jobs.
    standing: Option<Vec<RawBatch>>,
    /// Jobs whose offers are not read yet.
    rest: Vec<JobId>,
    answers: Answers,
}

impl JobChunk<'_, '_> {
    pub(crate) async fn fetch(
        &self,
        offers: &mut ChunkReader,
        references: &mut ReferenceCaches,
        ahead: Option<OffersAhead>,
    ) -> Result<Fetched, Failure> {
        let mut keys = Keys::default();
        let mut recruiter = None;
        for (touched, _, job) in &self.jobs {
            if recruiter.replace(touched.recruiter.id) != Some(touched.recruiter.id) {
                keys.add_recruiter(&touched.recruiter.fields);
            }
            keys.add_job(job);
        }
        // The set drops repeated ids: two recruiters may hold the same job.
        let jobs: BTreeSet<JobId> = self.jobs.iter().map(|(_, id, _)| *id).collect();
        if let Some(mut ahead) = ahead.filter(|ahead| ahead.has(&jobs)) {
            ahead.rest.retain(|job| jobs.contains(job));
            let OffersAhead { standing, rest, .. } = ahead;
            return Ok(Fetched { standing: Some(standing), rest, answers: references.look_up(keys).await? });
        }
        let jobs: Vec<JobId> = jobs.into_iter().collect();
        let mut rest = jobs.as_slice();
        // The reads are sent in this order, so the longer one comes first.
        let (standing, answers) = futures::try_join!(offers.read_next(&mut rest), references.look_up(keys))?;
        Ok(Fetched { standing, rest: rest.to_vec(), answers })
    }
}

impl Stages {
    /// Decodes jobs. The jobs of a recruiter without address are counted and left out (spec 02).
    pub(crate) fn decode_jobs<'a, 'b>(&self, jobs: &[TouchedJob<'a, 'b>], told: &mut Findings) -> JobChunk<'a, 'b> {
        let mut chunk = JobChunk::default();
        for (touched, job) in jobs {
            let recruiter = &touched.recruiter;
            let address = Address::of(recruiter.id, job.id);
            let repeated = job.id.and_then(|id| touched.repeated.get(&id));
            if let Some([first, second]) = repeated {
                let detail = format!("jobs.{first} and jobs.{second} have this _id");
                chunk.told.dead_letters.insert(address, DeadLetter::of_projection(Reason::DuplicateJobId, detail));
            }
            // A job without an id has the dead letter of its recruiter. Several job chunks may cause this dead letter,
            // so it is kept for the whole chunk.
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

    /// Makes the changes of a job chunk: projects its jobs, compares the offers with the existing ones, refuses those
    /// under another label, and applies the conflict policy of the phase.
    pub(crate) async fn project_and_compare(
        &mut self,
        chunk: &mut JobChunk<'_, '_>,
        fetched: Fetched,
    ) -> Result<Vec<(JobId, OfferChange)>, Failure> {
        let Fetched { standing, rest, answers } = fetched;
        self.settings.schema = self.target.schema();
        self.project_jobs(chunk, &answers).await;
        let mut changes = self.compare_all(&mut chunk.offers, standing, &rest).await?;
        let unchanged = changes.iter().filter(|(_, change)| *change == OfferChange::Nothing);
        chunk.as_projected = unchanged.map(|(id, _)| *id).collect();
        Self::refuse_other_labels(&mut changes, &chunk.offers, &mut chunk.told.dead_letters);
        self.keep_what_may_be_written(&mut changes, chunk);
        Ok(changes)
    }

    /// Projects the jobs. A job that cannot be projected has a dead letter.
    async fn project_jobs(&self, chunk: &mut JobChunk<'_, '_>, answers: &Answers) {
        for (number, (touched, id, job)) in std::mem::take(&mut chunk.jobs).into_iter().enumerate() {
            if number % AT_A_STRETCH == AT_A_STRETCH - 1 {
                // The read of the next chunk goes on meanwhile.
                tokio::task::yield_now().await;
            }
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
                    // The dead letter of a job id that occurs twice stays: it must not depend on which job is touched.
                    chunk.told.dead_letters.entry(Address::of(recruiter.id, Some(id))).or_insert(dead_letter);
                }
            }
        }
    }

    /// Writes the changes, except those of `unlinked` recruiters, and the dead letters about the jobs. A dry run only
    /// counts them.
    pub(crate) async fn write_chunk(
        &mut self,
        chunk: JobChunk<'_, '_>,
        mut changes: Vec<(JobId, OfferChange)>,
        unlinked: &BTreeSet<RecruiterId>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let JobChunk { offers, mut told, .. } = chunk;
        if let Output::DryRun(dry_run) = &mut self.output {
            let newest_wins = self.phase.stream() == StreamWrites::UnlessNewer;
            let schema = &self.settings.schema;
            let refused = refused_changes(&self.database, &offers, (&changes, newest_wins), schema).await?;
            for (id, _) in changes.extract_if(.., |(id, _)| refused.contains(id)) {
                if let Some((recruiter, _)) = offers.get(&id) {
                    let dead_letter = DeadLetter::of_projection(Reason::RefusedByValidation, String::new());
                    told.dead_letters.insert(Address::of(*recruiter, Some(id)), dead_letter);
                }
            }
            note_changes(dry_run, &self.database, &offers, &changes, newest_wins).await?;
            if dry_run.offers.is_none() {
                note_reasons(&mut dry_run.reasons, &self.database, &changes).await?;
            }
            return self.tell(told, position).await;
        }
        if !unlinked.is_empty() {
            let linked = |id: &JobId| offers.get(id).is_none_or(|(recruiter, _)| !unlinked.contains(recruiter));
            changes.retain(|(id, _)| linked(id));
        }
        let unchanged = changes.iter().filter(|(_, change)| *change == OfferChange::Nothing).count() as u64;
        self.metrics.offers_written(WriteResult::Unchanged, unchanged);
        self.write_counts.unchanged += unchanged;
        let mut unsure = self.write(&offers, changes, &mut told.dead_letters).await?;
        // Another process may have changed an offer since the comparison. Such an offer is read and compared again.
        for _ in 1..COMPARISONS {
            if unsure.is_empty() {
                break;
            }
            let mut some: Projected = unsure.iter().filter_map(|id| Some((*id, offers.get(id)?.clone()))).collect();
            let ids: Vec<JobId> = some.keys().copied().collect();
            let mut rest = ids.as_slice();
            let standing = self.offers.read_next(&mut rest).await?;
            let mut changes = self.compare_all(&mut some, standing, rest).await?;
            Self::refuse_other_labels(&mut changes, &some, &mut told.dead_letters);
            if self.phase.stream() == StreamWrites::UnlessNewer {
                self.leave_newer(&mut changes, &some);
            }
            unsure = self.write(&some, changes, &mut told.dead_letters).await?;
        }
        // The other process may go on for ever, so the rest is left to the next touch or retry.
        for id in unsure {
            if let Some((recruiter, _)) = offers.get(&id) {
                let dead_letter = DeadLetter::of_projection(Reason::Overtaken, String::new());
                told.dead_letters.insert(Address::of(*recruiter, Some(id)), dead_letter);
            }
        }
        self.tell(told, position).await
    }

    /// Writes the changes, and adds a dead letter for each one that the server refuses. Returns the offers that may be
    /// unwritten, because another process may have changed them since the comparison.
    async fn write(
        &mut self,
        offers: &Projected,
        changes: Vec<(JobId, OfferChange)>,
        dead_letters: &mut BTreeMap<Address, DeadLetter>,
    ) -> Result<Vec<JobId>, Unfinished> {
        let newest_wins = self.phase.stream() == StreamWrites::UnlessNewer;
        let statement = |(id, change): &(JobId, OfferChange)| {
            offers.get(id).and_then(|(_, offer)| statements::of_change(offer, change, newest_wins))
        };
        let (creations, mut changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(_, change)| *change == OfferChange::Create);
        let mut created = 0;
        // Many creations go in commands of their own, because single upserts cost the server about twice as much.
        if creations.len() < WORTH_IT {
            changes.extend(creations)
        } else {
            let offer = |(id, _): &(JobId, OfferChange)| offers.get(id).map(|(_, offer)| statements::created(offer));
            self.written.note_created(creations.iter().map(|(id, _)| *id));
            let creations = creations.iter().filter_map(offer).collect();
            let done = self.output.create_offers(creations).await?;
            created = done.created;
            changes.extend(done.unsure.into_iter().map(|id| (JobId(id), OfferChange::Create)));
        }
        let statements: Vec<Statement> = changes.iter().filter_map(statement).collect();
        // In every phase the condition is that the offer is as it was compared: only a part of the projection is written.
        let closing = |(id, change): &(JobId, OfferChange)| {
            let offer = &offers.get(id)?.1;
            statements::of_change(offer, &closing_alone(offer, change)?, false)
        };
        let closings: Vec<Statement> = changes.iter().filter_map(closing).collect();
        drop(changes);
        let mut outcome = self.update_offers(statements).await?;
        outcome.created += created;
        self.close_refused(&mut outcome, closings).await?;
        if newest_wins {
            self.metrics.conflicts(ConflictWinner::Projection, outcome.changed);
        }
        self.metrics.offers_written(WriteResult::Created, outcome.created);
        self.metrics.offers_written(WriteResult::Changed, outcome.changed);
        self.write_counts.created += outcome.created;
        self.write_counts.changed += outcome.changed;
        let address = |offer: JobId| Some(Address::of(offers.get(&offer)?.0, Some(offer)));
        let refused = self.refused(&outcome.refused).into_iter();
        dead_letters.extend(refused.filter_map(|(offer, dead_letter)| Some((address(offer)?, dead_letter))));
        Ok(outcome.unsure.into_iter().map(JobId).collect())
    }

    /// Writes these closings for the changes that the server refused. Each of them still has its dead letter.
    async fn close_refused(
        &mut self,
        outcome: &mut WriteOutcome,
        mut closings: Vec<Statement>,
    ) -> Result<(), Unfinished> {
        let refused: HashSet<_> = outcome.refused.iter().filter_map(|refused| refused.statement.id).collect();
        closings.retain(|closing| closing.id.is_some_and(|id| refused.contains(&id)));
        if !closings.is_empty() {
            let closed = self.update_offers(closings).await?;
            outcome.changed += closed.changed;
            outcome.unsure.extend(closed.unsure);
        }
        Ok(())
    }
}
