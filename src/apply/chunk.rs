//! Puts one chunk of recruiters through the stages fetch, project, compare and write.
//! The stages take one job chunk after the other, because one recruiter may have fifty thousand jobs.
//! The order of the writes makes every crash harmless: links grow, offers of removed jobs are cancelled, offers and
//! dead letters are written. Links shrink at the end of all touches; [`crate::write::links`] says why.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mongodb::raw_batch_cursor::RawBatch;
use tracing::Instrument as _;

use super::job_chunk::job_chunks;
use super::link_changes::{LinkChanges, keep_in_link, links_ahead, moved};
use super::offers_ahead::OffersAhead;
use super::removal::{LostJobs, RemovedJob};
use super::shared_jobs::LinkProgress;
use super::stages::{Findings, REMOVALS_AT_A_TIME, Stages, TouchedRecruiter};
use crate::error::Failure;
use crate::failpoint;
use crate::fetch::links;
use crate::interruption::Unfinished;
use crate::model::dead_letter::Reason;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::recruiter::Job;
use crate::model::{Recruiter, value};
use crate::mongo::reads::documents;
use crate::observe::facts::{ChunkStage, SkippedJob};
use crate::plan::Touch;
use crate::traces;
use crate::write::dead_letters::{Address, DeadLetter, EventPosition};
use crate::write::links::Jobs;
use crate::write::update_reply::Refused;

/// Recruiters as they were read, with their touches.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    /// All touches of the batch, also of recruiters outside this chunk.
    pub(super) touches: &'a BTreeMap<RecruiterId, Touch>,
    /// The recruiters of this chunk, not decoded.
    pub(super) batches: &'a [RawBatch],
    /// Existing offers that were read while the chunk before was written; `None` for the first chunk.
    pub(super) ahead: Option<OffersAhead>,
    /// The position of the batch in the stream.
    pub(super) position: &'a EventPosition,
}

/// Results of all job chunks of one chunk.
#[derive(Default)]
struct Done {
    told: Findings,
    /// Recruiters to touch again.
    again: BTreeSet<RecruiterId>,
    /// Recruiters whose links could not grow. None of their offers may be written.
    unlinked: BTreeSet<RecruiterId>,
    /// Jobs that were added to links.
    grown: BTreeSet<JobId>,
}

impl Stages {
    /// Puts one chunk of recruiters through the stages. Returns the recruiters to touch again: those that still hold a
    /// job that a recruiter of this chunk lost, and those that now own a shared job. `lost` collects the jobs that
    /// recruiters of this batch lost.
    ///
    /// # Errors
    /// [`Unfinished`]: an interruption, or a failure that is not about one document.
    pub(crate) async fn chunk(
        &mut self,
        chunk: Chunk<'_>,
        lost: &mut LostJobs,
    ) -> Result<BTreeSet<RecruiterId>, Unfinished> {
        let mut done = Done::default();
        let position = chunk.position;
        let mut ahead = chunk.ahead.filter(|ahead| self.written.spare(ahead));
        self.written.clear();
        let touched = self.decode(chunk.batches, chunk.touches, &mut done.told)?;
        let mut job_chunks = job_chunks(&touched);
        // Links are compared with the first job chunk. There is always one: a recruiter without jobs may have a link.
        let mut next = Some(job_chunks.next().unwrap_or_default());
        let mut whole: Vec<RecruiterId> = touched.iter().filter(|it| it.whole).map(|it| it.recruiter.id).collect();
        while let Some(jobs) = next {
            self.check_preemption()?;
            let mut chunk = self.decode_jobs(&jobs, &mut done.told);
            let timer = self.metrics.stage_timer(ChunkStage::Fetch);
            let fetched = chunk.fetch(&mut self.offers, &mut self.references, ahead.take());
            let both = futures::future::try_join(fetched, links::read(&self.database, &whole));
            let (fetched, links) = both.instrument(traces::stage("fetch")).await?;
            timer.observe_duration();
            failpoint::passed("fetched");

            let timer = self.metrics.stage_timer(ChunkStage::Project);
            let projected = self.project_and_compare(&mut chunk, fetched).instrument(traces::stage("project"));
            let mut changes = projected.await?;
            timer.observe_duration();
            failpoint::passed("projected");

            let timer = self.metrics.stage_timer(ChunkStage::Write);
            self.check_preemption()?;
            let mut link_changes = if !whole.is_empty() {
                moved(&touched, &links, self.phase.writes_offers())
            } else {
                LinkChanges::default()
            };
            whole.clear();
            link_changes.grown.extend(links_ahead(&touched, &chunk.offers, &changes));
            let trace = traces::stage("write");
            let settled = self.settle_links(link_changes, &touched, lost, &mut done, position);
            settled.instrument(trace.clone()).await?;
            let progress = LinkProgress { grown: &done.grown, lost: &lost.all, all_linked: done.unlinked.is_empty() };
            let shared = self.settle_shared(&touched, position, progress, &mut chunk, &mut changes);
            let again = shared.instrument(trace.clone()).await?;
            done.again.extend(again);
            self.write_chunk(chunk, changes, &done.unlinked, position).instrument(trace).await?;
            failpoint::passed("written");
            timer.observe_duration();
            next = job_chunks.next();
        }
        self.tell(done.told, position).await?;
        if let Some(sampler) = &self.sampler {
            sampler.touched(touched.iter().map(|touched| touched.recruiter.id));
        }
        Ok(done.again)
    }

