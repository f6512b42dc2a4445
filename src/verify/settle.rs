//! Looks at what was wrong again until it is right or stands still: only what stands still and still
//! differs counts. It waits for an instance that is behind. Reads only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::{Timestamp, doc, oid::ObjectId};
use tokio_util::sync::CancellationToken;

use super::compare::Finding;
use super::compare_sides::{Comparer, Comparison};
use crate::error::{Directive, Failure};
use crate::lease;
use crate::model::names::OFFERS;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::collection;
use crate::observe::health::Health;
use crate::retry::Delays;
use crate::source::cursor::operation_time;
use crate::source::scan;
use crate::tasks::pause;

/// How long a difference must stand before it counts.
const SETTLE: Duration = Duration::from_secs(2);
/// A running instance that is behind is waited for, so many times [`POLL`].
const POLLS: u32 = 240;
const POLL: Duration = Duration::from_millis(250);
/// What changes this often while it is looked at is not called a difference.
const LOOKS: u32 = 5;

/// A side that is walked by its `_id`s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// `recruiters`
    Recruiters,
    /// Our offers.
    Offers,
    /// `anonymized_recruiters`
    Anonymized,
}

impl Side {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Recruiters, Self::Offers, Self::Anonymized];

    /// The collection.
    #[must_use]
    pub(crate) fn collection(self) -> &'static str {
        match self {
            Self::Recruiters => WatchedCollection::Recruiters.name(),
            Self::Offers => OFFERS,
            Self::Anonymized => WatchedCollection::AnonymizedRecruiters.name(),
        }
    }
}

/// Who may still have to apply what happened.
#[derive(Debug, Clone)]
pub(crate) enum Behind {
    /// An instance, whose checkpoint tells how far it is.
    Instance,
    /// This process, which knows how far it is.
    This(Arc<Health>),
}

/// Looks at documents once, and again.
#[derive(Debug)]
pub(crate) struct Rechecker {
    /// What reads and compares.
    pub comparer: Comparer,
    /// Where everything is.
    pub database: CausalDatabase,
    /// Who is waited for.
    pub behind: Behind,
    /// Ends it early.
    pub stop: CancellationToken,
}

impl Rechecker {
    /// Looks again at what was wrong, known by its signatures, until it is right or stands still; `stands`
    /// gets what does. Gives back what changed each time.
    ///
    /// # Errors
    /// A [`Failure`] that trying again does not mend.
    pub(crate) async fn settle(
        &mut self,
        side: Side,
        mut waiting: BTreeMap<ObjectId, u64>,
        mut stands: impl FnMut(ObjectId, Vec<Finding>),
    ) -> Result<BTreeMap<ObjectId, u64>, Failure> {
        for _ in 0..LOOKS {
            if waiting.is_empty() || self.stop.is_cancelled() {
                return Ok(BTreeMap::new());
            }
            let caught_up = self.wait().await?;
            if !caught_up && matches!(self.behind, Behind::This(_)) {
                // Its own lag tells of it; others must be told what they find.
                return Ok(waiting);
            }
            self.comparer.forget().await?;
            let ids: Vec<ObjectId> = waiting.keys().copied().collect();
            let mut moving = BTreeMap::new();
            for ids in ids.chunks(scan::STEP as usize) {
                for (id, seen) in self.look(side, ids).await?.wrong {
                    if waiting.get(&id) == Some(&seen.signature) {
                        stands(id, seen.findings)
                    } else {
                        moving.insert(id, seen.signature);
                    }
                }
            }
            waiting = moving;
        }
        Ok(waiting)
    }

    /// The settle delay, and then until what happened before it has been applied; false when it was not in
    /// a minute.
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
            // Without one in the database, checkpoints are in files: the delay has to do.
            Behind::Instance => Ok(lease::current(&self.database).await?.is_some()
                && checkpoint(&self.database).await?.is_some_and(|checkpoint| checkpoint < seen)),
            Behind::This(health) => Ok(health.applied_time().is_none_or(|applied| applied < seen)),
        }
    }

    /// One look, tried again when it fails in a way that passes.
    ///
    /// # Errors
    /// A [`Failure`] that trying again does not mend.
    pub(crate) async fn look(&mut self, side: Side, ids: &[ObjectId]) -> Result<Comparison, Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            let look = match side {
                Side::Recruiters => self.comparer.at_recruiters(ids).await,
                Side::Offers => self.comparer.at_offers(ids).await,
                Side::Anonymized => self.comparer.at_anonymized(ids).await,
            };
            match look {
                Err(failure) if failure.directive() == Directive::Retry && !self.stop.is_cancelled() => {
                    tracing::warn!(error = %failure, "tried again");
                    pause(&self.stop, delays.next_delay()).await;
                }
                look => return look,
            }
        }
    }
}

async fn checkpoint(database: &CausalDatabase) -> Result<Option<Timestamp>, Failure> {
    let checkpoint = collection(database, STATE).find_one(doc! { "_id": "checkpoint" }).await.map_err(Failure::Read)?;
    Ok(checkpoint.and_then(|checkpoint| checkpoint.get_timestamp("cluster_time").ok()))
}
