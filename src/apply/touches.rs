//! Carries out touches: projects recruiters again, chunk by chunk.

use std::collections::{BTreeMap, BTreeSet};

use super::affected_recruiters::whole;
use super::chunk::Chunk;
use super::executor::Apply;
use super::link_changes::keep_in_link;
use super::offers_ahead::OffersAhead;
use super::removal::LostJobs;
use mongodb::raw_batch_cursor::RawBatch;

use crate::error::Failure;
use crate::fetch::chunks::is_light;
use crate::fetch::job_chunks::JOBS;
use crate::interruption::Unfinished;
use crate::model::ids::RecruiterId;
use crate::phase::StreamWrites;
use crate::plan::Touch;
use crate::write::dead_letters::EventPosition;

impl Apply {
    /// Projects recruiters again, chunk by chunk. While one chunk is projected and written, the next one is read, unless the
    /// chunk is heavy. This is safe, because no recruiter is in two chunks. Returns false if a recruiter lost a job, or was
    /// touched again because of another one. Then a recruiter's offers do not depend on its own touches alone.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(crate) async fn touch(
        &mut self,
        touches: &BTreeMap<RecruiterId, Touch>,
        position: &EventPosition,
    ) -> Result<bool, Unfinished> {
        if self.stages.phase.stream() == StreamWrites::Closed && !self.stages.output.is_dry_run() {
            return Ok(true);
        }
        let mut lost = LostJobs::default();
        // The future is on the heap, here and where a step or a batch begins. A future contains all futures that it
        // awaits, and the sum would not fit on the stack of a thread.
        let mut again = Box::pin(self.touch_once(touches, &mut lost, position)).await?;
        // Recruiters that still hold a job which another recruiter lost are touched again. They are rare.
        // The loop ends, because each round adds to `lost`.
        let touched_once = again.is_empty();
        while !again.is_empty() {
            again = Box::pin(self.touch_once(&whole(again), &mut lost, position)).await?;
        }
        let left = self.stages.left_behind(&lost.moved).await?;
        let refused = self.stages.cancel_or_anonymize(left, position).await?;
        let mut lost = lost.all;
        refused.iter().for_each(|address| keep_in_link(address, &mut lost));
        let independent = touched_once && lost.is_empty();
        // Links shrink last. After an earlier crash the links still have the removed jobs, and all of this is repeated.
        if !self.stages.phase.writes_offers() {
            self.set_aside(&lost, position).await?;
            self.stages.to_mirror.extend(lost.into_values().flatten());
            return self.mirror_differences(position).await.map(|()| independent);
        }
        let refused = self.stages.output.shrink_links(&lost).await?;
        let dead_letters = self.stages.unlinked(&refused);
        self.stages.dead_letters.write(dead_letters, position).await.map(|()| independent)
    }

    /// Mirrors the offers that differ from their projections, or whose jobs are gone.
    pub(super) async fn mirror_differences(&mut self, position: &EventPosition) -> Result<(), Unfinished> {
        let offers = std::mem::take(&mut self.stages.to_mirror);
        Box::pin(self.stages.mirror(&offers, &BTreeSet::new(), position)).await
    }

    async fn touch_once(
        &mut self,
        touches: &BTreeMap<RecruiterId, Touch>,
        lost: &mut LostJobs,
        position: &EventPosition,
    ) -> Result<BTreeSet<RecruiterId>, Unfinished> {
        let mut again = BTreeSet::new();
        let ids: Vec<RecruiterId> = touches.keys().copied().collect();
        let mut rest = ids.as_slice();
        // The offers of the first chunk are read together with its references, not ahead.
        let first = self.recruiters.read_next(&mut rest).await?;
        let mut read: Option<(Vec<RawBatch>, Option<OffersAhead>)> = first.map(|recruiters| (recruiters, None));
        while let Some((batches, ahead)) = read {
            let next = async {
                let Some(recruiters) = self.recruiters.read_next(&mut rest).await? else { return Ok(None) };
                let ahead = OffersAhead::read(&mut self.offers, &recruiters, touches, JOBS).await?;
                Ok::<_, Failure>(Some((recruiters, ahead)))
            };
            let chunk = Box::pin(self.stages.chunk(Chunk { touches, batches: &batches, ahead, position }, lost));
            if is_light(&batches) {
                // The read begins before the chunk is projected. `try_join` would be wrong: a failed read would abandon
                // writes that the server may still apply.
                let (next, more) = futures::join!(next, chunk);
                again.extend(more?);
                read = next?;
            } else {
                again.extend(chunk.await?);
                drop(batches);
                read = next.await?;
            }
        }
        Ok(again)
    }
}
