//! The lease elects one active instance, with a term and by the server's clock (spec 00, guarantee 4; spec 03).
//! An instance that cannot renew its lease in time stops writing before another one may start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::{Bson, DateTime, Document, Timestamp, doc};
use mongodb::{Collection, Database};
use tokio::sync::watch;

use crate::clock;
use crate::error::{DUPLICATE_KEY, Failure, command_code};
use crate::interruption::{Interruption, Unfinished};
use crate::model::names::STATE;
use crate::model::names::state_id::LEASE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::Writer;
use crate::write::command_limit::cluster_end;
use crate::write::lease_check::{Unanswered, Validity};

/// The greatest usual difference between the clocks of two members: a day. A greater one means that a clock was wrong.
const SKEW_MILLISECONDS: i64 = 24 * 3_600_000;

/// Makes the name of this process in the lease: host, process id, and a random part that makes the name unique.
#[must_use]
pub(crate) fn instance_name() -> String {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    format!("{host}/{}/{:08x}", std::process::id(), rand::random::<u32>())
}

/// Makes the name under which an instance holds the lease. Each of its leaderships has its own: a holder takes its own
/// lease at once, and a write of its leadership before may still be unanswered (docs/protocol.md). `before` is the number
/// of leaderships before this one.
#[must_use]
pub(crate) fn leadership_name(instance: &str, before: u64) -> String {
    if before == 0 { instance.to_owned() } else { format!("{instance}/{}", before + 1) }
}

/// The instance of a name that [`leadership_name`] made.
fn instance_of(holder: &str) -> &str {
    let end = holder.match_indices('/').nth(2).map_or(holder.len(), |(end, _)| end);
    holder.get(..end).unwrap_or(holder)
}

/// A lease that this process holds.
#[derive(Debug, Clone)]
pub struct Lease {
    collection: Collection<Document>,
    holder: String,
    duration: Duration,
    /// The term, which grows whenever the lease is taken. It also grows by [`Self::raise`].
    pub term: i64,
    /// The time until which this process may write.
    pub validity: Validity,
    /// The unanswered commands of all writers under this lease.
    unanswered: Unanswered,
    /// Whether any touch is applied in part. It is stored when the lease is given back.
    pub(crate) completeness: Completeness,
}

/// Whether every touch that the holders of the lease began is applied as a whole. A crash, a failure or an interruption
/// may leave a link that has grown while nobody decided yet who owns the job.
/// Until a holder begins touches, this is what the holder before it left. Clones share the value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Completeness(Arc<AtomicBool>);

impl Completeness {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, is_complete: bool) {
        self.0.store(is_complete, Ordering::Release);
    }
}

/// The document `lease`. Every field may be missing: other versions wrote other ones.
#[derive(Debug)]
pub(crate) struct StoredLease {
    /// The name that [`leadership_name`] made.
    holder: Option<String>,
    term: Option<i64>,
    renewed_at: Option<DateTime>,
    /// The duration that the holder set.
    duration: Option<Duration>,
    /// The time of the cluster at the last renewal.
    cluster_time: Option<Timestamp>,
    /// The time from which another process may take the lease.
    pub expires_at: Option<DateTime>,
    /// The lag of the leader at its last renewal, in seconds.
    lag: Option<f64>,
    /// The term of the last holder that gave the lease back with every touch applied as a whole.
    complete_term: Option<i64>,
}

