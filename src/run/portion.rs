//! One portion of recruiters through the stages: look up, project, compare, write. The order of the
//! writes keeps every crash harmless: links grow, offers, links shrink, dead letters; see
//! [`crate::write::links`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::oid::ObjectId;
use mongodb::raw_batch_cursor::RawBatch;

use super::authority::Projected;
use super::failpoint;
use super::follow::anonymized_jobs;
use super::gone::GoneJob;
use super::linked::{met_early, moved};
use super::rehearsal::{Rehearsal, Tally};
use super::turn::Turn;
use crate::error::Failure;
use crate::fetch::causal::CausalDatabase;
use crate::fetch::portions::Portions;
use crate::fetch::references::{Answers, Keys, ReferenceCaches};
use crate::fetch::{documents, links};
use crate::model::dead_letter::Reason;
use crate::model::recruiter::JobFields;
use crate::model::{Recruiter, value};
use crate::observe::metrics::Metrics;
use crate::phase::{Phase, StreamWrites};
use crate::plan::Touch;
use crate::project::diff::Change;
use crate::project::{ProjectionSettings, project};
use crate::source::OFFERS;
use crate::verify::sampler::Sampler;
use crate::write::Writer;
use crate::write::command::{self, Refused};
use crate::write::create::{WORTH_IT, create};
use crate::write::dead_letters::{Address, DeadLetters, Letter, Place};
use crate::write::links::Jobs;
use crate::write::statements::{self, Statement};

/// What the stages share between portions.
#[derive(Debug)]
pub struct Stages {
    /// Where everything is.
    pub database: CausalDatabase,
    /// What may write there.
    pub writer: Writer,
    /// What the projection takes from the configuration.
    pub settings: ProjectionSettings,
    /// The caches.
    pub references: ReferenceCaches,
    /// Reader of the offers that stand.
    pub offers: Portions,
    /// The dead letters that stand.
    pub dead_letters: DeadLetters,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What may be written (spec 04).
    pub phase: Phase,
    /// What writing came to so far.
    pub tally: Tally,
    /// Set in a dry run: nothing is written, and what would be is counted here.
    pub rehearsal: Option<Rehearsal>,
    /// Asked between portions whether to go on; a command without a lease to lose has none.
    pub turn: Option<Turn>,
    /// Told what was written, for the continuous verification.
    pub sampler: Option<Arc<Sampler>>,
}

/// Recruiters as they were read, and what to do with them.
#[derive(Debug, Clone, Copy)]
pub struct Portion<'a> {
    /// All touches of the batch; those of the portion are among them.
    pub touches: &'a BTreeMap<ObjectId, Touch>,
    /// The recruiters.
    pub batches: &'a [RawBatch],
    /// The position of the batch.
    pub place: &'a Place,
}

/// A recruiter with the jobs that its touch asks for.
pub(super) struct Touched<'a> {
    pub(super) recruiter: Recruiter<'a>,
    pub(super) jobs: Vec<(ObjectId, JobFields<'a>)>,
    /// All its jobs were asked for, so removed ones are looked for too.
    pub(super) whole: bool,
}

/// What a portion comes to, before it is written.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) offers: Projected,
    letters: BTreeMap<Address, Letter>,
    /// Jobs that were looked at: a letter that stands about one of them is healed unless it is in
    /// `letters` again.
    pub(super) looked_at: BTreeSet<Address>,
}

