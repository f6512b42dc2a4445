//! The reader is the task that reads the change stream. It opens the cursor and hands replies to the pipeline.
//! While the pipeline works on a reply, the reader fetches the next ones. After any error it opens the cursor again
//! behind the last reply that it handed on. Events that cannot be read become a gap, which the pipeline records and
//! repairs.

use std::sync::Arc;
use std::time::Duration;

use bson::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock;
use crate::config::OnHistoryLost;
use crate::error::{Directive, Failure};
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::observe::health::{Health, HealthPart};
use crate::observe::metrics::Metrics;
use crate::retry::Delays;
use crate::source::aggregation::Watched;
use crate::source::cursor::{Cursor, StreamPosition, StreamReply, operation_time};
use crate::source::undeliverable::{StumbleAction, Stumbles, behind, last_to_pass};

/// The greatest number of events in one reply. The driver decodes a reply as one tree of documents, so a reply with a
/// whole batch would need tens of megabytes.
pub(crate) const EVENTS_PER_REPLY: usize = 1_000;

/// The age from which a position is far back, in seconds of the server's time. From there the server may have to search
/// long for the next event.
const FAR_BACK: u32 = 5;
/// The duration from which a reply counts as slow. Far back, smaller replies follow a slow one: the server sends its
/// events, and the position moves, only when a reply is full or the whole oplog is searched. After a full reply, the
/// next one has as many events as should take this time.
const SLOW_REPLY: Duration = Duration::from_secs(5);
/// The factor by which replies shrink far back.
const SHRINK: u32 = 10;

/// A message of the reader to the pipeline.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A reply of the cursor.
    Reply {
        /// The reply; without events if the stream is idle.
        reply: StreamReply,
        /// True when it has as many events as a reply may usually have, so that more probably follow. A smaller reply far back
        /// is not full: merged with others, its events would leave no room for the last full reply of a batch.
        is_full: bool,
    },
    /// A span of the stream that was not read, because the position was lost or events were passed over.
    Gap {
        /// The cluster time of the last position.
        from: Timestamp,
        /// The cluster time from which the stream is read again.
        to: Timestamp,
        /// The words of [`Failure::gap_cause`].
        cause: String,
    },
}

/// The code of `ChangeStreamHistoryLost`.
const HISTORY_LOST: &str = "286";

/// The reader's settings and state.
#[derive(Debug)]
pub(crate) struct StreamReader {
    pub(super) database: CausalDatabase,
    pub(super) watched: &'static [WatchedCollection],
    /// The setting `target.partner_label`.
    pub(super) partner_label: String,
    /// The position after the last reply that was handed on.
    pub(super) position: StreamPosition,
    /// The setting `stream.await_time`.
    pub(super) await_time: Duration,
    /// The usual number of events in a full reply.
    pub(super) batch_size: u32,
    /// Failures at positions that the reader does not get past.
    pub(super) stumbles: Stumbles,
    /// The longest time without any event, not even the canary's. After it the cursor is opened again, because its
    /// server may be cut off from the others and no longer be the primary.
    pub(super) longest_silence: Duration,
    pub(super) primary_changes: PrimaryChanges,
    /// The setting `stream.on_history_lost`.
    pub(super) on_history_lost: OnHistoryLost,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
}

impl StreamReader {
    /// Reads until the pipeline is gone.
    ///
    /// # Errors
    /// A [`Failure`] that must end the service or this leadership.
    pub(crate) async fn run(mut self, outbox: mpsc::Sender<Incoming>) -> Result<(), Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            let failure = match self.read(&outbox, &mut delays).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let of_time = matches!(failure, Failure::Ahead) || failure.code() == HISTORY_LOST;
            let directive = match (failure.directive(), &self.position) {
                // A stream that was opened by time has no token that could be at fault, so the next event is.
                (Directive::Resync, StreamPosition::At(_)) if !of_time => Directive::PassOver,
                (directive, _) => directive,
            };
            let way = match directive {
                Directive::PassOver => self.stumbles.meet(&self.position, failure.code()),
                _ => StumbleAction::Again,
            };
            self.metrics.stream_restarted(&failure);
            // These failures end readiness at once. A stalled stream, for instance, has been silent for long already.
            let for_long = directive == Directive::RetryUnready || way == StumbleAction::Wait;
            let at_once = for_long || matches!(failure, Failure::Stalled);
            self.health.trouble(HealthPart::Stream, &failure, failure.advice(), at_once);
            warn!(error = %failure, advice = failure.advice(), "the change stream failed; it is reopened");
            match directive {
                Directive::Retry | Directive::Reopen | Directive::RetryUnready => {}
                Directive::PassOver if [StumbleAction::Again, StumbleAction::Wait].contains(&way) => {}
                Directive::Resync | Directive::PassOver => {
                    let gap = self.give_up_position(failure, way).await?;
                    if outbox.send(gap).await.is_err() {
                        return Ok(());
                    }
                }
                Directive::Stop => return Err(failure),
            }
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    /// Opens the cursor and returns the number of events in its replies. Far back, replies have one event at first.
    async fn open(&self) -> Result<(Cursor, u32), Failure> {
        let now = operation_time(&self.database).await?;
        let is_far_back = is_far_back(self.position.time(), now);
        if is_far_back {
            self.health.catching_up(self.position.time(), now);
        }
        let size = if is_far_back { 1 } else { self.usual_size() };
        Ok((self.open_with(size).await?, size))
    }