impl StoredLease {
    /// Reads the lease, whether it is held or has expired; `None` if no process ever took it.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database) -> Result<Option<Self>, Failure> {
        Self::find(database, doc! { "_id": LEASE }).await
    }

    async fn find(database: &Database, filter: Document) -> Result<Option<Self>, Failure> {
        let lease = with_deadline(collection(database, STATE).find_one(filter)).await.map_err(Failure::Read)?;
        Ok(lease.as_ref().map(Self::of))
    }

    fn of(lease: &Document) -> Self {
        let date = |field: &str| lease.get_datetime(field).ok().copied();
        Self {
            holder: lease.get_str("holder").ok().map(ToOwned::to_owned),
            term: lease.get_i64("term").ok(),
            renewed_at: date("renewed_at"),
            duration: lease
                .get_i64("milliseconds")
                .ok()
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis),
            cluster_time: lease.get_timestamp("cluster_time").ok(),
            expires_at: date("expires_at"),
            lag: lease.get_f64("lag_seconds").ok(),
            complete_term: lease.get_i64("complete_term").ok(),
        }
    }

    /// Returns the validity of a lease of this duration that was just taken or renewed. `asked` is the time before that.
    fn validity(&self, asked: Instant, duration: Duration) -> Result<Validity, Failure> {
        let renewed = self.renewed_at.ok_or(Failure::OwnDocument { collection: STATE, field: "lease.renewed_at" })?;
        let ends_at = DateTime::from_millis(renewed.timestamp_millis().saturating_add(milliseconds(duration)));
        Ok(Validity { until: asked + duration, ends_at, cluster_end: cluster_end(ends_at, self.cluster_time) })
    }
}

/// The process that holds the lease.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holder {
    /// The name that [`instance_name`] made, whichever leadership of the instance this is.
    pub name: String,
    pub term: i64,
    /// The lag of the leader at its last renewal, in seconds; `None` if the lag was unknown.
    pub lag: Option<f64>,
    /// The last renewal, by the server's clock.
    renewed_at: Option<DateTime>,
    /// The duration of the lease; `None` from an older version.
    duration: Option<Duration>,
}

impl Holder {
    /// The time since the last renewal; `None` where the lease does not tell it. `now` is the server's time.
    #[must_use]
    pub(crate) fn heard(&self, now: DateTime) -> Option<Duration> {
        let milliseconds = now.timestamp_millis() - self.renewed_at?.timestamp_millis();
        // A read of the clock before the read of the lease may be earlier than the renewal.
        Some(Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default()))
    }

    /// True when a renewal is overdue: one comes every sixth of the duration, and may take as long again.
    #[must_use]
    pub(crate) fn is_silent(&self, now: DateTime) -> bool {
        self.heard(now).zip(self.duration).is_some_and(|(heard, duration)| heard > duration / 3)
    }
}

impl Lease {
    /// Takes the lease if it is free. Returns `None` if another process holds it.
    ///
    /// # Errors
    /// [`Failure::Write`].
    pub async fn acquire(database: &Database, holder: &str, duration: Duration) -> Result<Option<Self>, Failure> {
        let collection: Collection<Document> = collection(database, STATE);
        let asked = clock::instant();
        let lease = collection
            .find_one_and_update(doc! { "_id": LEASE }, taking(holder, duration))
            .upsert(true)
            .return_document(mongodb::options::ReturnDocument::After);
        let lease = match with_deadline(lease).await {
            Ok(lease) => StoredLease::of(&lease.unwrap_or_default()),
            // Two instances inserted the very first lease at the same moment, and the other one was faster.
            Err(error) if command_code(&error) == Some(DUPLICATE_KEY) => return Ok(None),
            Err(error) => return Err(Failure::Write(error)),
        };
        if lease.holder.as_ref().is_some_and(|taken_by| taken_by != holder) {
            return Ok(None);
        }
        let term = lease.term.ok_or(Failure::OwnDocument { collection: STATE, field: "lease.term" })?;
        let validity = lease.validity(asked, duration)?;
        let completeness = Completeness::default();
        // The holder before had the term before, unless it crashed or was of a version that does not store this field.
        completeness.set(lease.complete_term == Some(term - 1));
        Ok(Some(Self {
            collection,
            holder: holder.to_owned(),
            duration,
            term,
            validity,
            unanswered: Unanswered::default(),
            completeness,
        }))
    }

    /// Makes a writer that writes as long as `validity` allows.
    #[must_use]
    pub fn writer(&self, database: &Database, validity: watch::Receiver<Validity>) -> Writer {
        Writer::under(database, validity, self.duration).telling(&self.unanswered)
    }

