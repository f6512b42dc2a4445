//! Carries out touches of the mirror: reads our offers, finds the recruiters that hold their jobs, and mirrors them.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::raw_batch_cursor::RawBatch;

use super::existing_jobs::Touched;
use crate::apply::stages::{Findings, Stages};
use crate::error::Failure;
use crate::failpoint;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::links;
use crate::interruption::Unfinished;
use crate::model::dead_letter::{Action, Reason};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::job_owner::JobOwner;
use crate::mongo::reads::documents;
use crate::observe::facts::MirrorWrite;
use crate::write::dead_letters::{Address, EventPosition};
use crate::write::links::Jobs;

/// The greatest number of offers whose holders are in memory: those of one batch of the stream.
const AT_A_TIME: usize = 5_000;
/// The greatest number of deleted offers handled at once.
const DELETIONS: usize = 500;

/// The recruiter that holds each job. Jobs without one are left out.
type Holders = BTreeMap<JobId, RecruiterId>;

/// Reads our offers so that those of one recruiter come together: a recruiter is then read and written once for all of them.
struct ByHolder {
    reader: ChunkReader,
    /// The offers that are not read yet, by holder. The last one is read next.
    rest: Vec<JobId>,
    /// What is left of a chunk whose reply was cut. The ids are sorted.
    chunk: Vec<JobId>,
}

impl ByHolder {
    fn new(reader: ChunkReader, ids: &BTreeSet<JobId>, holders: &Holders) -> Self {
        let mut rest: Vec<JobId> = ids.iter().copied().collect();
        rest.sort_by_key(|id| (holders.get(id), *id));
        Self { reader, rest, chunk: Vec::new() }
    }

    /// Reads the next chunk; `None` when all offers are read.
    async fn read_next(&mut self) -> Result<Option<Vec<RawBatch>>, Failure> {
        if self.chunk.is_empty() {
            let left = self.rest.len().saturating_sub(self.reader.next_size());
            self.chunk = self.rest.split_off(left);
            self.chunk.sort_unstable();
        }
        let mut rest = self.chunk.as_slice();
        let batches = self.reader.read_next(&mut rest).await?;
        self.chunk.drain(..self.chunk.len() - rest.len());
        Ok(batches)
    }
}

impl Stages {
    /// True where touches of the mirror are carried out.
    #[must_use]
    pub(crate) fn mirrors(&self) -> bool {
        self.phase.mirrors(self.keeps_backup) && self.output.mirrors()
    }

    /// Counts writes of the mirror.
    pub(super) fn count_mirrored(&mut self, write: MirrorWrite, recruiters: u64) {
        self.metrics.mirrored(write, recruiters);
        let counts = &mut self.mirror_counts;
        match write {
            MirrorWrite::Edited => counts.edited += recruiters,
            MirrorWrite::JobAdded => counts.jobs_added += recruiters,
            MirrorWrite::RecruiterMade => counts.made += recruiters,
        }
    }

    /// Mirrors the offers among `ids` that are ours. The others are foreign or gone. `deleted` are offers whose deletion
    /// was seen: if such an offer is still gone, its job is cancelled.
    ///
    /// # Errors
    /// [`Unfinished`]: an interruption, or a failure that is not about one document.
    pub(crate) async fn mirror(
        &mut self,
        ids: &BTreeSet<JobId>,
        deleted: &BTreeSet<JobId>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        if !self.mirrors() {
            return Ok(());
        }
        self.settings.schema = self.target.schema();
        let ids: Vec<JobId> = ids.union(deleted).copied().collect();
        for ids in ids.chunks(AT_A_TIME) {
            self.mirror_some(ids.iter().copied().collect(), deleted, position).await?;
        }
        Ok(())
    }