    fn usual_size(&self) -> u32 {
        self.stumbles.batch_size(self.batch_size)
    }

    async fn open_with(&self, batch_size: u32) -> Result<Cursor, Failure> {
        let mirrors = self.watched.contains(&WatchedCollection::Offers);
        let own_label = mirrors.then_some(self.partner_label.as_str());
        let watched = Watched { collections: self.watched, own_label, omits_foreign: false };
        Cursor::open(&self.database, watched, &self.position, self.await_time, batch_size).await
    }

    /// Reads with one cursor until something fails. `Ok` means that the pipeline is gone.
    async fn read(&mut self, outbox: &mpsc::Sender<Incoming>, delays: &mut Delays) -> Result<(), Failure> {
        let primary = self.primary_changes.found();
        let (mut cursor, mut size) = self.open().await?;
        let mut heard = clock::instant();
        while self.primary_changes.found() == primary {
            let (health, from) = (Arc::clone(&self.health), self.position.time());
            let asked = clock::instant();
            let reply = cursor.next(|now| health.catching_up(from, now)).await?;
            let far_back = is_far_back(reply.position.cluster_time(), reply.operation_time);
            match reply.events.is_empty() && !far_back {
                true if heard.elapsed() > self.longest_silence => return Err(Failure::Stalled),
                true => {}
                // Far back, an empty reply is no silence: the canary's events lie ahead.
                false => heard = clock::instant(),
            }
            delays.reset();
            if far_back {
                self.health.catching_up(reply.position.cluster_time(), reply.operation_time)
            } else {
                self.health.caught_up(reply.operation_time)
            }
            self.stumbles.replied(reply.events.len());
            let next_size = self.next_size(size, reply.events.len(), asked.elapsed(), far_back);
            let invalidates = reply.invalidates();
            let is_full = reply.events.len() >= self.usual_size() as usize;
            self.position = StreamPosition::After(reply.position.clone());
            if outbox.send(Incoming::Reply { reply, is_full }).await.is_err() {
                return Ok(());
            }
            if !is_full {
                // The pipeline runs first, so that the reply is applied at once. After a full reply the next read is
                // sent first, so that the server works meanwhile.
                tokio::task::yield_now().await;
            }
            if invalidates {
                info!("the database was dropped; the change stream is reopened after the drop");
                (cursor, size) = self.open().await?;
            } else if next_size != size {
                (cursor, size) = (self.open_with(next_size).await?, next_size);
            }
        }
        Err(Failure::NewPrimary)
    }

    /// Computes the greatest number of events for the next reply.
    fn next_size(&self, size: u32, events: usize, took: Duration, far_back: bool) -> u32 {
        let is_full = events >= size as usize;
        match (far_back, took > SLOW_REPLY) {
            (false, _) => self.usual_size(),
            (true, true) => (size / SHRINK).max(1),
            (true, false) if is_full => {
                let times = SLOW_REPLY.as_millis() / took.as_millis().max(1);
                size.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX)).min(self.usual_size())
            }
            (true, false) => size,
        }
    }

    /// Gives up a position that is lost or that the reader does not get past, and returns the gap. Reading goes on from
    /// now, or behind the events that are passed over. Fails if `stream.on_history_lost` says to halt.
    async fn give_up_position(&mut self, failure: Failure, way: StumbleAction) -> Result<Incoming, Failure> {
        if self.on_history_lost == OnHistoryLost::Halt {
            self.health.halt();
            return Err(failure);
        }
        let from = self.position.time();
        let (last, to) = match way {
            StumbleAction::PassOne | StumbleAction::PassAll => {
                let (last, _) = last_to_pass(&self.database, self.watched, &self.position, way).await?;
                (last, behind(last))
            }
            StumbleAction::Again | StumbleAction::Wait => {
                let now = operation_time(&self.database).await?;
                (now, now)
            }
        };
        // This comes before the gap is handed on: the resync that repairs it must see everything that happened in it.
        self.database.advance(last);
        self.database.interrupt();
        self.position = StreamPosition::At(to);
        Ok(Incoming::Gap { from, to, cause: failure.gap_cause() })
    }
}

fn is_far_back(position: Timestamp, now: Timestamp) -> bool {
    now.time.saturating_sub(position.time) > FAR_BACK
}