    /// Renews the lease, and stores the lag of the leader in seconds for other processes to read.
    ///
    /// # Errors
    /// [`Interruption::LeaseLost`] when another instance took the lease, [`Failure::Overdue`], [`Failure::Write`].
    pub async fn renew(&mut self, lag: Option<f64>) -> Result<(), Unfinished> {
        let asked = clock::instant();
        let renewed = self
            .collection
            .find_one_and_update(self.mine(), renewing(self.duration, lag))
            .return_document(mongodb::options::ReturnDocument::After);
        // A renewal that hangs must not cost the lease. After a third of the duration there is time for another one.
        let renewed = tokio::time::timeout(self.duration / 3, renewed).await.map_err(|_| Failure::Overdue)?;
        let renewed = renewed.map_err(Failure::Write)?.ok_or(Interruption::LeaseLost)?;
        self.validity = StoredLease::of(&renewed).validity(asked, self.duration)?;
        Ok(())
    }

    /// Sets a higher term.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub async fn raise(&mut self, term: i64) -> Result<(), Unfinished> {
        let update = doc! { "$set": { "term": term } };
        let result = self.collection.update_one(self.mine(), update).await.map_err(Failure::Write)?;
        if result.matched_count == 0 {
            return Err(Interruption::LeaseLost.into());
        }
        self.term = term;
        Ok(())
    }

    /// Gives the lease back, so that a standby need not wait for its end. The standby still waits as long as the server
    /// may work on an unanswered command. Stores whether every touch is applied as a whole.
    ///
    /// # Errors
    /// [`Failure::Write`]. Then the lease ends by itself.
    pub async fn release(&self) -> Result<(), Failure> {
        let mut update = releasing(self.unanswered.until());
        if self.completeness.get() {
            update.push(doc! { "$set": { "complete_term": self.term } });
        }
        with_deadline(self.collection.update_one(self.mine(), update)).await.map_err(Failure::Write)?;
        Ok(())
    }

    /// Returns the time until which the server may still work on an unanswered command, in milliseconds since 1970.
    #[must_use]
    pub(crate) fn unanswered_until(&self) -> i64 {
        self.unanswered.until()
    }

    /// Returns the interval between renewals. It is so short that the lease nearly always has enough time left for a
    /// write, see [`crate::write::Writer`].
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.duration / 6
    }

    fn mine(&self) -> Document {
        held_by(&self.holder, self.term)
    }
}

/// Makes the filter of a lease that `holder` still has.
#[must_use]
pub fn held_by(holder: &str, term: i64) -> Document {
    doc! { "_id": LEASE, "holder": holder, "term": term }
}

/// Makes the update that takes the lease if it is free, and else changes nothing but a renewal far in the future.
#[must_use]
pub fn taking(holder: &str, duration: Duration) -> Vec<Document> {
    // An upsert takes no `$expr` in its filter, so the decision is inside the update.
    let free = doc! { "$or": [
        { "$lte": [{ "$ifNull": ["$expires_at", DateTime::MIN] }, "$$NOW"] },
        { "$eq": ["$holder", { "$literal": holder }] },
    ] };
    let renewed = Bson::from(doc! { "$ifNull": ["$renewed_at", "$$NOW"] });
    // A lease whose end is too far ahead counts as abandoned after one duration without a renewal. An older version
    // does not store its duration, which then counts as an hour, the longest one.
    let silent = doc! { "$add": [&renewed, { "$ifNull": ["$milliseconds", 3_600_000_i64] }] };
    let abandoned = doc! { "$and": [ahead(&"$expires_at".into()), { "$lte": [silent, "$$NOW"] }] };
    let free = doc! { "$or": [free, abandoned.clone()] };
    // A renewal far in the future was stored by a wrong clock. It is set to now, so that this wait begins now.
    let watched = doc! { "$cond": [ahead(&renewed), "$$NOW", renewed.clone()] };
    let if_free = |value: Bson, field: &str| doc! { "$cond": [free.clone(), value, field] };
    let until = doc! { "$cond": [abandoned, expiry(duration), never_sooner(duration)] };
    let next_term = doc! { "$add": [{ "$ifNull": ["$term", 0_i64] }, 1_i64] };
    vec![doc! { "$set": {
        "holder": if_free(doc! { "$literal": holder }.into(), "$holder"),
        "term": if_free(next_term.into(), "$term"),
        "acquired_at": if_free("$$NOW".into(), "$acquired_at"),
        "expires_at": if_free(until.into(), "$expires_at"),
        "renewed_at": { "$cond": [free.clone(), "$$NOW", watched] },
        "cluster_time": if_free("$$CLUSTER_TIME".into(), "$cluster_time"),
        "milliseconds": if_free(milliseconds(duration).into(), "$milliseconds"),
        "lag_seconds": if_free(Bson::Null, "$lag_seconds"),
    } }]
}

