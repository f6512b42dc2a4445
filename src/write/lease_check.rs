//! The writer sends write commands, for the leader under its lease.
//! A command is sent only while the lease has enough time left. It has a time limit within the lease, and the server
//! refuses it when it begins too late. So a paused instance, or a command that was held up on its way, changes nothing
//! under a successor (spec 00, guarantee 4).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bson::raw::cstr;
use bson::{DateTime, Document, RawDocumentBuf, Timestamp, rawdoc};
use mongodb::error::{Error as MongoError, ErrorKind};
use mongodb::{ClientSession, Database};
use tokio::sync::watch;

use super::timeline::Timeline;
use crate::clock;
use crate::error::Failure;
use crate::interruption::{Interruption, Unfinished};
use crate::model::timeline::TimelineEvent;
use crate::observe::health::{Health, HealthPart};
use std::time::Instant;

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
    /// The same end as a time of the cluster; `None` where the cluster was there already, see [`cluster_end`].
    pub cluster_end: Option<Timestamp>,
}

/// Makes the end of a lease as a time of the cluster. Whoever takes the lease at its end writes at this time or later,
/// and the time of the cluster never goes back, whatever the clock of the next primary says (MongoDB manual,
/// "`$$CLUSTER_TIME`"). `renewed` is the time of the cluster at the renewal. It can be further ahead than the end, after
/// a primary whose clock was ahead. Then the clock alone must do, or no command could begin.
#[must_use]
pub fn cluster_end(ends_at: DateTime, renewed: Option<Timestamp>) -> Option<Timestamp> {
    let seconds = u32::try_from(ends_at.timestamp_millis().div_euclid(1_000)).ok()?;
    let end = Timestamp { time: seconds, increment: 0 };
    renewed.is_some_and(|renewed| renewed < end).then_some(end)
}

/// The times of the server between which a command may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begins {
    /// By the server's clock.
    pub after: DateTime,
    /// By the server's clock.
    pub before: DateTime,
    /// The time of the cluster before which the command may begin.
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

/// The limits of one command: its duration, and the times between which it may begin.
#[derive(Debug, Clone, Copy)]
struct Limit {
    time: Duration,
    begins: Option<Begins>,
}

impl Writer {
    /// Makes a writer without a lease, for commands that write nothing or beside which an instance may write.
    #[must_use]
    pub fn free(database: &Database) -> Self {
        Self { database: database.clone(), lease: None, health: None, timeline: None }
    }

    /// Makes a writer that writes as long as the lease is valid. `duration` is the time that a renewal gives.
    #[must_use]
    pub fn under(database: &Database, validity: watch::Receiver<Validity>, duration: Duration) -> Self {
        Self {
            database: database.clone(),
            lease: Some(HeldLease { validity, duration, unanswered: Unanswered::default() }),
            health: None,
            timeline: None,
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

    /// Changes the writer to tell its events to `timeline`.
    #[must_use]
    pub(crate) fn with_timeline(self, timeline: Timeline) -> Self {
        Self { timeline: Some(timeline), ..self }
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

    fn underway(&self, limit: &Limit) -> Option<Underway> {
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
    async fn limit(&self) -> Result<Limit, Unfinished> {
        let Some(HeldLease { mut validity, duration, .. }) = self.lease.clone() else {
            return Ok(Limit { time: LONGEST, begins: None });
        };
        loop {
            let known = *validity.borrow_and_update();
            let left = known.left();
            if left.is_zero() {
                return Err(Interruption::LeaseLost.into());
            }
            if left >= duration / 2 {
                let (time, begins) = limits((known.ends_at, known.cluster_end), duration, left);
                return Ok(Limit { time, begins: Some(begins) });
            }
            // The wait ends with a renewal or with the lease. If the renewing task is gone, the lease counts as lost.
            let renewed = tokio::time::timeout(left, validity.changed()).await;
            if matches!(renewed, Ok(Err(_))) {
                return Err(Interruption::LeaseLost.into());
            }
        }
    }
}

impl Limit {
    /// Returns the longest wait for an answer: more than the server may take, and less than the lease has left.
    fn patience(&self) -> Duration {
        self.time + self.time / 4
    }

    fn put_on(&self, mut command: RawDocumentBuf) -> RawDocumentBuf {
        command.append(cstr!("maxTimeMS"), i64::try_from(self.time.as_millis()).unwrap_or(i64::MAX));
        if let Some(begins) = self.begins {
            command.append(cstr!("let"), fence(begins));
        }
        command
    }
}

/// True if the server may still carry the command out after this error, because the error is no answer of the server.
fn is_unanswered(error: &MongoError) -> bool {
    !matches!(*error.kind, ErrorKind::Command(_) | ErrorKind::Write(_) | ErrorKind::ServerSelection { .. })
}

/// Computes the time limit of a command under a lease that ends at `ends` by the server's clock and by the time of the
/// cluster, and has `left` by the clock of this process. Also returns the times between which the command may begin.
#[must_use]
pub fn limits(ends: (DateTime, Option<Timestamp>), duration: Duration, left: Duration) -> (Duration, Begins) {
    let (time, (ends_at, cluster_end)) = (left / 2, ends);
    // By the clock that renewed the lease, the end is one duration away. By the clock of another member the end may be
    // days away. A successor need not wait so long (see [`crate::lease`]), so a command must not begin too early either.
    (time, Begins { after: earlier(ends_at, duration * 2), before: earlier(ends_at, time), cluster_end })
}

fn earlier(time: DateTime, duration: Duration) -> DateTime {
    let duration = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(time.timestamp_millis().saturating_sub(duration))
}

/// Makes a variable of the command that the server can compute only between these times. At another time each statement
/// fails with [`crate::error::FENCED`] and does nothing (MongoDB manual, "update", `let`; `$$NOW` and `$$CLUSTER_TIME` are
/// the times at which the command began). A filter on `$$NOW` in each statement would cost the server far more, and an
/// upsert takes none.
#[must_use]
pub fn fence(begins: Begins) -> RawDocumentBuf {
    let Begins { after, before, cluster_end } = begins;
    let mut in_time = rawdoc! { "$and": [{ "$gt": ["$$NOW", after] }, { "$lt": ["$$NOW", before] }] };
    if let Some(end) = cluster_end {
        in_time = rawdoc! { "$and": [in_time, { "$lt": ["$$CLUSTER_TIME", end] }] };
    }
    rawdoc! { "lease": { "$toInt": { "$cond": [in_time, "1", "over"] } } }
}

#[cfg(test)]
mod tests {
    use mongodb::Client;

    use super::*;
    use crate::clock;

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

    #[test]
    fn the_end_is_a_time_of_the_cluster_unless_the_cluster_is_there_already() {
        let at = |time, increment| Timestamp { time, increment };
        let end = |renewed| cluster_end(DateTime::from_millis(12_900), renewed);
        assert_eq!(end(Some(at(11, 7))), Some(at(12, 0)));
        assert_eq!([end(Some(at(12, 0))), end(Some(at(4_000, 1))), end(None)], [None; 3]);
        assert_eq!(cluster_end(DateTime::MAX, Some(at(11, 7))), None);
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
