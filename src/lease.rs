//! The lease: one instance is active, elected with a term, by the server's clock (spec 00, guarantee
//! 4; spec 03). Whoever cannot renew in time stops writing before another one may start.

use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use mongodb::{Collection, Database};
use tokio::sync::watch;

use crate::clock;
use crate::error::Failure;
use crate::model::names::STATE;
use crate::model::names::state_id::LEASE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::Writer;
use crate::write::writer::Unanswered;
use crate::write::writer::Validity;

/// The clocks of two members are never further apart than a day.
const SKEW_MILLISECONDS: i64 = 24 * 3_600_000;

/// Who this process is in the lease: host, process id, and a part that no other process has.
#[must_use]
pub(crate) fn holder() -> String {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    format!("{host}/{}/{:08x}", std::process::id(), rand::random::<u32>())
}

/// A held lease.
#[derive(Debug, Clone)]
pub struct Lease {
    collection: Collection<Document>,
    holder: String,
    duration: Duration,
    /// Grows by one with every change of holder.
    pub term: i64,
    /// Until when this process may write.
    pub validity: Validity,
    /// Told by those who write under it.
    unanswered: Unanswered,
}

/// Who holds the lease now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holder {
    /// See [`holder`].
    pub name: String,
    /// The term.
    pub term: i64,
    /// Its lag in seconds when it last renewed; `None` while it does not know.
    pub lag: Option<f64>,
}

impl Lease {
    /// Takes the lease if nobody holds it.
    ///
    /// # Errors
    /// [`Failure::Write`].
    pub async fn acquire(database: &Database, holder: &str, duration: Duration) -> Result<Option<Self>, Failure> {
        let collection: Collection<Document> = collection(database, STATE);
        let asked = clock::instant();
        // An upsert takes no `$expr` in its filter, so the decision is inside the update.
        let free = doc! { "$or": [
            { "$lte": [{ "$ifNull": ["$expires_at", DateTime::MIN] }, "$$NOW"] },
            { "$eq": ["$holder", { "$literal": holder }] },
        ] };
        let renewed = Bson::from(doc! { "$ifNull": ["$renewed_at", "$$NOW"] });
        // A version that does not tell for how long it takes the lease is given an hour, the longest one.
        let silent = doc! { "$add": [&renewed, { "$ifNull": ["$milliseconds", 3_600_000_i64] }] };
        let abandoned = doc! { "$and": [ahead(&"$expires_at".into()), { "$lte": [silent, "$$NOW"] }] };
        let free = doc! { "$or": [free, abandoned.clone()] };
        // Before that, one whose renewal seems to come is watched from now on.
        let watched = doc! { "$cond": [ahead(&renewed), "$$NOW", renewed.clone()] };
        let if_free = |value: Bson, field: &str| doc! { "$cond": [free.clone(), value, field] };
        let until = doc! { "$cond": [abandoned, expiry(duration), never_sooner(duration)] };
        let next_term = doc! { "$add": [{ "$ifNull": ["$term", 0_i64] }, 1_i64] };
        let update = vec![doc! { "$set": {
            "holder": if_free(doc! { "$literal": holder }.into(), "$holder"),
            "term": if_free(next_term.into(), "$term"),
            "acquired_at": if_free("$$NOW".into(), "$acquired_at"),
            "expires_at": if_free(until.into(), "$expires_at"),
            "renewed_at": { "$cond": [free.clone(), "$$NOW", watched] },
            "milliseconds": if_free(milliseconds(duration).into(), "$milliseconds"),
            "lag_seconds": if_free(Bson::Null, "$lag_seconds"),
        } }];
        let lease = collection
            .find_one_and_update(doc! { "_id": LEASE }, update)
            .upsert(true)
            .return_document(mongodb::options::ReturnDocument::After);
        let lease = match with_deadline(lease).await {
            Ok(lease) => lease.unwrap_or_default(),
            // Two first ever upserts met: the other one was faster.
            Err(error) if crate::error::command_code(&error) == Some(11000) => return Ok(None),
            Err(error) => return Err(Failure::Write(error)),
        };
        if lease.get_str("holder").is_ok_and(|taken_by| taken_by != holder) {
            return Ok(None);
        }
        let term =
            lease.get_i64("term").map_err(|_| Failure::OwnDocument { collection: STATE, field: "lease.term" })?;
        let validity = Validity { until: asked + duration, ends_at: ends_at(&lease, duration)? };
        Ok(Some(Self {
            collection,
            holder: holder.to_owned(),
            duration,
            term,
            validity,
            unanswered: Unanswered::default(),
        }))
    }

