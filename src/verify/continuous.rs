//! The continuous verification (spec 06): while an instance leads, a sample of the touched recruiters is compared a few
//! seconds later. The verification is a separate task with a bounded rate and constant memory, so that it does not slow
//! the pipeline down. Its failures do not end the leadership.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::oid::ObjectId;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::compare::DifferenceKind;
use super::recheck::{Behind, Side};
use super::report::divergent;
use super::stored::{self, Stored};
use crate::apply::sampler::Sampler;
use crate::context::Context;
use crate::error::Failure;
use crate::model::ids::{JobId, RecruiterId};
use crate::observe::repeated_failure::RepeatedFailure;
use crate::phase::sides::Sides;
use crate::phase::{Phase, StreamWrites, state};
use crate::source::scan;
use crate::tasks::pause;

/// The greatest number of differing offers that are remembered. More of them tell nothing new.
const KNOWN: usize = 1_000;
/// The greatest number of ids in a line of the log.
const IDS: usize = 5;

/// True in phases with the continuous verification (spec 04, "The table"): both sides are written there. In the other
/// phases a verification runs on demand or at night, or not at all.
#[must_use]
pub(crate) fn is_on(phase: Phase) -> bool {
    matches!(phase.stream(), StreamWrites::UnlessNewer | StreamWrites::Compare)
}

/// The continuous verification of one leader.
pub(crate) struct Continuous {
    context: Context,
    sampler: Arc<Sampler>,
    stop: CancellationToken,
    /// The offers that differed in the last round, by recruiter.
    known: BTreeMap<RecruiterId, BTreeSet<(DifferenceKind, JobId)>>,
    /// The last values of the metric.
    shown: BTreeMap<DifferenceKind, i64>,
}

impl Continuous {
    /// `sampler` chooses the recruiters to compare.
    #[must_use]
    pub(crate) fn new(context: Context, sampler: Arc<Sampler>, stop: CancellationToken) -> Self {
        Self { context, sampler, stop, known: BTreeMap::new(), shown: BTreeMap::new() }
    }

    /// Compares in rounds until `stop`.
    ///
    /// # Errors
    /// None. After a failure, the next round retries.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let interval = self.context.settings.verify.sample_interval;
        let mut failed = RepeatedFailure::default();
        loop {
            match self.round().await {
                Ok(()) => {
                    if let Some(ended) = failed.end() {
                        info!(failures = ended.failures, seconds = ended.seconds, "recruiters can be compared again");
                    }
                }
                Err(failure) if failed.is_new(&failure) => {
                    warn!(error = %failure, advice = failure.advice(), "recruiters could not be compared; retrying");
                }
                Err(_) => {}
            }
            if !pause(&self.stop, interval).await {
                break;
            }
        }
        // Only the leader compares, so a former leader must not show old values.
        self.context.metrics.forget_divergent_offers();
        Ok(())
    }

    async fn round(&mut self) -> Result<(), Failure> {
        let stored = stored::load(&self.context.database).await?;
        let phase = state::load(&self.context.database, self.context.settings.phase.initial).await?.phase;
        let sample = self.sampler.take();
        if self.context.settings.verify.continuous && is_on(phase) {
            self.compare(sample, phase).await?
        } else {
            self.known.clear()
        }
        if !self.stop.is_cancelled() {
            self.show(&stored);
        }
        Ok(())
    }

    /// Compares the sample, and again the recruiters that differed before.
    async fn compare(&mut self, sample: BTreeSet<RecruiterId>, phase: Phase) -> Result<(), Failure> {
        let ids: Vec<ObjectId> = sample.iter().chain(self.known.keys()).map(|recruiter| recruiter.0).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let behind = Behind::This(Arc::clone(&self.context.health));
        let mut rechecker = super::rechecker(&self.context, phase, behind, self.stop.clone()).await?;
        if !rechecker.wait().await? {
            // A change that is not applied yet is no difference. The lag shows it.
            return Ok(());
        }
        rechecker.comparer.forget().await?;
        let mut waiting = BTreeMap::new();
        for ids in ids.chunks(scan::STEP as usize) {
            let wrong = rechecker.look(Side::Recruiters, ids).await?.wrong;
            waiting.extend(wrong.into_iter().map(|(id, seen)| (id, seen.signature)));
        }
        let mut standing = BTreeMap::new();
        let moving = rechecker
            .settle(Side::Recruiters, waiting, &mut Sides::default(), |id, seen| {
                drop(standing.insert(RecruiterId(id), divergent(&seen.findings)))
            })
            .await?;
        if !self.stop.is_cancelled() {
            // Recruiters that keep changing cannot be judged now, so their last known differences stay.
            self.known.retain(|id, _| moving.contains_key(&id.0));
            self.remember(standing);
            self.context.metrics.verify_sampled.inc_by(sample.len() as u64);
        }
        Ok(())
    }

    fn remember(&mut self, standing: BTreeMap<RecruiterId, BTreeSet<(DifferenceKind, JobId)>>) {
        let mut offers: usize = self.known.values().map(BTreeSet::len).sum();
        for (recruiter, divergent) in standing.into_iter().filter(|(_, divergent)| !divergent.is_empty()) {
            if offers >= KNOWN {
                break;
            }
            offers += divergent.len();
            self.known.insert(recruiter, divergent);
        }
    }

    /// Sets the metrics, and logs a line where differences appeared or ended.
    fn show(&mut self, stored: &Stored) {
        let metrics = &self.context.metrics;
        let seconds = |date: bson::DateTime| date.timestamp_millis().div_euclid(1000) as f64;
        metrics.verify_last_success.set(stored.last_success.map_or(0.0, seconds));
        for kind in DifferenceKind::ALL {
            let offers: Vec<JobId> =
                self.known.values().flatten().filter(|(of, _)| *of == kind).map(|(_, offer)| *offer).collect();
            let in_full = stored.divergent_offers.get(&kind).copied().unwrap_or_default();
            let now = in_full.max(i64::try_from(offers.len()).unwrap_or(i64::MAX));
            metrics.set_divergent_offers(kind, now);
            let before = self.shown.insert(kind, now).unwrap_or_default();
            let kind = kind.as_str();
            match (before, now) {
                // Only the last full verification knows the offers, and the log does not tell them again.
                (0, 1..) if offers.is_empty() => warn!(kind, offers = now, "offers differ from their recruiters"),
                (0, 1..) => {
                    let ids: Vec<String> = offers.iter().take(IDS).map(JobId::to_string).collect();
                    warn!(kind, offers = now, ids = ids.join(" "), "offers differ from their recruiters");
                }
                (1.., 0) => info!(kind, "all known differences of this kind are resolved"),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recruiters_are_compared_all_the_time_while_both_sides_are_written() {
        let on: Vec<bool> = Phase::ALL.map(is_on).into();
        assert_eq!(on, [false, true, true, false]);
    }
}