impl Stages {
    /// Puts one portion through the stages. Gives back recruiters to touch again: they still hold a
    /// job that a recruiter of this portion lost.
    ///
    /// # Errors
    /// A [`Failure`] that is not about one document.
    pub async fn portion(&mut self, portion: Portion<'_>, lost: &mut Jobs) -> Result<BTreeSet<ObjectId>, Failure> {
        self.check_turn()?;
        let mut outcome = Outcome::default();
        let touched = self.decode(portion, &mut outcome)?;
        let timer = self.metrics.stage_duration.with_label_values(&["fetch"]).start_timer();
        let keys = keys(&touched);
        let jobs = jobs_in_order(&touched);
        let mut rest = jobs.as_slice();
        let whole: Vec<ObjectId> = touched.iter().filter(|it| it.whole).map(|it| it.recruiter.id).collect();
        // The longest one first: they are sent in this order.
        let (standing, answers, links) = futures::try_join!(
            self.offers.read_next(&mut rest),
            self.references.look_up(keys),
            links::read(&self.database, &whole),
        )?;
        timer.observe_duration();
        failpoint::passed("fetched");

        let timer = self.metrics.stage_duration.with_label_values(&["project"]).start_timer();
        for touched in &touched {
            self.project(touched, &answers, &mut outcome);
        }
        let mut changes = self.compare_all(&outcome.offers, standing, rest).await?;
        timer.observe_duration();
        self.keep_what_may_be_written(&mut changes, &mut outcome);
        failpoint::passed("projected");

        let (mut grown, mut shrunk) = moved(&touched, &links);
        // Links shrink at the end of the batch: what an earlier round of it found lost must not be found
        // anew, or two recruiters that each lost a job of the other ask for each other for ever.
        for (recruiter, jobs) in &mut shrunk {
            jobs.retain(|job| lost.get(recruiter).is_none_or(|lost| !lost.contains(job)));
        }
        grown.extend(met_early(&touched, &outcome.offers, &changes));
        let _timer = self.metrics.stage_duration.with_label_values(&["write"]).start_timer();
        self.check_turn()?;
        if self.rehearsal.is_none() {
            crate::write::links::grow(&self.writer, &grown).await?;
        }
        failpoint::passed("linked");
        shrunk.iter().for_each(|(recruiter, jobs)| lost.entry(*recruiter).or_default().extend(jobs));
        let (again, uncancelled) = self.cancel_removed(&touched, &shrunk, lost, portion.place).await?;
        for address in &uncancelled {
            // The link keeps the job, so that the next touch tries again.
            if let (Some(jobs), Some(job)) = (lost.get_mut(&address.recruiter), &address.job) {
                jobs.remove(job);
            }
            outcome.looked_at.remove(address);
        }
        failpoint::passed("cancelled");
        let refused = self.write(&outcome.offers, changes).await?;
        failpoint::passed("written");
        outcome.letters.extend(refused);
        self.write_letters(outcome, portion.place).await?;
        if let Some(sampler) = &self.sampler {
            sampler.touched(touched.iter().map(|touched| touched.recruiter.id));
        }
        Ok(again)
    }

