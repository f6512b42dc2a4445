//! The right to write documents: the database and, for who leads, the lease. A command is sent only while the
//! lease has long enough to run, carries a time limit within it, and is refused by the server when it begins
//! too late: an instance that was paused, at whatever instant, or whose command was held up on the way, changes
//! nothing under its successor (spec 00, guarantee 4).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bson::raw::cstr;
use bson::{DateTime, Document, RawDocumentBuf, rawdoc};
use mongodb::error::{Error as MongoError, ErrorKind};
use mongodb::{ClientSession, Database};
use tokio::sync::watch;

use crate::clock;
use crate::error::Failure;
use crate::observe::health::{Health, HealthPart};
use std::time::Instant;

/// The time limit of a command without a lease to lose.
const LONGEST: Duration = Duration::from_secs(30);

/// Sends write commands.
#[derive(Debug, Clone)]
pub struct Writer {
    database: Database,
    lease: Option<HeldLease>,
    /// Told that the pipeline is alive while commands overrun.
    health: Option<Arc<Health>>,
}

/// Until when a lease allows writes, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// By this process's monotonic clock; counted from before the renewal was sent, so that it ends before the
    /// server's time does.
    pub until: Instant,
    /// By the clock of the server that prolonged it; never later than what is stored, which others wait for.
    pub ends_at: DateTime,
}

impl Validity {
    /// What is left of it, as this process knows; nothing once it is over.
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

/// Until when the server may still be at a command that it has not answered, by its own clock: a lease that is given back
/// is not free before.
#[derive(Debug, Clone, Default)]
pub struct Unanswered(Arc<AtomicI64>);

impl Unanswered {
    /// The time, in milliseconds since 1970; 0 when every command was answered.
    #[must_use]
    pub fn until(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A command on its way. Given up without an answer, it may still be done.
struct Underway {
    unanswered: Unanswered,
    /// When the server has given it up; 0 once it is answered.
    until: i64,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.unanswered.0.fetch_max(self.until, Ordering::AcqRel);
    }
}

/// How long one command may take, and between which times of the server's clock it may begin.
#[derive(Debug, Clone, Copy)]
struct Limit {
    time: Duration,
    begins: Option<(DateTime, DateTime)>,
}

impl Writer {
    /// Writes without a lease: for commands beside which an instance may write, or that write nothing.
    #[must_use]
    pub fn free(database: &Database) -> Self {
        Self { database: database.clone(), lease: None, health: None }
    }

    /// Writes as long as the lease is valid; `duration` is that of a fresh one.
    #[must_use]
    pub fn under(database: &Database, validity: watch::Receiver<Validity>, duration: Duration) -> Self {
        Self {
            database: database.clone(),
            lease: Some(HeldLease { validity, duration, unanswered: Unanswered::default() }),
            health: None,
        }
    }

    /// The same, which tells `unanswered` of each command that the server has not answered.
    #[must_use]
    pub fn telling(self, unanswered: &Unanswered) -> Self {
        let unanswered = unanswered.clone();
        Self { lease: self.lease.map(|held| HeldLease { unanswered, ..held }), ..self }
    }

    /// The same for the pipeline: it gives signs of life while it finds out which document makes commands overrun.
    #[must_use]
    pub fn of_pipeline(self, health: Arc<Health>) -> Self {
        Self { health: Some(health), ..self }
    }

    /// A sign of life of the pipeline, if it is the pipeline's.
    pub(super) fn alive(&self) {
        self.health.iter().for_each(|health| health.alive(HealthPart::Pipeline));
    }

    /// Where it writes.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The variables with which the server refuses a command once the lease has too little time left; none without a
    /// lease.
    ///
    /// # Errors
    /// [`Failure::LeaseLost`].
    pub async fn variables(&self) -> Result<Option<Document>, Failure> {
        let variables = self.limit().await?.begins.map(fence);
        // Built here of numbers and texts, so it always decodes.
        Ok(variables.and_then(|variables| Document::try_from(variables).ok()))
    }

    /// Sends one command with `maxTimeMS`, and waits no longer than the lease allows. Half of what the lease has
    /// left is for the way to the server, half for what the server does: `maxTimeMS` counts from when it begins
    /// (MongoDB manual, "maxTimeMS"). A server that took too long is waited for a little more, to hear it say so.
    ///
    /// # Errors
    /// [`Failure::LeaseLost`], [`Failure::Overdue`], [`Failure::Write`].
    pub async fn send(&self, command: RawDocumentBuf) -> Result<Document, Failure> {
        let limit = self.limit().await?;
        let mut underway = self.underway(&limit);
        let reply = self.database.run_raw_command(limit.put_on(command));
        let reply = tokio::time::timeout(limit.patience(), reply.into_future()).await.map_err(|_| Failure::Overdue)?;
        if !reply.as_ref().is_err_and(is_unanswered) {
            underway.iter_mut().for_each(|underway| underway.until = 0);
        }
        reply.map_err(Failure::Write)
    }