/// Makes the update that renews the lease, with the lag of the leader in seconds.
#[must_use]
pub fn renewing(duration: Duration, lag: Option<f64>) -> Vec<Document> {
    vec![doc! { "$set": {
        "expires_at": never_sooner(duration), "renewed_at": "$$NOW",
        "cluster_time": "$$CLUSTER_TIME", "milliseconds": milliseconds(duration), "lag_seconds": lag,
    } }]
}

/// Makes the update that gives the lease back. `unanswered` is the time, in milliseconds since 1970, until which the
/// server may still work on a command.
#[must_use]
pub fn releasing(unanswered: i64) -> Vec<Document> {
    let ends = doc! { "$min": ["$expires_at", { "$max": ["$$NOW", DateTime::from_millis(unanswered)] }] };
    vec![doc! { "$set": { "expires_at": ends } }]
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn expiry(duration: Duration) -> Document {
    doc! { "$add": ["$$NOW", milliseconds(duration)] }
}

/// Makes the end of a lease that is renewed now. The end never moves back: the clock of a new primary may be behind,
/// and a command that carries the stored end may still begin until that end.
fn never_sooner(duration: Duration) -> Document {
    doc! { "$max": ["$expires_at", expiry(duration)] }
}

/// Makes the condition that a time is further ahead than clocks of members usually differ. A wrong clock stored such a
/// time, and a standby would wait for days.
fn ahead(time: &Bson) -> Document {
    doc! { "$gt": [time, { "$add": ["$$NOW", SKEW_MILLISECONDS] }] }
}

/// Reads the process that holds the lease; `None` if the lease is free.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn current(database: &Database) -> Result<Option<Holder>, Failure> {
    let filter = doc! { "_id": LEASE, "$expr": { "$gt": ["$expires_at", "$$NOW"] } };
    let lease = StoredLease::find(database, filter).await?;
    Ok(lease.map(|lease| Holder {
        name: instance_of(&lease.holder.unwrap_or_default()).to_owned(),
        term: lease.term.unwrap_or_default(),
        lag: lease.lag,
        renewed_at: lease.renewed_at,
        duration: lease.duration,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_leadership_has_a_name_of_its_own_that_tells_the_instance() {
        let instance = instance_name();
        let names = [0, 1, 9].map(|before| leadership_name(&instance, before));
        assert_eq!(names, [instance.clone(), format!("{instance}/2"), format!("{instance}/10")]);
        assert_eq!(names.each_ref().map(|name| instance_of(name)), [instance.as_str(); 3]);
        assert_eq!(instance_of("another"), "another");
    }

    #[test]
    fn a_leader_is_silent_once_a_renewal_is_overdue_by_the_time_of_the_server() {
        let renewed_at = Some(DateTime::from_millis(100_000));
        let duration = Some(Duration::from_secs(9));
        let holder = Holder { name: String::new(), term: 1, lag: None, renewed_at, duration };
        let at = |millis: i64| {
            (holder.heard(DateTime::from_millis(millis)), holder.is_silent(DateTime::from_millis(millis)))
        };
        assert_eq!(at(103_000), (Some(Duration::from_secs(3)), false));
        assert!(at(103_001).1);
        assert_eq!(at(99_000), (Some(Duration::ZERO), false), "the clock was read before the lease");
        let older = Holder { duration: None, ..holder.clone() };
        assert!(!older.is_silent(DateTime::from_millis(900_000)), "an older version does not tell it");
    }
}