    /// Adds new jobs to the links, and cancels the offers of removed jobs. The links do not shrink here.
    async fn settle_links(
        &mut self,
        changes: LinkChanges,
        touched: &[TouchedRecruiter<'_>],
        lost: &mut LostJobs,
        done: &mut Done,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let LinkChanges { grown, mut shrunk } = changes;
        let refused = self.output.grow_links(&grown).await?;
        done.unlinked.extend(refused.iter().filter_map(|refused| refused.statement.id.map(RecruiterId)));
        done.told.dead_letters.extend(self.unlinked(&refused));
        done.grown.extend(grown.values().flatten());
        failpoint::passed("linked");
        // Links shrink at the end of the batch, so they still name jobs that an earlier round found lost. These jobs
        // must not count again: two recruiters that each lost a job of the other would touch each other for ever.
        for (recruiter, jobs) in &mut shrunk {
            jobs.retain(|job| lost.all.get(recruiter).is_none_or(|lost| !lost.contains(job)));
        }
        shrunk.iter().for_each(|(recruiter, jobs)| lost.all.entry(*recruiter).or_default().extend(jobs));
        let (again, uncancelled) = self.cancel_removed(touched, &shrunk, lost, position).await?;
        done.again.extend(again);
        for address in &uncancelled {
            keep_in_link(address, &mut lost.all);
            done.told.looked_at.remove(address);
        }
        failpoint::passed("cancelled");
        Ok(())
    }

    fn decode<'a>(
        &self,
        batches: &'a [RawBatch],
        touches: &BTreeMap<RecruiterId, Touch>,
        told: &mut Findings,
    ) -> Result<Vec<TouchedRecruiter<'a>>, Failure> {
        let mut all = Vec::new();
        for document in documents(batches) {
            let document = document?;
            let Ok(recruiter) = Recruiter::read(document) else {
                // The query found it by an ObjectId, so `_id` is readable even here.
                if let Ok(id) = document.get_object_id("_id") {
                    let dead_letter = DeadLetter::of_projection(Reason::Undecodable, "not valid BSON".to_owned());
                    told.dead_letters.insert(Address::Recruiter(RecruiterId(id)), dead_letter);
                }
                continue;
            };
            if let Some(touch) = touches.get(&recruiter.id) {
                let weight = recruiter.own_weight(document);
                all.push(self.touched(recruiter, touch, weight, told));
            }
        }
        // The order matters where two recruiters hold the same job: the one projected last has the offer.
        all.sort_by_key(TouchedRecruiter::owner);
        Ok(all)
    }

    fn touched<'a>(
        &self,
        recruiter: Recruiter<'a>,
        touch: &Touch,
        weight: usize,
        told: &mut Findings,
    ) -> TouchedRecruiter<'a> {
        // The jobs are sorted by position, so a binary search finds them.
        let at = |position: &usize| recruiter.jobs.binary_search_by_key(position, |job| job.position).ok();
        let jobs: Option<Vec<Job<'a>>> = match touch {
            Touch::Positions(positions) => {
                positions.iter().map(|position| recruiter.jobs.get(at(position)?).copied()).collect()
            }
            Touch::All => None,
        };
        let whole = jobs.is_none();
        if whole {
            // Only dead letters about other documents are noted here. Those about present jobs follow with the jobs.
            let jobs: HashSet<JobId> = match self.dead_letters.of_recruiter(recruiter.id).next() {
                Some(_) => recruiter.job_ids().collect(),
                None => HashSet::new(),
            };
            let removals =
                |dead_letter: &Address| !matches!(dead_letter, Address::Job { job, .. } if jobs.contains(job));
            told.looked_at.extend(self.dead_letters.of_recruiter(recruiter.id).filter(removals));
        }
        if recruiter.jobs.is_empty() {
            self.metrics.job_skipped(SkippedJob::NoJobs);
        }
        let repeated = recruiter.repeated();
        TouchedRecruiter { jobs: jobs.unwrap_or_else(|| recruiter.jobs.clone()), recruiter, whole, weight, repeated }
    }

    /// Makes dead letters about the recruiters whose links the server refused to change, and counts the refusals.
    pub(crate) fn unlinked(&self, refused: &[Refused]) -> BTreeMap<Address, DeadLetter> {
        let dead_letter = |refused: &Refused| {
            self.metrics.statement_refused(refused.code);
            let detail = refused.detail("the link");
            Some((
                Address::Recruiter(RecruiterId(refused.statement.id?)),
                DeadLetter::of_projection(refused.reason, detail),
            ))
        };
        refused.iter().filter_map(dead_letter).collect()
    }

    /// Makes dead letters about the offers whose statements the server refused, and counts the refusals.
    pub(crate) fn refused(&self, refused: &[Refused]) -> BTreeMap<JobId, DeadLetter> {
        let dead_letter = |refused: &Refused| {
            self.metrics.statement_refused(refused.code);
            let detail = refused.detail("the offer");
            Some((JobId(refused.statement.id?), DeadLetter::of_projection(refused.reason, detail)))
        };
        refused.iter().filter_map(dead_letter).collect()
    }

    /// Cancels the offers of removed jobs that no other recruiter holds. The others are moved. Returns the recruiters that
    /// still hold one of `removed`, and the jobs whose cancellation the server refused.
    async fn cancel_removed(
        &mut self,
        touched: &[TouchedRecruiter<'_>],
        removed: &Jobs,
        lost: &mut LostJobs,
        position: &EventPosition,
    ) -> Result<(BTreeSet<RecruiterId>, BTreeSet<Address>), Unfinished> {
        let (mut again, mut refused) = (BTreeSet::new(), BTreeSet::new());
        let mut removals = Vec::new();
        for touched in touched {
            let recruiter = touched.recruiter.id;
            // The date comes from the document, so that a replay writes the same one.
            let date = value::later_date(touched.recruiter.fields.updated_at, None).unwrap_or(position.wall_time);
            let removed = removed.get(&recruiter).into_iter().flatten();
            let removed_by = position.wall_time;
            removals.extend(removed.map(|job| RemovedJob { recruiter: Some(recruiter), job: *job, date, removed_by }));
        }
        for removals in removals.chunks(REMOVALS_AT_A_TIME) {
            self.check_preemption()?;
            let jobs: BTreeSet<JobId> = removals.iter().map(|removals| removals.job).collect();
            let mut owners = links::owners(&self.database, &jobs).await?;
            for (job, owners) in &mut owners {
                // A recruiter that lost the job in this batch does not hold it, although its link has not shrunk yet.
                owners.retain(|owner| lost.all.get(owner).is_none_or(|lost| !lost.contains(job)));
            }
            owners.retain(|_, owners| !owners.is_empty());
            let (moved, unclaimed): (Vec<RemovedJob>, Vec<RemovedJob>) =
                removals.iter().partition(|removals| owners.contains_key(&removals.job));
            lost.moved.extend(moved);
            refused.extend(self.cancel_or_anonymize(unclaimed, position).await?);
            again.extend(owners.into_values().flatten());
        }
        Ok((again, refused))
    }

    pub(crate) fn check_preemption(&mut self) -> Result<(), Unfinished> {
        let phase = self.phase;
        self.preemption.as_mut().map_or(Ok(()), |preemption| preemption.check(phase))
    }

    /// Sets the metric of dead letters, one number for each reason.
    pub(crate) fn count_dead_letters(&self) {
        for (reason, count) in self.dead_letters.counts() {
            self.metrics.set_dead_letters(reason, count as u64);
        }
    }

    /// Removes the dead letters that are settled, and writes the new ones. A dry run only counts the new ones.
    pub(crate) async fn tell(&mut self, told: Findings, position: &EventPosition) -> Result<(), Unfinished> {
        let Findings { dead_letters, looked_at } = told;
        self.output.note_dead_letters(&dead_letters);
        let stands =
            |address: &Address| self.dead_letters.is_of_projection(address) && !dead_letters.contains_key(address);
        let healed = looked_at.into_iter().filter(stands).collect();
        self.dead_letters.remove(&healed).await?;
        self.dead_letters.write(dead_letters, position).await
    }
}