    fn underway(&self, limit: &Limit) -> Option<Underway> {
        let (held, (_, before)) = (self.lease.as_ref()?, limit.begins?);
        let until = before.timestamp_millis().saturating_add(i64::try_from(limit.time.as_millis()).unwrap_or(i64::MAX));
        Some(Underway { unanswered: held.unanswered.clone(), until })
    }

    /// The same, as a part of a session's transaction.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_in(&self, session: &mut ClientSession, command: RawDocumentBuf) -> Result<Document, Failure> {
        let limit = self.limit().await?;
        let reply = self.database.run_raw_command(limit.put_on(command)).session(session);
        tokio::time::timeout(limit.patience(), reply.into_future())
            .await
            .map_err(|_| Failure::Overdue)?
            .map_err(Failure::Write)
    }

    /// Half of what the lease has left, once that is half of a fresh lease: else the next renewal is waited for.
    async fn limit(&self) -> Result<Limit, Failure> {
        let Some(HeldLease { mut validity, duration, .. }) = self.lease.clone() else {
            return Ok(Limit { time: LONGEST, begins: None });
        };
        loop {
            let known = *validity.borrow_and_update();
            let left = known.left();
            if left.is_zero() {
                return Err(Failure::LeaseLost);
            }
            if left >= duration / 2 {
                let time = left / 2;
                // The lease was prolonged by a clock that stood one duration before its end. By one that is further back
                // than another, the end may be far, and a successor need not wait for it: see `Lease::acquire`.
                let begins = Some((earlier(known.ends_at, duration * 2), earlier(known.ends_at, time)));
                return Ok(Limit { time, begins });
            }
            // Its end, or a renewal; without anybody who renews, its end.
            let renewed = tokio::time::timeout(left, validity.changed()).await;
            if matches!(renewed, Ok(Err(_))) {
                return Err(Failure::LeaseLost);
            }
        }
    }
}

impl Limit {
    /// Less than the lease has left, and more than the server may take.
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

/// Whether the server may still do, after this error, what was asked of it: it has answered only in replies.
fn is_unanswered(error: &MongoError) -> bool {
    !matches!(*error.kind, ErrorKind::Command(_) | ErrorKind::Write(_) | ErrorKind::ServerSelection { .. })
}

fn earlier(time: DateTime, duration: Duration) -> DateTime {
    let duration = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(time.timestamp_millis().saturating_sub(duration))
}

/// A variable of the command that can be computed between these two times only, by the server's clock: else each
/// statement then fails with [`crate::error::FENCED`] and does nothing (MongoDB manual, "update", `let`; `$$NOW` is the time at
/// which the command began). A filter on `$$NOW` in each statement would cost the server far more, and an
/// upsert takes none.
fn fence((after, before): (DateTime, DateTime)) -> RawDocumentBuf {
    let in_time = rawdoc! { "$and": [{ "$gt": ["$$NOW", after] }, { "$lt": ["$$NOW", before] }] };
    rawdoc! { "lease": { "$toInt": { "$cond": [in_time, "1", "over"] } } }
}

#[cfg(test)]
mod tests {
    use mongodb::Client;

    use super::*;
    use crate::clock;

    const DURATION: Duration = Duration::from_secs(10);

    async fn writer(ends_in: Duration) -> (watch::Sender<Validity>, Writer) {
        // Connects to nobody until something is sent.
        let client = Client::with_uri_str("mongodb://127.0.0.1:9/").await.unwrap();
        let (renewed, validity) = watch::channel(validity(ends_in));
        (renewed, Writer::under(&client.database("x"), validity, DURATION))
    }

    fn validity(ends_in: Duration) -> Validity {
        let millis = i64::try_from(ends_in.as_millis()).unwrap();
        Validity { until: clock::instant() + ends_in, ends_at: DateTime::from_millis(1_000_000 + millis) }
    }

    #[tokio::test]
    async fn a_fresh_lease_gives_half_of_itself_and_a_lost_one_nothing() {
        let (_renewed, fresh) = writer(DURATION).await;
        let limit = fresh.limit().await.unwrap();
        assert!(limit.time <= DURATION / 2 && limit.time > DURATION / 4, "{limit:?}");
        let (after, before) = limit.begins.unwrap();
        let ends = before.timestamp_millis() + i64::try_from(limit.time.as_millis()).unwrap();
        assert_eq!(ends, 1_010_000, "it ends with the lease");
        assert_eq!(after.timestamp_millis(), 990_000, "a duration before the lease was prolonged");
        let (_renewed, lost) = writer(Duration::ZERO).await;
        assert!(matches!(lost.limit().await, Err(Failure::LeaseLost)));
        assert!(matches!(lost.send(RawDocumentBuf::new()).await, Err(Failure::LeaseLost)));
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
        assert!(matches!(ended.limit().await, Err(Failure::LeaseLost)));
    }
}
