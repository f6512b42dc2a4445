//! Carries out a plan in this order: anonymised recruiters, touches, offers of users, deleted recruiters.
//! The plan is done when every write is acknowledged by a majority or has a dead letter. Until then the whole batch may
//! be applied again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::{DateTime, Timestamp, doc};

use super::affected_recruiters::{self, whole};
use super::removal::RemovedJob;
use super::stages::{REMOVALS_AT_A_TIME, Stages};
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::links::Link;
use crate::fetch::references::{anonymized_users, deactivated_users};
use crate::fetch::{IDS_PER_READ, links};
use crate::interruption::Unfinished;
use crate::model::dead_letter::Action;
use crate::model::ids::{JobId, RecruiterId, UserId};
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};
use crate::observe::facts::TouchOrigin;
use crate::phase::Phase;
use crate::plan::covered::CoveredTouches;
use crate::plan::{Plan, Touch};
use crate::source::event::Event;
use crate::write::dead_letters::{Address, EventPosition};
use crate::write::links::Jobs;
use crate::write::statements::Statement;

/// The executor of plans, with the state that it keeps between batches.
#[derive(Debug)]
pub(crate) struct Apply {
    pub(super) recruiters: ChunkReader,
    /// Reads existing offers for the next chunk.
    pub(super) offers: ChunkReader,
    /// The stages through which each chunk goes.
    pub stages: Stages,
    /// The touches that later events of the stream need not repeat.
    covered: CoveredTouches,
}

impl Apply {
    /// Makes an executor that reads recruiters from the database of `stages`.
    #[must_use]
    pub(crate) fn new(stages: Stages) -> Self {
        let database = &stages.database;
        let (recruiters, offers) = (ChunkReader::of_recruiters(database), ChunkReader::of_offers(database));
        Self { recruiters, offers, stages, covered: CoveredTouches::default() }
    }

