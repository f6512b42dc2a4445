//! The signs of life of all instances (`stream_processor_instances`): one document each, which only its instance writes.
//! They are for people. Nothing but a warning rests on them, so they need no lease.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::INSTANCES;
use crate::mongo::deadline::within;
use crate::mongo::reads::collection;
use crate::version::VERSION;

/// The time between two signs of life of an instance.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// The time without a sign after which an instance counts as silent.
const SILENT: Duration = Duration::from_secs(15);
/// The time for which the last sign of an instance that ended without a farewell is kept, in milliseconds: an hour.
const KEPT_MILLISECONDS: i64 = 3_600_000;
/// The number of instances that are read at most.
const SHOWN: i64 = 20;

/// The last sign of life of an instance. Times are by the server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredInstance {
    pub name: String,
    pub version: String,
    /// What the instance said of itself: `starting`, `standby`, `leader` or `stepped_down`.
    pub role: String,
    /// The time since which the instance has said this role.
    pub since: DateTime,
    pub seen_at: DateTime,
}

impl StoredInstance {
    fn of(stored: &Document) -> Option<Self> {
        let date = |field: &str| stored.get_datetime(field).ok().copied();
        let text = |field: &str| stored.get_str(field).ok().map(ToOwned::to_owned);
        Some(Self {
            name: text("_id")?,
            version: text("version")?,
            role: text("role")?,
            since: date("since")?,
            seen_at: date("seen_at")?,
        })
    }

    /// The time since the last sign; zero where the clock was read before the sign.
    #[must_use]
    pub(crate) fn age(&self, now: DateTime) -> Duration {
        let milliseconds = now.timestamp_millis() - self.seen_at.timestamp_millis();
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
    }

    /// True when several signs are overdue.
    #[must_use]
    pub(crate) fn is_silent(&self, now: DateTime) -> bool {
        self.age(now) > SILENT
    }
}

/// Writes the sign of life of the instance `name`.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn sign(database: &Database, name: &str, role: &str) -> Result<(), Failure> {
    let is_same = doc! { "$eq": ["$role", role] };
    let sign = vec![doc! { "$set": {
        "version": VERSION, "role": role,
        "since": { "$cond": [is_same, "$since", "$$NOW"] }, "seen_at": "$$NOW",
    } }];
    let signs = collection(database, INSTANCES);
    let sign = signs.update_one(doc! { "_id": name }, sign).upsert(true);
    within(INTERVAL, sign).await.map(drop).map_err(Failure::Write)
}

/// Deletes the sign of an instance that ends.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn forget(database: &Database, name: &str, longest: Duration) -> Result<(), Failure> {
    let signs = collection(database, INSTANCES);
    let forgotten = signs.delete_one(doc! { "_id": name });
    within(longest, forgotten).await.map(drop).map_err(Failure::Write)
}

/// Deletes the signs of instances that have been silent for an hour.
///
/// # Errors
/// [`Failure::Write`].
pub(crate) async fn forget_old(database: &Database) -> Result<(), Failure> {
    let bound = doc! { "$subtract": ["$$NOW", KEPT_MILLISECONDS] };
    let old = doc! { "$expr": { "$lt": ["$seen_at", bound] } };
    within(INTERVAL, collection(database, INSTANCES).delete_many(old)).await.map(drop).map_err(Failure::Write)
}

/// Reads the last signs of life, the newest first. A document of another shape is left out.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn read(database: &Database) -> Result<Vec<StoredInstance>, Failure> {
    let instances = collection(database, INSTANCES);
    let signs = instances.find(doc! {}).sort(doc! { "seen_at": -1 }).limit(SHOWN);
    let signs = async { signs.await?.try_collect::<Vec<Document>>().await };
    let signs = within(INTERVAL, signs).await.map_err(Failure::Read)?;
    Ok(signs.iter().filter_map(StoredInstance::of).collect())
}
