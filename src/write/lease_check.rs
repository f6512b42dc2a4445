//! The writer sends write commands, for the leader under its lease.
//! A command is sent only while the lease has enough time left. It has a time limit within the lease, and the server
//! refuses it when it begins too late ([`super::command_limit`]). So a paused instance, or a command that was held up on
//! its way, changes nothing under a successor (spec 00, guarantee 4).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bson::{DateTime, Document, RawDocumentBuf, Timestamp, oid::ObjectId};
use mongodb::error::{Error as MongoError, ErrorKind};
use mongodb::{ClientSession, Database};
use tokio::sync::watch;

use super::command_limit::{CommandLimit, fence, limits};
use super::own_writes::{OwnWrites, SentWrite};
use super::timeline::Timeline;
use crate::clock;
use crate::error::Failure;
use crate::interruption::{Interruption, Unfinished};
use crate::model::timeline::TimelineEvent;
use crate::notices::Notices;
use crate::observe::health::{Health, HealthPart};

/// The time limit of a command without a lease.
const LONGEST: Duration = Duration::from_secs(30);

/// The sender of write commands. Clones share the lease.
#[derive(Debug, Clone)]
pub struct Writer {
    database: Database,
    lease: Option<HeldLease>,
    /// The health to which the pipeline reports that it is alive; `None` for other writers.
    health: Option<Arc<Health>>,
    /// The timeline of the leadership; `None` for writers that tell no events.
    timeline: Option<Timeline>,
    /// The memory of the writes to offers; `None` where nobody watches for foreign writes.
    own_writes: Option<OwnWrites>,
    /// The queue of the notices about stored events.
    notices: Notices,
}

/// The time until which a lease allows writes, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The end by this process's monotonic clock. It counts from before the renewal was sent, so it comes before the
    /// end by the server's clock.
    pub until: Instant,
    /// The end by the clock of the server that renewed the lease. It is never later than the stored end, for which
    /// other instances wait.
    pub ends_at: DateTime,
    /// The same end as a time of the cluster; `None` where the cluster was there already, see [`super::command_limit::cluster_end`].
    pub cluster_end: Option<Timestamp>,
}

impl Validity {
    /// Returns the time that is left by this process's clock. It is zero when the lease is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(clock::instant())
    }
}

#[derive(Debug, Clone)]
struct HeldLease {
    validity: watch::Receiver<Validity>,
    duration: Duration,
    unanswered: Unanswered,
}

/// The time, by the server's clock, until which the server may still work on an unanswered command. A lease that is
/// given back is not free before that time.
#[derive(Debug, Clone, Default)]
pub struct Unanswered(Arc<AtomicI64>);

impl Unanswered {
    /// Returns the time in milliseconds since 1970; 0 if every command is answered.
    #[must_use]
    pub fn until(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A command that is sent. If it is dropped without an answer, the server may still carry it out.
struct Underway {
    unanswered: Unanswered,
    /// The time at which the server gives the command up, in milliseconds since 1970; 0 when it is answered.
    until: i64,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.unanswered.0.fetch_max(self.until, Ordering::AcqRel);
    }
}

impl Writer {
    /// Makes a writer without a lease, for commands that write nothing or beside which an instance may write.
    #[must_use]
    pub fn free(database: &Database) -> Self {
        Self {
            database: database.clone(),
            lease: None,
            health: None,
            timeline: None,
            own_writes: None,
            notices: Notices::default(),
        }
    }

    /// Makes a writer that writes as long as the lease is valid. `duration` is the time that a renewal gives.
    #[must_use]
    pub fn under(database: &Database, validity: watch::Receiver<Validity>, duration: Duration) -> Self {
        Self {
            database: database.clone(),
            lease: Some(HeldLease { validity, duration, unanswered: Unanswered::default() }),
            health: None,
            timeline: None,
            own_writes: None,
            notices: Notices::default(),
        }
    }

    /// Changes the writer to record unanswered commands in `unanswered`.
    #[must_use]
    pub fn telling(self, unanswered: &Unanswered) -> Self {
        let unanswered = unanswered.clone();
        Self { lease: self.lease.map(|held| HeldLease { unanswered, ..held }), ..self }
    }

