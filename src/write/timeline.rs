//! The queue of the timeline's events. Nobody waits for an event: an event that finds the queue full is dropped, with a
//! warning in the log.

use std::time::Instant;

use bson::oid::ObjectId;
use tokio::sync::mpsc;
use tracing::warn;

use crate::clock;
use crate::model::timeline::TimelineEvent;

/// The capacity of the queue, in events.
pub(super) const WAITING: usize = 200;

/// The entrance of the queue of events.
#[derive(Debug, Clone)]
pub(crate) struct Timeline(pub(super) mpsc::Sender<Noted>);

/// A queued event. The id is chosen when the event happens, so that an event that is sent twice is stored once.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(super) id: ObjectId,
    /// The time at which it happened. The event may wait in the queue during an outage.
    pub(super) at: Instant,
    pub(super) event: TimelineEvent,
}

impl Noted {
    pub(super) fn now(event: TimelineEvent) -> Self {
        Self { id: ObjectId::new(), at: clock::instant(), event }
    }
}

impl Timeline {
    /// Queues an event without waiting.
    pub(super) fn note(&self, event: TimelineEvent) {
        let kind = event.kind();
        if self.0.try_send(Noted::now(event)).is_err() {
            warn!(kind, "an event of the timeline is dropped: the queue is full");
        }
    }
}