    fn decode<'a>(&self, portion: Portion<'a>, outcome: &mut Outcome) -> Result<Vec<Touched<'a>>, Failure> {
        let mut all = Vec::new();
        for document in documents(portion.batches) {
            let document = document?;
            let Ok(recruiter) = Recruiter::read(document) else {
                // The query found it by an ObjectId, so `_id` is readable even here.
                if let Ok(id) = document.get_object_id("_id") {
                    let letter = Letter { reason: Reason::Undecodable, detail: "not valid BSON".to_owned() };
                    outcome.letters.insert(Address { recruiter: id, job: None }, letter);
                }
                continue;
            };
            if let Some(touch) = portion.touches.get(&recruiter.id) {
                all.push(self.touched(recruiter, touch, outcome));
            }
        }
        Ok(all)
    }

    /// Decodes the jobs that the touch asks for, unless the recruiter is not projected (spec 02).
    fn touched<'a>(&self, recruiter: Recruiter<'a>, touch: &Touch, outcome: &mut Outcome) -> Touched<'a> {
        let exists = |position: &usize| recruiter.jobs.iter().any(|job| job.position == *position);
        let positions = match touch {
            Touch::Positions(positions) if positions.iter().all(exists) => Some(positions),
            _ => None,
        };
        let whole = positions.is_none();
        if whole {
            outcome.looked_at.extend(self.dead_letters.of_recruiter(recruiter.id));
        }
        let asked: Vec<_> = recruiter
            .jobs
            .iter()
            .filter(|job| positions.is_none_or(|positions| positions.contains(&job.position)))
            .collect();
        let mut jobs = Vec::with_capacity(asked.len());
        let has_address = value::non_empty(recruiter.fields.address).is_some();
        for job in &asked {
            let address = Address { recruiter: recruiter.id, job: job.id };
            match (job.id, job.fields()) {
                _ if !has_address => self.metrics.jobs_skipped.with_label_values(&["no_address"]).inc(),
                (Some(id), Ok(fields)) => jobs.push((id, fields)),
                (None, Ok(_)) => {
                    let detail = format!("jobs.{}._id is no ObjectId", job.position);
                    outcome.letters.insert(address, Letter { reason: Reason::InvalidJobId, detail });
                }
                (_, Err(_)) => {
                    let detail = format!("jobs.{} is not valid BSON", job.position);
                    outcome.letters.insert(address, Letter { reason: Reason::Undecodable, detail });
                }
            }
            outcome.looked_at.insert(address);
        }
        if recruiter.jobs.is_empty() {
            self.metrics.jobs_skipped.with_label_values(&["no_jobs"]).inc();
        }
        Touched { recruiter, jobs, whole }
    }

    fn project(&self, touched: &Touched<'_>, answers: &Answers, outcome: &mut Outcome) {
        let recruiter = &touched.recruiter;
        for (id, job) in &touched.jobs {
            let references = answers.of(&recruiter.fields, job);
            match project(&recruiter.fields, *id, job, &references, &self.settings) {
                Ok(offer) => {
                    self.metrics.jobs_projected.inc();
                    outcome.offers.insert(*id, (recruiter.id, offer));
                }
                Err(reason) => {
                    let address = Address { recruiter: recruiter.id, job: Some(*id) };
                    outcome.letters.insert(address, Letter { reason, detail: String::new() });
                }
            }
        }
    }

    /// Writes what differs; gives back letters for what the server refused.
    async fn write(
        &mut self,
        offers: &Projected,
        changes: Vec<(ObjectId, Change)>,
    ) -> Result<BTreeMap<Address, Letter>, Failure> {
        if self.rehearsal.is_some() {
            self.rehearse_changes(offers, &changes).await?;
            return Ok(BTreeMap::new());
        }
        let unchanged = changes.iter().filter(|(_, change)| *change == Change::Nothing).count() as u64;
        let unless_newer = self.phase.stream() == StreamWrites::UnlessNewer;
        let statement = |(id, change): &(ObjectId, Change)| {
            offers.get(id).and_then(|(_, offer)| statements::of_change(offer, change, unless_newer))
        };
        let (creations, mut changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(_, change)| *change == Change::Create);
        let mut created = 0;
        match creations.len() < WORTH_IT {
            true => changes.extend(creations),
            false => {
                let offer = |(id, _): &(ObjectId, Change)| offers.get(id).map(|(_, offer)| statements::created(offer));
                let creations = creations.iter().filter_map(offer).collect();
                let done = create(&self.writer, OFFERS, creations).await?;
                created = done.created;
                changes.extend(done.unsure.into_iter().map(|id| (id, Change::Create)));
            }
        }
        let statements: Vec<Statement> = changes.iter().filter_map(statement).collect();
        drop(changes);
        let mut outcome = command::update(&self.writer, OFFERS, statements).await?;
        outcome.created += created;
        if unless_newer {
            self.metrics.conflicts.with_label_values(&["projection"]).inc_by(outcome.changed);
            // Became newer between the comparison and the write.
            self.metrics.conflicts.with_label_values(&["offer"]).inc_by(outcome.unmatched);
        }
        let written = &self.metrics.offers_written;
        written.with_label_values(&["created"]).inc_by(outcome.created);
        written.with_label_values(&["changed"]).inc_by(outcome.changed);
        written.with_label_values(&["unchanged"]).inc_by(unchanged);
        self.tally.created += outcome.created;
        self.tally.changed += outcome.changed;
        self.tally.unchanged += unchanged;
        let recruiter_of = |offer: ObjectId| offers.get(&offer).map(|(recruiter, _)| *recruiter);
        Ok(self.refused(&outcome.refused, recruiter_of))
    }

    /// Letters for statements that the server refused.
    pub(super) fn refused(
        &self,
        refused: &[Refused],
        recruiter_of: impl Fn(ObjectId) -> Option<ObjectId>,
    ) -> BTreeMap<Address, Letter> {
        let letter = |refused: &Refused| {
            self.metrics.write_errors.with_label_values(&[&refused.code.to_string()]).inc();
            let job = refused.statement.id?;
            let detail = format!("the server refused the offer with code {}", refused.code);
            Some((Address { recruiter: recruiter_of(job)?, job: Some(job) }, Letter { reason: refused.reason, detail }))
        };
        refused.iter().filter_map(letter).collect()
    }

    /// Cancels the offers of jobs that are in no recruiter any more; gives back the recruiters that
    /// still hold one of `removed`, and the jobs whose cancellation was refused.
    async fn cancel_removed(
        &mut self,
        touched: &[Touched<'_>],
        removed: &Jobs,
        lost: &Jobs,
        place: &Place,
    ) -> Result<(BTreeSet<ObjectId>, BTreeSet<Address>), Failure> {
        let jobs: BTreeSet<ObjectId> = removed.values().flatten().copied().collect();
        let mut holders = links::holders(&self.database, &jobs).await?;
        for (job, holders) in &mut holders {
            // Those that lost it in this batch hold it no more, whatever their links still say.
            holders.retain(|holder| lost.get(holder).is_none_or(|lost| !lost.contains(job)));
        }
        holders.retain(|_, holders| !holders.is_empty());
        let mut gone = Vec::new();
        for touched in touched {
            let recruiter = touched.recruiter.id;
            // From the document, so that a replay gives the same date.
            let date = value::later_date(touched.recruiter.fields.updated_at, None).unwrap_or(place.wall_time);
            let lost = removed.get(&recruiter).into_iter().flatten().filter(|job| !holders.contains_key(job));
            gone.extend(lost.map(|job| GoneJob { recruiter, job: *job, date }));
        }
        // A recruiter that was anonymised and is there again without the job: the job's offer is still
        // that of the person who was anonymised.
        let copies = match gone.is_empty() {
            true => BTreeMap::new(),
            false => anonymized_jobs(&self.database, &removed.keys().copied().collect::<Vec<_>>()).await?,
        };
        let is_copied = |gone: &GoneJob| copies.get(&gone.recruiter).is_some_and(|jobs| jobs.contains(&gone.job));
        let (copied, gone): (Vec<GoneJob>, Vec<GoneJob>) = gone.into_iter().partition(is_copied);
        let mut refused = self.anonymize(&copied, place).await?;
        refused.extend(self.cancel(&gone, place).await?);
        Ok((holders.into_values().flatten().collect(), refused))
    }

    fn check_turn(&mut self) -> Result<(), Failure> {
        let phase = self.phase;
        self.turn.as_mut().map_or(Ok(()), |turn| turn.check(phase))
    }

    /// Brings the number of dead letters to the metrics.
    pub fn count_dead_letters(&self) {
        for (reason, count) in self.dead_letters.counts() {
            let gauge = self.metrics.dead_letters.with_label_values(&[reason.as_str()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    async fn write_letters(&mut self, outcome: Outcome, place: &Place) -> Result<(), Failure> {
        let Outcome { letters, looked_at, .. } = outcome;
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.add_letters(letters);
            return Ok(());
        }
        let stands = |address: &Address| self.dead_letters.contains(address) && !letters.contains_key(address);
        let healed = looked_at.into_iter().filter(stands).collect();
        self.dead_letters.remove(&healed).await?;
        self.dead_letters.write(letters, place).await
    }
}

/// Each job once, though two recruiters may hold it.
fn jobs_in_order(touched: &[Touched<'_>]) -> Vec<ObjectId> {
    let jobs: BTreeSet<ObjectId> = touched.iter().flat_map(|it| it.jobs.iter().map(|(id, _)| *id)).collect();
    jobs.into_iter().collect()
}

fn keys(touched: &[Touched<'_>]) -> Keys {
    let mut keys = Keys::default();
    for touched in touched.iter().filter(|touched| !touched.jobs.is_empty()) {
        keys.add_recruiter(&touched.recruiter.fields);
        touched.jobs.iter().for_each(|(_, job)| keys.add_job(job));
    }
    keys
}