    /// The right to write as long as `validity` tells.
    #[must_use]
    pub fn writer(&self, database: &Database, validity: watch::Receiver<Validity>) -> Writer {
        Writer::under(database, validity, self.duration).telling(&self.unanswered)
    }

    /// Prolongs the lease, and tells the holder's lag in seconds where it is known: others read it there.
    ///
    /// # Errors
    /// [`Failure::LeaseLost`] when another instance took it, [`Failure::Overdue`], [`Failure::Write`].
    pub async fn renew(&mut self, lag: Option<f64>) -> Result<(), Failure> {
        let asked = clock::instant();
        let update = vec![doc! { "$set": {
            "expires_at": never_sooner(self.duration), "renewed_at": "$$NOW",
            "milliseconds": milliseconds(self.duration), "lag_seconds": lag,
        } }];
        let renewed = self
            .collection
            .find_one_and_update(self.mine(), update)
            .return_document(mongodb::options::ReturnDocument::After);
        // One that hangs must not cost the lease: there is time for another one.
        let renewed = tokio::time::timeout(self.duration / 3, renewed).await.map_err(|_| Failure::Overdue)?;
        let renewed = renewed.map_err(Failure::Write)?.ok_or(Failure::LeaseLost)?;
        self.validity = Validity { until: asked + self.duration, ends_at: ends_at(&renewed, self.duration)? };
        Ok(())
    }

    /// Takes a later term than the next one.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub async fn raise(&mut self, term: i64) -> Result<(), Failure> {
        let update = doc! { "$set": { "term": term } };
        let result = self.collection.update_one(self.mine(), update).await.map_err(Failure::Write)?;
        if result.matched_count == 0 {
            return Err(Failure::LeaseLost);
        }
        self.term = term;
        Ok(())
    }

    /// Gives the lease back, so that a standby need not wait: except as long as the server may still be at what it was sent
    /// and has not answered.
    ///
    /// # Errors
    /// [`Failure::Write`]; the lease then ends by itself.
    pub async fn release(&self) -> Result<(), Failure> {
        let until = DateTime::from_millis(self.unanswered.until());
        let ends = doc! { "$min": ["$expires_at", { "$max": ["$$NOW", until] }] };
        let update = vec![doc! { "$set": { "expires_at": ends } }];
        with_deadline(self.collection.update_one(self.mine(), update)).await.map_err(Failure::Write)?;
        Ok(())
    }

    /// How often to renew: so often that what is left of the lease nearly always allows a write, see
    /// [`crate::write::Writer`].
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.duration / 6
    }

    fn mine(&self) -> Document {
        doc! { "_id": LEASE, "holder": &self.holder, "term": self.term }
    }
}

fn ends_at(lease: &Document, duration: Duration) -> Result<DateTime, Failure> {
    let renewed = lease.get_datetime("renewed_at").map(|time| time.timestamp_millis());
    let renewed = renewed.map_err(|_| Failure::OwnDocument { collection: STATE, field: "lease.renewed_at" })?;
    Ok(DateTime::from_millis(renewed.saturating_add(milliseconds(duration))))
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn expiry(duration: Duration) -> Document {
    doc! { "$add": ["$$NOW", milliseconds(duration)] }
}

/// The end of a lease that is prolonged now. The primary may be another one, whose clock is behind: a command that was
/// given the end that is stored may still begin until then.
fn never_sooner(duration: Duration) -> Document {
    doc! { "$max": ["$expires_at", expiry(duration)] }
}

/// True for a time that no skew between members explains: a server's clock was ahead when it was stored. Who waited for it
/// would wait for days.
fn ahead(time: &Bson) -> Document {
    doc! { "$gt": [time, { "$add": ["$$NOW", SKEW_MILLISECONDS] }] }
}

/// Who holds the lease now; `None` when nobody does.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn current(database: &Database) -> Result<Option<Holder>, Failure> {
    let filter = doc! { "_id": LEASE, "$expr": { "$gt": ["$expires_at", "$$NOW"] } };
    let lease = with_deadline(collection(database, STATE).find_one(filter)).await.map_err(Failure::Read)?;
    Ok(lease.map(|lease| Holder {
        name: lease.get_str("holder").unwrap_or_default().to_owned(),
        term: lease.get("term").and_then(Bson::as_i64).unwrap_or_default(),
        lag: lease.get_f64("lag_seconds").ok(),
    }))
}
