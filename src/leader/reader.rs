//! The task that reads the change stream: opens the cursor, hands replies on one ahead, and after any
//! error opens it anew after the last reply that it handed on. It never skips: what it cannot read
//! again becomes a gap, which the pipeline records and repairs.

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
use crate::source::cursor::{Cursor, StreamPosition, StreamReply, operation_time};
use crate::source::undeliverable::{StumbleAction, Stumbles, behind, last_to_pass};

/// The most events of one reply. The driver decodes a reply as one tree of documents: a full batch in
/// one would cost tens of megabytes.
pub(crate) const EVENTS_PER_REPLY: usize = 1_000;

/// A position so many seconds behind the server's time is far back: there may be much to search before the next event.
const FAR_BACK: u32 = 5;
/// Far back, a full reply that took longer than this is followed by smaller ones: what the server has found is told, and
/// the position moves, only when a reply is full or the whole oplog is searched.
const SLOW_REPLY: Duration = Duration::from_secs(5);
/// By how much replies become larger and smaller then.
const STEP: u32 = 10;

/// What the reader hands on, in order.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Events, or the news that there are none.
    Reply(StreamReply),
    /// The position was lost, or something was passed over: between these times nothing was read.
    Gap {
        /// The cluster time of the lost position.
        from: Timestamp,
        /// Where reading goes on.
        to: Timestamp,
        /// The server's code, or what was wrong with the token.
        cause: String,
    },
}

/// The code of `ChangeStreamHistoryLost`.
const HISTORY_LOST: &str = "286";

/// The reader's parameters and what it knows.
#[derive(Debug)]
pub(crate) struct StreamReader {
    /// The watched database.
    pub database: CausalDatabase,
    /// Its watched collections.
    pub watched: &'static [WatchedCollection],
    /// Where to begin, later where to go on.
    pub position: StreamPosition,
    /// `stream.await_time`
    pub await_time: Duration,
    /// The most events of one reply.
    pub batch_size: u32,
    /// The events that it does not get past.
    pub stumbles: Stumbles,
    /// After how long without any event, not even the canary's, the stream is opened anew: its server may be cut
    /// off from the others, and be the primary no more.
    pub longest_silence: Duration,
    /// Told when the primary is another one.
    pub primary_changes: PrimaryChanges,
    /// `stream.on_history_lost`
    pub on_history_lost: OnHistoryLost,
    /// Told of every reply and trouble.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl StreamReader {
    /// Reads until the receiver is gone.
    ///
    /// # Errors
    /// What must stop the service, or make it lose its leadership.
    pub(crate) async fn run(mut self, outbox: mpsc::Sender<Incoming>) -> Result<(), Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            let failure = match self.read(&outbox, &mut delays).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let of_time = matches!(failure, Failure::Ahead) || failure.code() == HISTORY_LOST;
            let directive = match (failure.directive(), &self.position) {
                // There is no token that could be at fault.
                (Directive::Resync, StreamPosition::At(_)) if !of_time => Directive::PassOver,
                (directive, _) => directive,
            };
            let way = match directive {
                Directive::PassOver => self.stumbles.meet(&self.position, failure.code()),
                _ => StumbleAction::Again,
            };
            self.metrics.stream_restarted(&failure);
            // Silence has lasted for long by now.
            let for_long = directive == Directive::RetryUnready || way == StumbleAction::Wait;
            let at_once = for_long || matches!(failure, Failure::Stalled);
            self.health.trouble(HealthPart::Stream, &failure, at_once);
            warn!(error = %failure, advice = failure.advice(), "the change stream is opened again");
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

    /// Opens the cursor; far back, with replies of one event at first.
    async fn open(&self) -> Result<(Cursor, u32), Failure> {
        let size = self.usual_size();
        let cursor = self.open_with(size).await?;
        if size == 1 || !is_far_back(self.position.time(), cursor.opened) {
            return Ok((cursor, size));
        }
        self.health.catching_up(self.position.time(), cursor.opened);
        drop(cursor);
        Ok((self.open_with(1).await?, 1))
    }

    fn usual_size(&self) -> u32 {
        self.stumbles.batch_size(self.batch_size)
    }

    async fn open_with(&self, batch_size: u32) -> Result<Cursor, Failure> {
        let what = (self.watched, &self.position);
        Cursor::open(&self.database, what, self.await_time, batch_size).await
    }

    /// Reads until something fails; `Ok` when nobody listens any more.
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
                // A canary that was written meanwhile lies ahead.
                false => heard = clock::instant(),
            }
            delays.reset();
            if far_back {
                self.health.catching_up(reply.position.cluster_time(), reply.operation_time)
            } else {
                self.health.caught_up(reply.operation_time)
            }
            self.stumbles.replied(reply.events.len());
            let next_size = self.next_size(size, (reply.events.len(), asked.elapsed()), far_back);
            let invalidates = reply.invalidates();
            let is_full = reply.events.len() >= EVENTS_PER_REPLY;
            self.position = StreamPosition::After(reply.position.clone());
            if outbox.send(Incoming::Reply(reply)).await.is_err() {
                return Ok(());
            }
            if !is_full {
                // What was handed on goes first. Behind a full reply are more, which the server may read meanwhile.
                tokio::task::yield_now().await;
            }
            if invalidates {
                info!("the database was dropped; the change stream is opened after that");
                (cursor, size) = self.open().await?;
            } else if next_size != size {
                (cursor, size) = (self.open_with(next_size).await?, next_size);
            }
        }
        Err(Failure::NewPrimary)
    }

    /// How many events the next reply is asked for.
    fn next_size(&self, size: u32, (events, took): (usize, Duration), far_back: bool) -> u32 {
        let is_full = events >= size as usize;
        match (far_back, took > SLOW_REPLY) {
            (false, _) => self.usual_size(),
            (true, true) => (size / STEP).max(1),
            (true, false) if is_full => size.saturating_mul(STEP).min(self.usual_size()),
            (true, false) => size,
        }
    }

    /// The position left the oplog, or reading does not get past it: goes on from now, or from behind what is passed over,
    /// unless the configuration says to halt.
    async fn give_up_position(&mut self, failure: Failure, way: StumbleAction) -> Result<Incoming, Failure> {
        if self.on_history_lost == OnHistoryLost::Halt {
            self.health.halt();
            return Err(failure);
        }
        let from = self.position.time();
        let (last, to) = match way {
            StumbleAction::PassOne | StumbleAction::PassAll => {
                let (last, _) = last_to_pass(&self.database, (self.watched, &self.position), way).await?;
                (last, behind(last))
            }
            StumbleAction::Again | StumbleAction::Wait => {
                let now = operation_time(&self.database).await?;
                (now, now)
            }
        };
        // Before the gap is told: what repairs it must see all that happened in it.
        self.database.advance(last);
        self.database.interrupt();
        self.position = StreamPosition::At(to);
        Ok(Incoming::Gap { from, to, cause: failure.code() })
    }
}

fn is_far_back(position: Timestamp, now: Timestamp) -> bool {
    now.time.saturating_sub(position.time) > FAR_BACK
}
