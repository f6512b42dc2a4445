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
use crate::fetch::causal::CausalDatabase;
use crate::observe::health::{Health, Part};
use crate::observe::metrics::Metrics;
use crate::retry::Delays;
use crate::source::cursor::{Cursor, Position, Reply, operation_time};
use crate::source::event::Collection;
use crate::source::primary::Primaries;

/// The most events of one reply. The driver decodes a reply as one tree of documents: a full batch in
/// one would cost tens of megabytes.
pub const EVENTS_PER_REPLY: usize = 1_000;

/// What the reader hands on, in order.
#[derive(Debug)]
pub enum Incoming {
    /// Events, or the news that there are none.
    Reply(Reply),
    /// The position was lost: between these times nothing was read.
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
pub struct Reader {
    /// The watched database.
    pub database: CausalDatabase,
    /// Its watched collections.
    pub watched: &'static [Collection],
    /// Where to begin, later where to go on.
    pub position: Position,
    /// `stream.await_time`
    pub await_time: Duration,
    /// The most events of one reply.
    pub batch_size: u32,
    /// After how long without any event, not even the canary's, the stream is opened anew: its server may be cut
    /// off from the others, and be the primary no more.
    pub longest_silence: Duration,
    /// Told when the primary is another one.
    pub primaries: Primaries,
    /// `stream.on_history_lost`
    pub on_history_lost: OnHistoryLost,
    /// Told of every reply and trouble.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Reader {
    /// Reads until the receiver is gone.
    ///
    /// # Errors
    /// What must stop the service, or make it lose its leadership.
    pub async fn run(mut self, outbox: mpsc::Sender<Incoming>) -> Result<(), Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            let failure = match self.read(&outbox, &mut delays).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let of_time = matches!(failure, Failure::Ahead) || failure.code() == HISTORY_LOST;
            let directive = match (failure.directive(), &self.position) {
                // There is no token that could be at fault, so giving up the position cannot help.
                (Directive::Resync, Position::At(_)) if !of_time => Directive::RetryUnready,
                (directive, _) => directive,
            };
            self.metrics.stream_restarts.with_label_values(&[&failure.code()]).inc();
            // Silence has lasted for long by now.
            let at_once = directive == Directive::RetryUnready || matches!(failure, Failure::Stalled);
            self.health.trouble(Part::Stream, &failure, at_once);
            warn!(error = %failure, advice = failure.advice(), "the change stream is opened again");
            match directive {
                Directive::Retry | Directive::Reopen | Directive::RetryUnready => {}
                Directive::Resync => {
                    let gap = self.give_up_position(failure).await?;
                    if outbox.send(gap).await.is_err() {
                        return Ok(());
                    }
                }
                Directive::Stop => return Err(failure),
            }
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn open(&self) -> Result<Cursor, Failure> {
        let what = (self.watched, &self.position);
        Cursor::open(&self.database, what, self.await_time, self.batch_size).await
    }

    /// Reads until something fails; `Ok` when nobody listens any more.
    async fn read(&mut self, outbox: &mpsc::Sender<Incoming>, delays: &mut Delays) -> Result<(), Failure> {
        let primary = self.primaries.found();
        let mut cursor = self.open().await?;
        let mut heard = clock::instant();
        while self.primaries.found() == primary {
            let reply = cursor.next().await?;
            match reply.events.is_empty() {
                true if heard.elapsed() > self.longest_silence => return Err(Failure::Stalled),
                true => {}
                false => heard = clock::instant(),
            }
            delays.reset();
            self.health.works(Part::Stream);
            self.health.replied(reply.operation_time);
            let invalidates = reply.invalidates();
            let is_full = reply.events.len() >= EVENTS_PER_REPLY;
            self.position = Position::After(reply.position.clone());
            if outbox.send(Incoming::Reply(reply)).await.is_err() {
                return Ok(());
            }
            if !is_full {
                // What was handed on goes first. Behind a full reply are more, which the server may read meanwhile.
                tokio::task::yield_now().await;
            }
            if invalidates {
                info!("the database was dropped; the change stream is opened after that");
                cursor = self.open().await?;
            }
        }
        Err(Failure::NewPrimary)
    }

    /// The position left the oplog, or was never in it: goes on from now, unless the configuration says to halt.
    async fn give_up_position(&mut self, failure: Failure) -> Result<Incoming, Failure> {
        if self.on_history_lost == OnHistoryLost::Halt {
            self.health.halt();
            return Err(failure);
        }
        let from = self.position.time();
        let to = operation_time(&self.database).await?;
        // Before the gap is told: what repairs it must see all that happened in it.
        self.database.advance(to);
        self.database.interrupt();
        self.position = Position::At(to);
        Ok(Incoming::Gap { from, to, cause: failure.code() })
    }
}
