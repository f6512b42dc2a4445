//! The recheck of mismatches. A mismatch is compared again until it is gone or no longer changes. Only a mismatch that
//! no longer changes counts as a difference. The recheck waits for an instance that is behind, and only reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::{Timestamp, doc, oid::ObjectId};
use resume_tokens::Checkpoint;
use tokio_util::sync::CancellationToken;

use super::compare_sides::{Comparer, Comparison, Mismatch};
use crate::error::{Directive, Failure};
use crate::lease;
use crate::model::ids::typed;
use crate::model::names::OFFERS;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::model::names::state_id::{CHECKPOINT, HALT, PAUSE};
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::collection;
use crate::observe::health::Health;
use crate::phase::sides::Sides;
use crate::retry::Delays;
use crate::source::cursor::operation_time;
use crate::source::scan;
use crate::tasks::pause;

/// The settle delay: the least time between two comparisons of a document.
const SETTLE: Duration = Duration::from_secs(2);
/// The number of waits of [`POLL`] for an instance that is behind: one minute in all.
const POLLS: u32 = 240;
const POLL: Duration = Duration::from_millis(250);
/// The greatest number of rechecks. A document that changes each time is not called a difference.
const LOOKS: u32 = 5;

/// A collection that a verification scans by `_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Recruiters,
    /// Our offers.
    Offers,
    /// The anonymised recruiters.
    Anonymized,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Recruiters, Self::Offers, Self::Anonymized];

    #[must_use]
    pub(crate) fn collection(self) -> &'static str {
        match self {
            Self::Recruiters => WatchedCollection::Recruiters.name(),
            Self::Offers => OFFERS,
            Self::Anonymized => WatchedCollection::AnonymizedRecruiters.name(),
        }
    }
}

/// The instance for which the recheck waits until it has applied recent events.
#[derive(Debug, Clone)]
pub(crate) enum Behind {
    /// The leader. Its checkpoint in MongoDB tells its position. The process named `except` does not count: it holds the
    /// lease for one command and applies no events.
    Instance { except: Option<String> },
    /// This process, which leads. Its health tells its position.
    This(Arc<Health>),
}

/// Compares documents, and compares mismatches again.
#[derive(Debug)]
pub(crate) struct Rechecker {
    pub comparer: Comparer,
    pub database: CausalDatabase,
    pub behind: Behind,
    /// Ends waits and rechecks early.
    pub stop: CancellationToken,
}

impl Rechecker {
    /// Rechecks the mismatches of `waiting`, which has their signatures. `stands` gets each mismatch whose signature is
    /// the same at two comparisons: it is a difference. `right` gets the sums of what has come right. Returns the
    /// mismatches that changed at every comparison.
    ///
    /// # Errors
    /// A [`Failure`] that a retry does not cure.
    pub(crate) async fn settle(
        &mut self,
        side: Side,
        mut waiting: BTreeMap<ObjectId, u64>,
        right: &mut Sides,
        mut stands: impl FnMut(ObjectId, Mismatch),
    ) -> Result<BTreeMap<ObjectId, u64>, Failure> {
        for _ in 0..LOOKS {
            if waiting.is_empty() || self.stop.is_cancelled() {
                return Ok(BTreeMap::new());
            }
            let caught_up = self.wait().await?;
            if !caught_up && matches!(self.behind, Behind::This(_)) {
                // The lag of this process shows that it is behind. A verification of another process reports what it
                // finds, because its caller wants an answer.
                return Ok(waiting);
            }
            self.comparer.forget().await?;
            let ids: Vec<ObjectId> = waiting.keys().copied().collect();
            let mut moving = BTreeMap::new();
            for ids in ids.chunks(scan::STEP as usize) {
                let look = self.look(side, ids).await?;
                right.extend(look.sides);
                for (id, seen) in look.wrong {
                    if waiting.get(&id) == Some(&seen.signature) {
                        stands(id, seen)
                    } else {
                        moving.insert(id, seen.signature);
                    }
                }
            }
            waiting = moving;
        }
        Ok(waiting)
    }

    /// Waits for the settle delay, and then until the instance has applied all events from before the delay. False when
    /// that takes longer than a minute.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn wait(&self) -> Result<bool, Failure> {
        let seen = operation_time(&self.database).await?;
        pause(&self.stop, SETTLE).await;
        for _ in 0..POLLS {
            if self.stop.is_cancelled() || !self.is_behind(seen).await? {
                return Ok(true);
            }
            pause(&self.stop, POLL).await;
        }
        Ok(false)
    }

    async fn is_behind(&self, seen: Timestamp) -> Result<bool, Failure> {
        match &self.behind {
            // Without a checkpoint in the database, checkpoints are in files. Then the settle delay must do. A leader that
            // is halted or paused reads nothing, so a wait for it would be in vain.
            Behind::Instance { except } => {
                Ok(lease::current(&self.database).await?.is_some_and(|leader| Some(&leader.name) != except.as_ref())
                    && checkpoint(&self.database).await?.is_some_and(|checkpoint| checkpoint < seen)
                    && !rests(&self.database).await?)
            }
            Behind::This(health) => Ok(health.applied_time().is_none_or(|applied| applied < seen)),
        }
    }

    /// Compares documents once. Passing failures are retried.
    ///
    /// # Errors
    /// A [`Failure`] that a retry does not cure.
    pub(crate) async fn look(&mut self, side: Side, ids: &[ObjectId]) -> Result<Comparison, Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            let look = match side {
                Side::Recruiters => self.comparer.at_recruiters(&typed(ids)).await,
                Side::Offers => self.comparer.at_offers(&typed(ids)).await,
                Side::Anonymized => self.comparer.at_anonymized(&typed(ids)).await,
            };
            match look {
                Err(failure) if failure.directive() == Directive::Retry && !self.stop.is_cancelled() => {
                    tracing::warn!(error = %failure, "an attempt failed; retrying");
                    pause(&self.stop, delays.next_delay()).await;
                }
                look => return look,
            }
        }
    }
}

/// True while the leader is halted or paused.
async fn rests(database: &CausalDatabase) -> Result<bool, Failure> {
    let resting = doc! { "_id": { "$in": [HALT, PAUSE] } };
    Ok(collection(database, STATE).find_one(resting).await.map_err(Failure::Read)?.is_some())
}

async fn checkpoint(database: &CausalDatabase) -> Result<Option<Timestamp>, Failure> {
    let checkpoint = collection(database, STATE).find_one(doc! { "_id": CHECKPOINT }).await.map_err(Failure::Read)?;
    Ok(checkpoint.and_then(|stored| Checkpoint::from_document(&stored).ok()).map(|checkpoint| checkpoint.cluster_time))
}
