//! The task that writes the timeline (`stream_processor_events`) beside the work. The leader writes events under its
//! lease. An event that cannot be written is dropped, with a warning in the log.

use std::time::{Duration, Instant};

use bson::{DateTime, Document, doc, oid::ObjectId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lease_check::Writer;
use super::timeline::{Noted, Timeline, WAITING};
use super::update_command;
use crate::clock;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::names::EVENTS;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::retry::Delays;

/// The time after which the server is asked for its time again, because clocks drift.
const ASK_AGAIN: Duration = Duration::from_secs(3_600);
/// The number of attempts to write one event.
const ATTEMPTS: u32 = 3;
/// The time for which events are kept, in milliseconds: 90 days.
const KEPT_MILLISECONDS: i64 = 90 * 24 * 3_600_000;
/// The number of events that are kept.
const KEPT: u64 = 20_000;
/// The number of events after which old ones are deleted again.
const FORGET_AFTER: u32 = 500;

/// The task that writes the queued events.
#[derive(Debug)]
pub(crate) struct Recorder {
    inbox: mpsc::Receiver<Noted>,
    /// A time of the server, and the moment by this process's monotonic clock at which it was asked for.
    server: Option<(DateTime, Instant)>,
}

/// Makes both ends of the queue.
#[must_use]
pub(crate) fn recorder() -> (Timeline, Recorder) {
    let (sender, inbox) = mpsc::channel(WAITING);
    (Timeline(sender), Recorder { inbox, server: None })
}

impl Recorder {
    /// Writes one event, and then runs as [`Self::run`].
    ///
    /// # Errors
    /// None: a failure to write an event is logged.
    pub(crate) async fn run_after(
        mut self,
        writer: Writer,
        first: impl Future<Output = TimelineEvent>,
        stop: CancellationToken,
    ) -> Result<(), Unfinished> {
        // What happens while the event is made comes after it.
        let (id, at) = (ObjectId::new(), clock::instant());
        let event = first.await;
        self.put(&writer, Noted { id, at, event }).await;
        self.run(writer, stop).await;
        Ok(())
    }

    /// Writes the queued events with `writer`, until `stop`.
    pub(crate) async fn run(mut self, writer: Writer, stop: CancellationToken) {
        let mut until_forgotten = 0;
        loop {
            let noted = tokio::select! { noted = self.inbox.recv() => noted, () = stop.cancelled() => None };
            let Some(noted) = noted else { break };
            self.put(&writer, noted).await;
            if until_forgotten == 0 {
                until_forgotten = FORGET_AFTER;
                if let Err(unfinished) = forget(&writer).await {
                    warn!(error = %unfinished, "old events of the timeline could not be deleted");
                }
            }
            until_forgotten -= 1;
        }
        self.drain(&writer).await;
        // Without a queue that can be read, the task still lasts as long as its group.
        stop.cancelled().await;
    }

    /// Writes the events that are queued.
    pub(crate) async fn drain(&mut self, writer: &Writer) {
        while let Ok(noted) = self.inbox.try_recv() {
            self.put(writer, noted).await;
        }
    }

    /// Writes an event with the time at which it happened, by the server's clock: it may have waited in the queue.
    async fn put(&mut self, writer: &Writer, noted: Noted) {
        if self.server.is_none_or(|(_, asked)| asked.elapsed() >= ASK_AGAIN) {
            let asked = clock::instant();
            if let Ok(time) = server_time(writer.database()).await {
                self.server = Some((time, asked));
            }
        }
        let at = self.server.map(|(time, asked)| {
            let milliseconds = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
            let after = milliseconds(noted.at.saturating_duration_since(asked));
            let before = milliseconds(asked.saturating_duration_since(noted.at));
            DateTime::from_millis(time.timestamp_millis().saturating_add(after).saturating_sub(before))
        });
        put(writer, noted, at).await;
    }
}

/// Writes one event, with the time `at`, or else the time of the server when it is written.
async fn put(writer: &Writer, Noted { id, event, .. }: Noted, at: Option<DateTime>) {
    let mut fields = doc! { "kind": event.kind() };
    fields.extend(event.fields());
    let mut update = Document::new();
    match at {
        Some(at) => drop(fields.insert("at", at)),
        None => drop(update.insert("$currentDate", doc! { "at": true })),
    }
    update.insert("$setOnInsert", fields);
    let mut delays = Delays::up_to(Duration::from_secs(2));
    for attempt in 1..=ATTEMPTS {
        match update_command::record(writer, EVENTS, doc! { "_id": id }, update.clone()).await {
            Ok(()) => return writer.tell(&event),
            Err(unfinished) => {
                let kind = event.kind();
                let is_over = attempt == ATTEMPTS || matches!(unfinished, Unfinished::Interrupted(_));
                if is_over {
                    warn!(kind, error = %unfinished, "an event of the timeline could not be written; it is dropped");
                    return;
                }
            }
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
}

/// Writes one event at once. A failure is only logged.
pub(crate) async fn note_at_once(writer: &Writer, event: TimelineEvent) {
    put(writer, Noted::now(event), None).await;
}

/// Deletes the events that are too old or too many.
async fn forget(writer: &Writer) -> Result<(), Unfinished> {
    let database = writer.database();
    let old = server_time(database).await?.timestamp_millis().saturating_sub(KEPT_MILLISECONDS);
    let events = collection(database, EVENTS);
    let newest = events.find_one(doc! {}).sort(doc! { "at": -1 }).skip(KEPT);
    let surplus = with_deadline(newest).await.map_err(Failure::Read)?;
    let surplus = surplus.as_ref().and_then(|event: &Document| event.get_datetime("at").ok().copied());
    let before = surplus.map_or(old, |surplus| surplus.timestamp_millis().max(old));
    update_command::delete(writer, EVENTS, doc! { "at": { "$lte": DateTime::from_millis(before) } }).await
}