    async fn mirror_some(
        &mut self,
        mut gone: BTreeSet<JobId>,
        deleted: &BTreeSet<JobId>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let holders = self.holders_of(&gone).await?;
        let mut reader = ByHolder::new(self.own_offers.clone(), &gone, &holders);
        // While the offers of one chunk are mirrored, those of the next one are read.
        let mut read = reader.read_next().await?;
        while let Some(batches) = read {
            self.check_preemption()?;
            let mut offers = Touched::new();
            for offer in documents(&batches) {
                let offer = offer?;
                // The read went by ObjectIds, so this is always one.
                let Ok(id) = offer.get_object_id("_id").map(JobId) else { continue };
                gone.remove(&id);
                offers.insert(id, Some(offer));
            }
            // `try_join` would be wrong: a failed read would abandon writes that the server may still apply.
            let (next, done) = futures::join!(reader.read_next(), self.mirror_chunk(&offers, &holders, position));
            done?;
            read = next?;
        }
        // It knows the sizes of offers by now.
        self.own_offers = reader.reader;
        // An offer that is gone has nothing left to mirror.
        let moot = gone.iter().map(|id| Address::Offer(*id)).filter(|offer| self.is_of_mirror(offer)).collect();
        self.dead_letters.remove(&moot).await?;
        let deleted: Vec<JobId> = deleted.intersection(&gone).copied().collect();
        for deleted in deleted.chunks(DELETIONS) {
            self.check_preemption()?;
            let deleted = deleted.iter().map(|id| (*id, None)).collect();
            self.mirror_chunk(&deleted, &holders, position).await?;
        }
        Ok(())
    }

    async fn mirror_chunk(
        &mut self,
        offers: &Touched<'_>,
        holders: &Holders,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let mut told = Findings::default();
        let mut held = Jobs::new();
        let mut missing = BTreeSet::new();
        for id in offers.keys() {
            match holders.get(id) {
                Some(recruiter) => drop(held.entry(*recruiter).or_default().insert(*id)),
                None => drop(missing.insert(*id)),
            }
        }
        missing.extend(self.mirror_existing_jobs(&held, offers, position.wall_time, &mut told).await?);
        self.mirror_missing_jobs(&missing, offers, position.wall_time, &mut told).await?;
        failpoint::passed("mirrored");
        self.tell_of_mirror(told, position).await
    }

    /// The recruiters that hold these jobs by their links. Of several holders the job owner is taken.
    async fn holders_of(&self, ids: &BTreeSet<JobId>) -> Result<Holders, Failure> {
        let linked = links::owners(&self.database, ids).await?;
        let (shared, single): (BTreeMap<JobId, BTreeSet<RecruiterId>>, BTreeMap<JobId, BTreeSet<RecruiterId>>) =
            linked.into_iter().partition(|(_, recruiters)| recruiters.len() > 1);
        let mut holders: Holders =
            single.into_iter().filter_map(|(job, recruiters)| Some((job, *recruiters.first()?))).collect();
        let mut owners: BTreeMap<JobId, JobOwner> = BTreeMap::new();
        for (job, owner) in self.owners_now(&shared).await? {
            owners.entry(job).and_modify(|first| *first = owner.max(*first)).or_insert(owner);
        }
        holders.extend(owners.into_iter().map(|(job, owner)| (job, owner.recruiter())));
        // Where none of them can be projected, the job is there all the same, and must not be added once more.
        for (job, recruiters) in shared {
            if let Some(first) = recruiters.first() {
                holders.entry(job).or_insert(*first);
            }
        }
        // The job of an offer that stands under another label is not touched.
        let is_other = |job: JobId, recruiter: RecruiterId| {
            let known = self.dead_letters.get(&Address::of(recruiter, Some(job)));
            known.is_some_and(|known| known.reason == Reason::OtherLabel)
        };
        holders.retain(|job, recruiter| !is_other(*job, *recruiter));
        Ok(holders)
    }

    pub(super) fn is_of_mirror(&self, address: &Address) -> bool {
        self.dead_letters.get(address).is_some_and(|known| known.is_of_mirror())
    }

    /// Writes the dead letters about offers, and removes those that are settled. A failed anonymisation keeps its dead
    /// letter.
    async fn tell_of_mirror(&mut self, told: Findings, position: &EventPosition) -> Result<(), Unfinished> {
        let Findings { mut dead_letters, looked_at } = told;
        let healed =
            looked_at.into_iter().filter(|it| self.is_of_mirror(it) && !dead_letters.contains_key(it)).collect();
        self.dead_letters.remove(&healed).await?;
        dead_letters.retain(|address, _| {
            self.dead_letters.get(address).is_none_or(|known| !known.action.outlives(Action::Mirror))
        });
        self.output.note_dead_letters(&dead_letters);
        self.dead_letters.write(dead_letters, position).await
    }
}