    /// Goes on in another phase.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.stages.phase = phase;
        self.covered.forget();
    }

    /// Plans one batch of the stream, without the touches that earlier batches have covered.
    #[must_use]
    pub(crate) fn plan_batch(&mut self, events: &[Event]) -> Plan {
        self.covered.plan(events, self.stages.database.continuity())
    }

    /// Carries out one plan. Returns the number of touched recruiters.
    ///
    /// # Errors
    /// [`Unfinished`]: an interruption, or a failure that is not about one document. The plan is then applied in part
    /// or not at all.
    pub(crate) async fn plan(&mut self, plan: &Plan, position: &EventPosition) -> Result<usize, Unfinished> {
        if !self.stages.output.is_dry_run() {
            self.note_unusable(plan, position).await?;
        }
        self.forget_references(plan);
        // Every read of this plan shows at least this time.
        let (shown, continuity) = (self.stages.database.floor(), self.stages.database.continuity());
        for chunk in chunks_of(&plan.anonymized_recruiters) {
            self.anonymize(&chunk, position).await?;
        }
        let cancels = self.stages.settings.cancels_deactivated;
        let mut concerned = affected_recruiters::recruiters(&self.stages.database, plan, cancels).await?;
        if !self.stages.mirrors() {
            let owners = links::owners(&self.stages.database, &plan.changed_offers).await?;
            concerned.extend(owners.into_values().flatten());
        }
        let touches_only = plan.touches_only();
        if !touches_only {
            self.covered.forget();
        }
        let touched = if concerned.is_empty() {
            let independent = self.touch(&plan.touches, position).await?;
            match shown.filter(|_| touches_only) {
                Some(shown) if independent => self.note_covered(&plan.touches, shown, continuity),
                _ => self.covered.forget(),
            }
            plan.touches.len()
        } else {
            self.stages.metrics.touched(TouchOrigin::Reference, concerned.len() as u64);
            let mut touches = plan.touches.clone();
            touches.extend(concerned.into_iter().map(|recruiter| (recruiter, Touch::All)));
            self.touch(&touches, position).await?;
            touches.len()
        };
        self.deactivate_users(&plan.users_with_new_status, position).await?;
        self.anonymize_users(&plan.anonymized_users, position).await?;
        for chunk in chunks_of(&plan.deleted_recruiters) {
            self.delete(&chunk, position).await?;
        }
        // Last, because an offer that is anonymised or cancelled by now must not come back to a recruiter.
        Box::pin(self.stages.mirror(&plan.changed_offers, &plan.deleted_offers, position)).await?;
        self.stages.count_dead_letters();
        Ok(touched)
    }

    /// Notes the touches whose repetition would find nothing to do. A recruiter with a dead letter is tried again at each
    /// event.
    fn note_covered(&mut self, touches: &BTreeMap<RecruiterId, Touch>, shown: Timestamp, continuity: u64) {
        if !self.stages.phase.writes_offers() || self.stages.output.is_dry_run() {
            return;
        }
        let dead_letters = &self.stages.dead_letters;
        let is_settled = |id: &RecruiterId| dead_letters.of_recruiter(*id).next().is_none();
        self.covered.settled(touches.iter().filter(|(id, _)| is_settled(id)), shown, continuity);
    }

    /// Writes dead letters for documents whose `_id` is no ObjectId, and removes those of deleted documents.
    async fn note_unusable(&mut self, plan: &Plan, position: &EventPosition) -> Result<(), Unfinished> {
        for (collection, key) in &plan.unusable_keys {
            self.stages.dead_letters.write_unusable(*collection, [key.clone()], position).await?;
        }
        for (collection, key) in &plan.vanished_keys {
            self.stages.dead_letters.remove_unusable(*collection, key).await?;
        }
        Ok(())
    }

    fn forget_references(&mut self, plan: &Plan) {
        let references = &mut self.stages.references;
        let users = plan.changed_users.iter().chain(&plan.users_with_new_status).chain(&plan.anonymized_users);
        for user in users {
            references.forget_user(user);
        }
        let changed = plan.changed_references.iter().map(|(collection, _)| collection);
        let replaced = plan.dropped_sources.iter().chain(&plan.replaced_sources);
        for collection in changed.chain(&plan.shrunk_references).chain(replaced) {
            references.forget(*collection);
        }
    }

    /// Anonymises the offers of recruiters that are in `anonymized_recruiters`. Their jobs are in the copy or the link.
    /// A job that another recruiter holds is left out, unless its offer still shows the anonymised recruiter.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(crate) async fn anonymize(&mut self, recruiters: &Dated, position: &EventPosition) -> Result<(), Unfinished> {
        let database = self.stages.database.clone();
        let ids: Vec<RecruiterId> = recruiters.keys().copied().collect();
        let mut jobs = affected_recruiters::anonymized_jobs(&database, &ids).await?;
        // The link's jobs count even if the copy is gone by now.
        for (recruiter, link) in links::read(&database, &ids).await? {
            jobs.entry(recruiter).or_default().extend(link.all());
        }
        let all: BTreeSet<JobId> = jobs.values().flatten().copied().collect();
        // Another recruiter may hold such a job. A touch makes the offer show that recruiter, if it can be projected.
        let others = holders_besides(&database, &all, &ids).await?;
        self.touch(&whole(others.into_values().flatten()), position).await?;
        let owners = links::owners(&database, &all).await?;
        let shown = affected_recruiters::shown(&database, &self.stages.settings.partner_label, &ids).await?;
        let mut removals = Vec::new();
        for (recruiter, date) in recruiters {
            let held_by_another =
                |job: &JobId| owners.get(job).is_some_and(|owners| owners.iter().any(|id| id != recruiter));
            let jobs = jobs.get(recruiter).into_iter().flatten().filter(|job| !held_by_another(job));
            let jobs: BTreeSet<JobId> = jobs.chain(shown.get(recruiter).into_iter().flatten()).copied().collect();
            let (recruiter, removed_by) = (Some(*recruiter), *date);
            removals.extend(jobs.into_iter().map(|job| RemovedJob { recruiter, job, date: *date, removed_by }));
        }
        for removals in removals.chunks(REMOVALS_AT_A_TIME) {
            self.stages.anonymize(removals, position).await?;
        }
        Ok(())
    }

    /// Counts the deactivated users, and cancels their offers if the configuration says so. The touches before have
    /// cancelled most of these offers. The rest are offers whose job cannot be projected or whose recruiter is gone.
    ///
    /// # Errors
    /// As [`Self::plan`].
    async fn deactivate_users(&mut self, users: &BTreeSet<UserId>, position: &EventPosition) -> Result<(), Unfinished> {
        let deactivated = deactivated_users(&self.stages.database, users.clone()).await?;
        if self.stages.settings.cancels_deactivated {
            let label = &self.stages.settings.partner_label;
            let offers = affected_recruiters::offers(&self.stages.database, label, &deactivated).await?;
            for offers in offers.chunks(REMOVALS_AT_A_TIME) {
                self.stages.cancel_deactivated(offers.to_vec(), position).await?;
            }
        }
        self.stages.metrics.users_deactivated.inc_by(deactivated.len() as u64);
        Ok(())
    }

    /// Removes the contact of deleted or anonymised users from their offers, and touches the recruiters of anonymised
    /// users.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(crate) async fn anonymize_users(
        &mut self,
        users: &BTreeSet<UserId>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let database = self.stages.database.clone();
        let label = &self.stages.settings.partner_label;
        let mut offers = affected_recruiters::offers(&database, label, users).await?;
        let omits_users = self.stages.target.schema().omits("managed_by");
        if omits_users || !self.stages.phase.writes_offers() {
            offers.extend(affected_recruiters::unnamed_offers(&database, label, users).await?);
        }
        for offers in offers.chunks(REMOVALS_AT_A_TIME) {
            self.anonymize_managed(offers.to_vec(), position).await?;
        }
        self.anonymize_others(users, position).await?;
        // From now on the projection hides the contact of anonymised users, so their recruiters are projected again.
        let anonymized = anonymized_users(&database, users.clone()).await?;
        let recruiters = affected_recruiters::recruiters_of_users(&database, &anonymized).await?;
        self.touch(&whole(recruiters), position).await.map(drop)
    }

    /// Removes the contact of these users from offers whose `_id` is no ObjectId. Refusals are only counted: such an
    /// offer has a dead letter about its `_id`.
    async fn anonymize_others(&mut self, users: &BTreeSet<UserId>, position: &EventPosition) -> Result<(), Unfinished> {
        let stages = &mut self.stages;
        let users: Vec<UserId> = users.iter().copied().collect();
        let user = stages.anonymized_user(position.wall_time);
        let statements = users.chunks(IDS_PER_READ).map(|users| user.offers_of_other_ids(users)).collect();
        let outcome = stages.update_offers(statements).await?;
        stages.metrics.offers_anonymized.inc_by(outcome.changed);
        stages.write_counts.changed += outcome.changed;
        stages.refused(&outcome.refused);
        Ok(())
    }

    /// Removes the contact of the user from these offers, whose users are deleted or anonymised, and cancels them.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(crate) async fn anonymize_managed(
        &mut self,
        offers: Vec<JobId>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let stages = &mut self.stages;
        let user = stages.anonymized_user(position.wall_time);
        let statements: Vec<Statement> = offers.iter().map(|offer| user.offer(*offer)).collect();
        let outcome = stages.update_offers(statements).await?;
        stages.metrics.offers_anonymized.inc_by(outcome.changed);
        stages.write_counts.changed += outcome.changed;
        let removals: Vec<RemovedJob> =
            offers.into_iter().map(|offer| RemovedJob::offer(offer, position.wall_time)).collect();
        stages.write_refused(&outcome.refused, &removals, Action::AnonymizeUser, position).await.map(drop)
    }

    /// Handles deleted recruiters (spec 02, "Jobs that disappear"; spec 03). The offers of an anonymised recruiter are
    /// anonymised, and all others are cancelled. Offers of jobs that another recruiter holds stay.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(crate) async fn delete(&mut self, deleted: &Dated, position: &EventPosition) -> Result<(), Unfinished> {
        let database = self.stages.database.clone();
        let ids: Vec<RecruiterId> = deleted.keys().copied().collect();
        let present = self.present(&ids).await?;
        let absent: Vec<RecruiterId> = ids.into_iter().filter(|id| !present.contains(id)).collect();
        let links = links::read(&database, &absent).await?;
        let anonymized = self.to_anonymize(&absent).await?;
        let copied = anonymized.values().flatten().copied();
        let jobs: BTreeSet<JobId> = links.values().flat_map(Link::all).chain(copied).collect();
        // Offers of shared jobs may still show the deleted recruiter, so the other recruiters are touched. The touch
        // also updates their links. The second read then finds the jobs that another recruiter really holds.
        let owners = holders_besides(&database, &jobs, &absent).await?;
        self.touch(&whole(owners.into_values().flatten()), position).await?;
        let owners = holders_besides(&database, &jobs, &absent).await?;
        let shown = affected_recruiters::shown(&database, &self.stages.settings.partner_label, &absent).await?;

        let (mut to_anonymize, mut to_cancel, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for (recruiter, date) in deleted.iter().filter(|(recruiter, _)| absent.contains(recruiter)) {
            let copy = anonymized.get(recruiter);
            let jobs = links.get(recruiter).into_iter().flat_map(Link::all).chain(copy.into_iter().flatten().copied());
            let (held, gone): (BTreeSet<JobId>, BTreeSet<JobId>) = jobs.partition(|job| owners.contains_key(job));
            let jobs = &gone | shown.get(recruiter).unwrap_or(&BTreeSet::new());
            let removed = |job| RemovedJob { recruiter: Some(*recruiter), job, date: *date, removed_by: *date };
            match copy {
                Some(_) => to_anonymize.extend(jobs.into_iter().map(removed)),
                None => {
                    to_cancel.extend(jobs.into_iter().map(removed));
                    moved.extend(held.into_iter().map(removed));
                }
            }
        }
        to_cancel.extend(self.stages.left_behind(&moved).await?);
        let mut refused = BTreeSet::new();
        for removals in to_anonymize.chunks(REMOVALS_AT_A_TIME) {
            refused.extend(self.stages.anonymize(removals, position).await?);
        }
        for removals in to_cancel.chunks(REMOVALS_AT_A_TIME) {
            refused.extend(self.stages.cancel(removals, position).await?);
        }
        let dead_letters = absent.iter().flat_map(|id| self.stages.dead_letters.of_recruiter(*id));
        let dead_letters = dead_letters.filter(|dead_letter| !refused.contains(dead_letter)).collect();
        // A link stays as long as the server refuses to change one of its offers, so that a resync finds the offer.
        let refused: BTreeSet<RecruiterId> = refused.iter().filter_map(Address::recruiter).collect();
        let mut settled: Vec<RecruiterId> = absent.into_iter().filter(|id| !refused.contains(id)).collect();
        let mut uncancelled = Jobs::new();
        if !self.stages.phase.writes_offers() {
            // A link also stays in a phase that cancels nothing. A later phase cancels the offers.
            let not_copied = links.iter().filter(|(id, _)| !anonymized.contains_key(id));
            uncancelled.extend(not_copied.map(|(id, link)| (*id, link.all().collect())));
            settled.retain(|id| !uncancelled.contains_key(id));
        }
        self.stages.output.delete_links(&settled).await?;
        self.stages.dead_letters.remove(&dead_letters).await?;
        self.set_aside(&uncancelled, position).await?;
        self.stages.to_mirror.extend(uncancelled.into_values().flatten());
        self.mirror_differences(position).await
    }

    /// Finds the jobs to anonymise with these recruiters: those of their copies, and those whose anonymisation failed
    /// before. The latter count even if the copy is gone.
    async fn to_anonymize(&self, absent: &[RecruiterId]) -> Result<BTreeMap<RecruiterId, BTreeSet<JobId>>, Failure> {
        let mut anonymized = affected_recruiters::anonymized_jobs(&self.stages.database, absent).await?;
        for recruiter in absent {
            let jobs = self.stages.dead_letters.to_anonymize(*recruiter);
            if !jobs.is_empty() {
                anonymized.entry(*recruiter).or_default().extend(jobs);
            }
        }
        Ok(anonymized)
    }

    /// Sets jobs aside in their links. This phase cancels no offers, so a later phase must do it.
    pub(super) async fn set_aside(&mut self, jobs: &Jobs, position: &EventPosition) -> Result<(), Unfinished> {
        let refused = self.stages.output.set_aside_in_links(jobs).await?;
        let dead_letters = self.stages.unlinked(&refused);
        self.stages.dead_letters.write(dead_letters, position).await
    }

    /// Returns the ids that are in `recruiters` now. A deleted recruiter among them was inserted again.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn present(&self, ids: &[RecruiterId]) -> Result<BTreeSet<RecruiterId>, Failure> {
        let filter = doc! { "_id": { "$in": ids } };
        let batches =
            find(&self.stages.database, WatchedCollection::Recruiters.name(), filter, doc! { "_id": 1 }).await?;
        documents(&batches)
            .map(|document| Ok(document?.get_object_id("_id").ok().map(RecruiterId)))
            .filter_map(Result::transpose)
            .collect()
    }
}

/// Ids of recruiters, each with the time of its event.
pub(crate) type Dated = BTreeMap<RecruiterId, DateTime>;

/// Returns the recruiters, other than the `absent` ones, that hold these jobs by their links. Jobs without such a
/// recruiter are left out.
async fn holders_besides(
    database: &CausalDatabase,
    jobs: &BTreeSet<JobId>,
    absent: &[RecruiterId],
) -> Result<HashMap<JobId, BTreeSet<RecruiterId>>, Failure> {
    let mut owners = links::owners(database, jobs).await?;
    owners.values_mut().for_each(|owners| owners.retain(|owner| !absent.contains(owner)));
    owners.retain(|_, owners| !owners.is_empty());
    Ok(owners)
}

fn chunks_of(all: &Dated) -> Vec<Dated> {
    let all: Vec<(RecruiterId, DateTime)> = all.iter().map(|(id, date)| (*id, *date)).collect();
    all.chunks(IDS_PER_READ).map(|chunk| chunk.iter().copied().collect()).collect()
}
