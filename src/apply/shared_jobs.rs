//! Handles shared jobs: jobs with the same `_id` in several recruiters. The job owner ([`JobOwner`]) has the offer,
//! whichever recruiter was touched last. Each other recruiter has a dead letter as long as the job is shared.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::raw::cstr;
use bson::{RawBsonRef, doc};

use super::job_chunk::JobChunk;
use super::stages::{Findings, Stages, TouchedRecruiter};
use crate::error::Failure;
use crate::fetch::{IDS_PER_READ, links};
use crate::model::dead_letter::Reason;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::job_owner::JobOwner;
use crate::model::names::WatchedCollection;
use crate::model::value;
use crate::mongo::reads::{documents, find};
use crate::project::diff::OfferChange;
use crate::write::dead_letters::{Address, DeadLetter, EventPosition};
use crate::write::links::Jobs;

/// The progress of the links in one chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkProgress<'a> {
    /// The jobs that were added to links.
    pub(super) grown: &'a BTreeSet<JobId>,
    /// The jobs that recruiters of this batch lost.
    pub(super) lost: &'a Jobs,
    /// True if the links of all recruiters could grow.
    pub(super) all_linked: bool,
}

impl Stages {
    /// Removes offers from `chunk` and `changes` whose job owner is another recruiter, and adds dead letters.
    /// Only jobs that may be shared are checked: `grown` jobs, jobs with such a dead letter, jobs whose offer shows another
    /// establishment, all jobs of a batch that may be repeated, and those of a scan whose offer is not as projected. An
    /// offer that is as projected is the job owner's: it shows the recruiter's own establishment.
    /// Links must have grown before. Returns recruiters to touch again: they have become the owner of a job, or are only now
    /// found to share it.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn settle_shared(
        &self,
        touched: &[TouchedRecruiter<'_>],
        position: &EventPosition,
        LinkProgress { grown, lost, all_linked }: LinkProgress<'_>,
        chunk: &mut JobChunk<'_, '_>,
        changes: &mut Vec<(JobId, OfferChange)>,
    ) -> Result<BTreeSet<RecruiterId>, Failure> {
        let mut asked = self.may_be_shared(chunk, position, grown);
        asked.extend(taken_over(changes));
        if asked.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut held = self.owned_by_touched(touched, &asked, &chunk.told);
        // In a scan all links have grown, so counting recruiters is enough: equal numbers mean that no other recruiter
        // has the jobs. This is nearly always so, and a count costs less than a read.
        let is_asked = |it: &&TouchedRecruiter<'_>| it.recruiter.job_ids().any(|job| asked.contains(&job));
        let own = touched.iter().filter(is_asked).count() as u64;
        let is_counted = position.is_scan() && !self.output.is_dry_run() && all_linked;
        let linked = if is_counted && links::count_owners(&self.database, &asked).await? == own {
            HashMap::new()
        } else {
            links::owners(&self.database, &asked).await?
        };
        let lost_it = |job: &JobId, owner: &RecruiterId| lost.get(owner).is_some_and(|lost| lost.contains(job));
        let here: BTreeSet<RecruiterId> = touched.iter().map(|touched| touched.recruiter.id).collect();
        let others: BTreeMap<JobId, BTreeSet<RecruiterId>> = linked
            .into_iter()
            .map(|(job, mut owners)| {
                owners.retain(|owner| !here.contains(owner) && !lost_it(&job, owner));
                (job, owners)
            })
            .filter(|(_, owners)| !owners.is_empty())
            .collect();
        for (job, owner) in self.owners_now(&others).await? {
            held.entry(job).or_default().insert(owner);
        }
        let (mut again, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for (job, owners) in held {
            let Some(winner) = owners.last().map(JobOwner::recruiter) else { continue };
            if chunk.offers.get(&job).is_some_and(|(recruiter, _)| *recruiter != winner) {
                chunk.offers.remove(&job);
                taken.insert(job);
            }
            again.extend(self.tell_sharing(job, &owners, winner, &mut chunk.told));
        }
        changes.retain(|(id, _)| !taken.contains(id));
        Ok(again)
    }

    /// Adds the dead letters of a shared job. Returns `winner`, the owner of the job, if it must be projected: another
    /// recruiter may have had the offer until now, or cannot be projected any more.
    fn tell_sharing(
        &self,
        job: JobId,
        owners: &BTreeSet<JobOwner>,
        winner: RecruiterId,
        told: &mut Findings,
    ) -> Option<RecruiterId> {
        let is_told = |owner: RecruiterId| {
            let known = self.dead_letters.get(&Address::of(owner, Some(job)));
            known.is_some_and(|known| known.reason == Reason::DuplicateJobId)
        };
        let mut is_new = false;
        for loser in owners.iter().map(JobOwner::recruiter).filter(|owner| *owner != winner) {
            let address = Address::of(loser, Some(job));
            // A touch by position is projected before the link of its recruiter knows the job. So until the recruiter is
            // told, its touch may have taken the offer from the winner.
            is_new |= !is_told(loser);
            if told.looked_at.contains(&address) || !is_told(loser) {
                let detail = format!("recruiters/{winner} has a job with this _id");
                told.dead_letters.insert(address, DeadLetter::of_projection(Reason::DuplicateJobId, detail));
            }
        }
        let is_looked_at = told.looked_at.contains(&Address::of(winner, Some(job)));
        ((is_told(winner) || is_new) && !is_looked_at).then_some(winner)
    }

    /// Returns the jobs of the job chunk that another recruiter may hold too.
    fn may_be_shared(
        &self,
        chunk: &JobChunk<'_, '_>,
        position: &EventPosition,
        grown: &BTreeSet<JobId>,
    ) -> BTreeSet<JobId> {
        let is_repeated = self.repeated_events > 0;
        let differs = |job: &JobId| position.is_scan() && !chunk.as_projected.contains(job);
        let (mut asked, mut met) = (BTreeSet::new(), BTreeSet::new());
        for address in &chunk.told.looked_at {
            if let Address::Job { job, .. } = address
                && (is_repeated
                    || differs(job)
                    || grown.contains(job)
                    || self.dead_letters.is_shared(*job)
                    || !met.insert(*job))
            {
                asked.insert(*job);
            }
        }
        asked
    }

    /// Reads which of these recruiters hold their job now and can be projected. The links alone do not tell: they may not
    /// have shrunk yet.
    pub(super) async fn owners_now(
        &self,
        asked: &BTreeMap<JobId, BTreeSet<RecruiterId>>,
    ) -> Result<Vec<(JobId, JobOwner)>, Failure> {
        let ids: BTreeSet<RecruiterId> = asked.values().flatten().copied().collect();
        let ids: Vec<RecruiterId> = ids.into_iter().collect();
        let mut found = Vec::new();
        for ids in ids.chunks(IDS_PER_READ) {
            let filter = doc! { "_id": { "$in": ids } };
            let batches =
                find(&self.database, WatchedCollection::Recruiters.name(), filter, JobOwner::wanted()).await?;
            for document in documents(&batches) {
                let document = document?;
                let Some(owner) = JobOwner::of(document) else { continue };
                let competes = |job: &JobId| {
                    asked.get(job).is_some_and(|owners| owners.contains(&owner.recruiter()))
                        && !self.dead_letters.is_unprojected(owner.recruiter(), *job)
                };
                let jobs = value::list(value::field(document, "jobs")).into_iter().flatten().flatten();
                let jobs =
                    jobs.filter_map(RawBsonRef::as_document).filter_map(|job| job.get_object_id("_id").ok().map(JobId));
                found.extend(jobs.filter(competes).map(|job| (job, owner)));
            }
        }
        Ok(found)
    }

    /// Returns the candidates for these jobs among the touched recruiters.
    fn owned_by_touched(
        &self,
        touched: &[TouchedRecruiter<'_>],
        asked: &BTreeSet<JobId>,
        told: &Findings,
    ) -> BTreeMap<JobId, BTreeSet<JobOwner>> {
        let mut held: BTreeMap<JobId, BTreeSet<JobOwner>> = BTreeMap::new();
        let has_address = |it: &&TouchedRecruiter<'_>| value::non_empty(it.recruiter.fields.address).is_some();
        for touched in touched.iter().filter(has_address) {
            let owner = touched.owner();
            let is_projected = |job: &JobId| {
                let address = Address::of(owner.recruiter(), Some(*job));
                if told.looked_at.contains(&address) {
                    told.dead_letters.get(&address).is_none_or(|told| !told.reason.is_of_no_projection())
                } else {
                    !self.dead_letters.is_unprojected(owner.recruiter(), *job)
                }
            };
            for job in touched.recruiter.job_ids().filter(|job| asked.contains(job)).filter(is_projected) {
                held.entry(job).or_default().insert(owner);
            }
        }
        held
    }
}

/// Returns the jobs whose existing offer shows another establishment. Another recruiter may have projected it.
fn taken_over(changes: &[(JobId, OfferChange)]) -> impl Iterator<Item = JobId> + '_ {
    // The schema of the target may omit one of the two.
    let tells = [cstr!("establishment_id"), cstr!("workplace_siret")];
    let is_other = move |change: &OfferChange| match change {
        OfferChange::Update { fields, .. } => {
            tells.iter().any(|name| fields.get(*name).is_ok_and(|value| value.is_some()))
        }
        OfferChange::Create | OfferChange::OtherLabel | OfferChange::Nothing => false,
    };
    changes.iter().filter(move |(_, change)| is_other(change)).map(|(id, _)| *id)
}
