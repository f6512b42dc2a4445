//! The change stream of a past span of time, for a replay (spec 06, "replay"). It also has the events of offers, so
//! that changes by other programs are found. Its position is never saved as the position of the live stream.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bson::Timestamp;

use super::aggregation::Watched;
use super::cursor::{Cursor, StreamPosition, StreamReply};
use super::event::Event;
use super::undeliverable::{StumbleAction, Stumbles, behind, last_to_pass};
use crate::error::{Directive, Failure};
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;

/// The longest wait of the server for an event. It waits only at the end of the span.
const AWAIT: Duration = Duration::from_millis(500);
/// The greatest number of events in one reply.
const EVENTS: u32 = 1_000;

type Reading = Pin<Box<dyn Future<Output = Result<(Cursor, StreamReply), Failure>> + Send>>;

/// The open change stream of a replay.
pub(crate) struct Replay {
    database: CausalDatabase,
    watched: Vec<WatchedCollection>,
    /// The label of our offers, where inserts of other offers are left out.
    own_label: Option<String>,
    until: Timestamp,
    /// The position after the last reply.
    position: StreamPosition,
    stumbles: Stumbles,
    /// The pending reply. The server works on it also between two calls of [`Self::next`]. `None` after the last part.
    reading: Option<Reading>,
}

/// The events of a part of the span.
#[derive(Debug)]
pub(crate) struct SpanPart {
    /// No event is later than the span.
    pub events: Vec<Event>,
    /// All events before this cluster time are in this part or in earlier ones.
    pub reached: Timestamp,
    /// The least number of undeliverable events that were passed over.
    pub passed_over: u64,
    /// True in the last part of the span.
    pub ended: bool,
}

impl SpanPart {
    /// Cuts the part after `most` events. Returns the rest; `None` if there is none.
    pub(crate) fn cut_after(&mut self, most: usize) -> Option<Self> {
        let rest = self.events.split_off(most.min(self.events.len()));
        let next = rest.first()?.cluster_time;
        let whole = (std::mem::replace(&mut self.reached, next), std::mem::take(&mut self.passed_over));
        Some(Self { events: rest, reached: whole.0, passed_over: whole.1, ended: std::mem::take(&mut self.ended) })
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Replay").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Replay {
    /// Opens the span from the first event at `from` to the last event at `until`, which must be in the past. The
    /// stream is opened by time, because a token belongs to the pipeline that made it.
    #[must_use]
    pub(crate) fn open(
        database: &CausalDatabase,
        watched: Vec<WatchedCollection>,
        from: Timestamp,
        until: Timestamp,
    ) -> Self {
        let stumbles = Stumbles::default();
        let mut replay = Self {
            database: database.clone(),
            watched,
            own_label: None,
            until,
            position: StreamPosition::At(from),
            stumbles,
            reading: None,
        };
        replay.open_again();
        replay
    }

    /// Changes the replay to leave out inserts of offers that have another label.
    #[must_use]
    pub(crate) fn without_foreign(mut self, own_label: &str) -> Self {
        self.own_label = Some(own_label.to_owned());
        self.open_again();
        self
    }

    /// The next part. `None` when no part comes within `patience`, and after the last part.
    ///
    /// # Errors
    /// As [`Cursor::open`] and [`Cursor::next`]. After an error the caller must open a new replay.
    pub(crate) async fn next(&mut self, patience: Duration) -> Result<Option<SpanPart>, Failure> {
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
        // Several replies may have events of one time, such as those of a transaction. So a reply that only reaches
        // `until` does not end the span, unless it is empty.
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
        let watched = (self.watched.clone(), self.own_label.clone());
        self.reading = Some(open(self.database.clone(), watched, self.position.clone(), batch_size));
    }

    /// Reads again with one event per reply. The same failure again passes over the next event.
    async fn pass_over(&mut self, failure: &Failure) -> Result<Option<SpanPart>, Failure> {
        let way = match self.stumbles.meet(&self.position, failure.code()) {
            StumbleAction::Again => {
                self.open_again();
                return Ok(None);
            }
            StumbleAction::PassOne => StumbleAction::PassOne,
            // A replay does not wait: passing over everything up to now ends the span.
            StumbleAction::PassAll | StumbleAction::Wait => StumbleAction::PassAll,
        };
        let (last, is_one) = last_to_pass(&self.database, &self.watched, &self.position, way).await?;
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
    (watched, own_label): (Vec<WatchedCollection>, Option<String>),
    position: StreamPosition,
    batch_size: u32,
) -> Reading {
    Box::pin(async move {
        // A replay also touches the recruiters of offers that another program took over.
        let (own_label, omits_foreign) = (own_label.as_deref(), own_label.is_some());
        let watched = Watched { collections: &watched, own_label, omits_foreign };
        let cursor = Cursor::open(&database, watched, &position, AWAIT, batch_size).await?;
        read_on(cursor).await
    })
}

async fn read_on(mut cursor: Cursor) -> Result<(Cursor, StreamReply), Failure> {
    let reply = cursor.next(|_| {}).await?;
    Ok((cursor, reply))
}
