//! The change stream of a span of the past: what a replay looks at again (spec 06, "replay"). It reads the
//! offers' collection too, so that what somebody did to an offer is found. Its position is never saved as the
//! stream's own.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bson::Timestamp;

use super::cursor::{Cursor, StreamPosition, StreamReply};
use super::event::Event;
use super::undeliverable::{StumbleAction, Stumbles, behind, last_to_pass};
use crate::error::{Directive, Failure};
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;

/// How long a reply may wait for an event, at the end of the span only.
const AWAIT: Duration = Duration::from_millis(500);
/// The most events of one reply.
const EVENTS: u32 = 1_000;

type Reading = Pin<Box<dyn Future<Output = Result<(Cursor, StreamReply), Failure>> + Send>>;

/// An open replay.
pub struct Replay {
    database: CausalDatabase,
    watched: Vec<WatchedCollection>,
    until: Timestamp,
    /// Where the next reply is read.
    position: StreamPosition,
    stumbles: Stumbles,
    /// The answer that is waited for; the server works on it whether or not somebody waits.
    reading: Option<Reading>,
}

/// A part of the span.
#[derive(Debug)]
pub struct SpanPart {
    /// Its events, none of them later than the span.
    pub events: Vec<Event>,
    /// Everything before this cluster time is in this part or one before it.
    pub reached: Timestamp,
    /// Events of the span that cannot be read or delivered were passed over: at least so many.
    pub passed_over: u64,
    /// Nothing is left.
    pub ended: bool,
}

impl fmt::Debug for Replay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Replay").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Replay {
    /// From the first event at `from` or later, up to those at `until`, which must be in the past. By time,
    /// because a token belongs to the pipeline with which it was made.
    #[must_use]
    pub fn open(
        database: &CausalDatabase,
        watched: Vec<WatchedCollection>,
        (from, until): (Timestamp, Timestamp),
    ) -> Self {
        let stumbles = Stumbles::default();
        let mut replay = Self {
            database: database.clone(),
            watched,
            until,
            position: StreamPosition::At(from),
            stumbles,
            reading: None,
        };
        replay.open_again();
        replay
    }

    /// The next part; `None` when it is not there within `patience`, and after the last one.
    ///
    /// # Errors
    /// As [`Cursor::open`] and [`Cursor::next`]; it must be opened anew then.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<SpanPart>, Failure> {
        let Some(mut reading) = self.reading.take() else {
            return Ok(None);
        };
        let Ok(read) = tokio::time::timeout(patience, &mut reading).await else {
            self.reading = Some(reading);
            return Ok(None);
        };
        let (cursor, mut reply) = match read {
            Err(failure) if failure.directive() == Directive::PassOver => return self.pass_over(&failure).await,
            read => read?,
        };
        self.position = StreamPosition::After(reply.position.clone());
        let is_past = self.stumbles.replied(reply.events.len());
        let position = reply.position.cluster_time();
        let is_idle = reply.events.is_empty();
        let invalidates = reply.invalidates();
        reply.events.retain(|event| event.cluster_time <= self.until);
        // At the very end of the span, events of one transaction have the same time, in several replies.
        let ended = position > self.until || (is_idle && position >= self.until);
        if ended {
            drop(cursor);
        } else if invalidates || is_past {
            self.open_again();
        } else {
            self.reading = Some(Box::pin(read_on(cursor)));
        }
        Ok(Some(SpanPart { events: reply.events, reached: position.min(self.until), passed_over: 0, ended }))
    }

    fn open_again(&mut self) {
        let batch_size = self.stumbles.batch_size(EVENTS);
        self.reading = Some(open(self.database.clone(), self.watched.clone(), self.position.clone(), batch_size));
    }

    /// Reads again event by event; the second time, goes on behind the next event.
    async fn pass_over(&mut self, failure: &Failure) -> Result<Option<SpanPart>, Failure> {
        let way = match self.stumbles.meet(&self.position, failure.code()) {
            StumbleAction::Again => {
                self.open_again();
                return Ok(None);
            }
            StumbleAction::PassOne => StumbleAction::PassOne,
            // The span ends before now.
            StumbleAction::PassAll | StumbleAction::Wait => StumbleAction::PassAll,
        };
        let (last, is_one) = last_to_pass(&self.database, (&self.watched, &self.position), way).await?;
        let ended = last >= self.until;
        self.position = StreamPosition::At(behind(last));
        if !ended {
            self.open_again();
        }
        let is_outside = is_one && last > self.until;
        let reached = behind(last).min(self.until);
        Ok(Some(SpanPart { events: Vec::new(), reached, passed_over: u64::from(!is_outside), ended }))
    }
}

fn open(
    database: CausalDatabase,
    watched: Vec<WatchedCollection>,
    position: StreamPosition,
    batch_size: u32,
) -> Reading {
    Box::pin(async move {
        let cursor = Cursor::open(&database, (&watched, &position), AWAIT, batch_size).await?;
        read_on(cursor).await
    })
}

async fn read_on(mut cursor: Cursor) -> Result<(Cursor, StreamReply), Failure> {
    let reply = cursor.next(|_| {}).await?;
    Ok((cursor, reply))
}