    /// Changes the writer to report that the pipeline is alive, also while it searches for the document that makes
    /// commands overrun.
    #[must_use]
    pub fn of_pipeline(self, health: Arc<Health>) -> Self {
        Self { health: Some(health), ..self }
    }

    /// Changes the writer to send notices about the events that it stores.
    #[must_use]
    pub(crate) fn with_notices(self, notices: &Notices) -> Self {
        Self { notices: notices.clone(), ..self }
    }

    /// Queues the notice about a stored event, without waiting.
    pub(super) fn tell(&self, event: &TimelineEvent) {
        self.notices.tell(event.notice());
    }

    /// Changes the writer to tell its events to `timeline`.
    #[must_use]
    pub(crate) fn with_timeline(self, timeline: Timeline) -> Self {
        Self { timeline: Some(timeline), ..self }
    }

    /// Changes the writer to remember its writes to offers.
    #[must_use]
    pub(crate) fn remembering(self, own_writes: Option<OwnWrites>) -> Self {
        Self { own_writes, ..self }
    }

    /// The memory of the writes to offers; `None` where nobody watches for foreign writes.
    pub(crate) fn own_writes(&self) -> Option<OwnWrites> {
        self.own_writes.clone()
    }

    /// Remembers the offers of a command that is about to be sent; `None` where nobody asks, or there are none.
    pub(super) fn sends(&self, offers: impl FnOnce() -> Vec<ObjectId>) -> Option<SentWrite> {
        let own_writes = self.own_writes.as_ref()?;
        let offers = offers();
        (!offers.is_empty()).then(|| own_writes.sends(offers))
    }

    /// Queues an event for the timeline, without waiting.
    pub(crate) fn note(&self, event: TimelineEvent) {
        if let Some(timeline) = &self.timeline {
            timeline.note(event);
        }
    }

    /// Reports that the pipeline is alive, if this is the pipeline's writer.
    pub(super) fn alive(&self) {
        self.health.iter().for_each(|health| health.alive(HealthPart::Pipeline));
    }

    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Makes the variables (`let`) of a command by which the server refuses it when the lease has too little time left;
    /// `None` without a lease.
    ///
    /// # Errors
    /// [`Interruption::LeaseLost`].
    pub async fn variables(&self) -> Result<Option<Document>, Unfinished> {
        let variables = self.limit().await?.begins.map(fence);
        // The variables have only numbers and texts, so decoding cannot fail.
        Ok(variables.and_then(|variables| Document::try_from(variables).ok()))
    }

    /// Sends one command with `maxTimeMS`, and waits no longer than the lease allows. Half of the lease's time is for
    /// the way to the server and half for the work of the server, because `maxTimeMS` counts from the start of the work
    /// (MongoDB manual, "maxTimeMS"). The wait is a little longer than `maxTimeMS`, so that the server can report an
    /// overrun.
    ///
    /// # Errors
    /// [`Interruption::LeaseLost`], [`Failure::Overdue`], [`Failure::Write`].
    pub async fn send(&self, command: RawDocumentBuf) -> Result<Document, Unfinished> {
        let limit = self.limit().await?;
        let mut underway = self.underway(&limit);
        let reply = self.database.run_raw_command(limit.put_on(command));
        let reply = tokio::time::timeout(limit.patience(), reply.into_future()).await.map_err(|_| Failure::Overdue)?;
        if !reply.as_ref().is_err_and(is_unanswered) {
            underway.iter_mut().for_each(|underway| underway.until = 0);
        }
        Ok(reply.map_err(Failure::Write)?)
    }

    fn underway(&self, limit: &CommandLimit) -> Option<Underway> {
        let (held, begins) = (self.lease.as_ref()?, limit.begins?);
        let until =
            begins.before.timestamp_millis().saturating_add(i64::try_from(limit.time.as_millis()).unwrap_or(i64::MAX));
        Some(Underway { unanswered: held.unanswered.clone(), until })
    }

