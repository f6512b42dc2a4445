//! The continuous verification (spec 06): while an instance leads, a sample of the recruiters that were
//! touched is compared a few seconds later, as `verify` does it. It is a task of its own at a bounded rate
//! in constant memory: it must not slow the pipeline down, and no failure of it ends a leadership.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::oid::ObjectId;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::compare::DifferenceKind;
use super::report::divergent;
use super::settle::{Behind, Side};
use super::stored::{self, Stored};
use crate::apply::sampler::Sampler;
use crate::context::Context;
use crate::error::Failure;
use crate::phase::{Phase, StreamWrites, state};
use crate::source::scan;
use crate::tasks::pause;

/// So many offers that differ are kept in mind; more of them say nothing new.
const KNOWN: usize = 1_000;
/// So many ids are logged.
const IDS: usize = 20;

/// Whether recruiters are compared all the time (spec 04, "The table"): where two sides are written. Elsewhere
/// a verification is asked for, or done at night.
#[must_use]
pub(crate) fn is_on(phase: Phase) -> bool {
    matches!(phase.stream(), StreamWrites::UnlessNewer | StreamWrites::Compare)
}

/// The verification of one leadership.
pub(crate) struct Continuous {
    context: Context,
    sampler: Arc<Sampler>,
    stop: CancellationToken,
    /// What differed when it was last looked at, by recruiter.
    known: BTreeMap<ObjectId, BTreeSet<(DifferenceKind, ObjectId)>>,
    /// What the metric says.
    shown: BTreeMap<DifferenceKind, i64>,
}

impl Continuous {
    /// Compares what `sampler` gives.
    #[must_use]
    pub(crate) fn new(context: Context, sampler: Arc<Sampler>, stop: CancellationToken) -> Self {
        Self { context, sampler, stop, known: BTreeMap::new(), shown: BTreeMap::new() }
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// None: what fails is tried again in the next round.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let interval = self.context.settings.verify.sample_interval;
        loop {
            if let Err(failure) = self.round().await {
                warn!(error = %failure, advice = failure.advice(), "recruiters could not be compared; tried again");
            }
            if !pause(&self.stop, interval).await {
                break;
            }
        }
        // Only a leader knows.
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

    /// Looks at the sample, and once more at what differed.
    async fn compare(&mut self, sample: BTreeSet<ObjectId>, phase: Phase) -> Result<(), Failure> {
        let ids: Vec<ObjectId> = sample.iter().chain(self.known.keys()).copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let behind = Behind::This(Arc::clone(&self.context.health));
        let mut rechecker = super::rechecker(&self.context, phase, behind, self.stop.clone()).await?;
        if !rechecker.wait().await? {
            // What is not applied yet is no difference; the lag tells of it.
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
            .settle(Side::Recruiters, waiting, |id, findings| drop(standing.insert(id, divergent(&findings))))
            .await?;
        if !self.stop.is_cancelled() {
            // Of what keeps changing, nothing new is known.
            self.known.retain(|id, _| moving.contains_key(id));
            self.remember(standing);
            self.context.metrics.verify_sampled.inc_by(sample.len() as u64);
        }
        Ok(())
    }

    fn remember(&mut self, standing: BTreeMap<ObjectId, BTreeSet<(DifferenceKind, ObjectId)>>) {
        let mut offers: usize = self.known.values().map(BTreeSet::len).sum();
        for (recruiter, divergent) in standing.into_iter().filter(|(_, divergent)| !divergent.is_empty()) {
            if offers >= KNOWN {
                break;
            }
            offers += divergent.len();
            self.known.insert(recruiter, divergent);
        }
    }

    /// Brings to the metrics what is known, and a line to the log where it changed.
    fn show(&mut self, stored: &Stored) {
        let metrics = &self.context.metrics;
        let seconds = |date: bson::DateTime| date.timestamp_millis().div_euclid(1000) as f64;
        metrics.verify_last_success.set(stored.last_success.map_or(0.0, seconds));
        for kind in DifferenceKind::ALL {
            let offers: Vec<ObjectId> =
                self.known.values().flatten().filter(|(of, _)| *of == kind).map(|(_, offer)| *offer).collect();
            let in_full = stored.divergent_offers.get(&kind).copied().unwrap_or_default();
            let now = in_full.max(i64::try_from(offers.len()).unwrap_or(i64::MAX));
            metrics.set_divergent_offers(kind, now);
            let before = self.shown.insert(kind, now).unwrap_or_default();
            let kind = kind.as_str();
            match (before, now) {
                (0, 1..) => {
                    let ids: Vec<String> = offers.iter().take(IDS).map(|offer| offer.to_hex()).collect();
                    warn!(kind, offers = now, ids = ids.join(" "), "offers differ from their recruiters");
                }
                (1.., 0) => info!(kind, "no offer is known to differ from its recruiter any more"),
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