    /// Sends one command as a part of a session's transaction, otherwise as [`Self::send`].
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_in(&self, session: &mut ClientSession, command: RawDocumentBuf) -> Result<Document, Unfinished> {
        let limit = self.limit().await?;
        let reply = self.database.run_raw_command(limit.put_on(command)).session(session);
        let reply = tokio::time::timeout(limit.patience(), reply.into_future()).await.map_err(|_| Failure::Overdue)?;
        Ok(reply.map_err(Failure::Write)?)
    }

    /// Computes the limits of a command: half of the time that the lease has left. If less than half of a full duration
    /// is left, this waits for the next renewal.
    async fn limit(&self) -> Result<CommandLimit, Unfinished> {
        let Some(HeldLease { mut validity, duration, .. }) = self.lease.clone() else {
            return Ok(CommandLimit { time: LONGEST, begins: None });
        };
        loop {
            let known = *validity.borrow_and_update();
            let left = known.left();
            if left.is_zero() {
                return Err(Interruption::LeaseLost.into());
            }
            if left >= duration / 2 {
                let (time, begins) = limits((known.ends_at, known.cluster_end), duration, left);
                return Ok(CommandLimit { time, begins: Some(begins) });
            }
            // The wait ends with a renewal or with the lease. If the renewing task is gone, the lease counts as lost.
            let renewed = tokio::time::timeout(left, validity.changed()).await;
            if matches!(renewed, Ok(Err(_))) {
                return Err(Interruption::LeaseLost.into());
            }
        }
    }
}

/// True if the server may still carry the command out after this error, because the error is no answer of the server.
fn is_unanswered(error: &MongoError) -> bool {
    !matches!(*error.kind, ErrorKind::Command(_) | ErrorKind::Write(_) | ErrorKind::ServerSelection { .. })
}

#[cfg(test)]
mod tests {
    use mongodb::Client;

    use super::*;
    use crate::clock;
    use crate::write::command_limit::Begins;

    const DURATION: Duration = Duration::from_secs(10);

    async fn writer(ends_in: Duration) -> (watch::Sender<Validity>, Writer) {
        // The client connects only when something is sent.
        let client = Client::with_uri_str("mongodb://127.0.0.1:9/").await.unwrap();
        let (renewed, validity) = watch::channel(validity(ends_in));
        (renewed, Writer::under(&client.database("x"), validity, DURATION))
    }

    fn validity(ends_in: Duration) -> Validity {
        let millis = i64::try_from(ends_in.as_millis()).unwrap();
        Validity {
            until: clock::instant() + ends_in,
            ends_at: DateTime::from_millis(1_000_000 + millis),
            cluster_end: None,
        }
    }

    #[tokio::test]
    async fn a_fresh_lease_gives_half_of_itself_and_a_lost_one_nothing() {
        let (_renewed, fresh) = writer(DURATION).await;
        let limit = fresh.limit().await.unwrap();
        assert!(limit.time <= DURATION / 2 && limit.time > DURATION / 4, "{limit:?}");
        let Begins { after, before, .. } = limit.begins.unwrap();
        let ends = before.timestamp_millis() + i64::try_from(limit.time.as_millis()).unwrap();
        assert_eq!(ends, 1_010_000, "it ends with the lease");
        assert_eq!(after.timestamp_millis(), 990_000, "a duration before the lease was prolonged");
        let (_renewed, lost) = writer(Duration::ZERO).await;
        assert!(matches!(lost.limit().await, Err(Unfinished::Interrupted(Interruption::LeaseLost))));
        assert!(matches!(
            lost.send(RawDocumentBuf::new()).await,
            Err(Unfinished::Interrupted(Interruption::LeaseLost))
        ));
    }

    #[tokio::test]
    async fn near_its_end_a_renewal_is_waited_for() {
        let (renewed, near) = writer(DURATION / 4).await;
        let mut waiting = Box::pin(near.limit());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        renewed.send_replace(validity(DURATION));
        assert!(waiting.await.unwrap().time > DURATION / 4);
        drop(renewed);
        let (renewed, ended) = writer(DURATION / 4).await;
        drop(renewed);
        assert!(matches!(ended.limit().await, Err(Unfinished::Interrupted(Interruption::LeaseLost))));
    }
}
