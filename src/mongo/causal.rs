//! A database whose reads show what a majority has, and no state older than the last reply of the change stream.
//! After a failover the driver silently repeats a read on the new primary, whose majority may be behind for a moment.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bson::raw::cstr;
use bson::{RawDocumentBuf, Timestamp, rawdoc};
use mongodb::{ClientSession, Database};

use super::deadline::with_deadline;
use crate::error::Failure;

/// A database and its floor: the cluster time before which no state is read. Clones share the floor.
#[derive(Debug, Clone)]
pub struct CausalDatabase {
    database: Database,
    floor: Arc<AtomicU64>,
    continuity: Arc<AtomicU64>,
}

impl CausalDatabase {
    /// Until the first call of [`Self::advance`] there is no floor: reads may show a state of any time.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, floor: Arc::default(), continuity: Arc::default() }
    }

    /// Raises the floor to `time`, a cluster time that a majority has reached. The floor never falls.
    pub fn advance(&self, time: Timestamp) {
        let time = (u64::from(time.time) << 32) | u64::from(time.increment);
        self.floor.fetch_max(time, Ordering::Relaxed);
    }

    /// Ends the continuity of the change stream. Cached values of before are no longer valid, because events about them
    /// may be missed.
    pub fn interrupt(&self) {
        self.continuity.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of interruptions so far. A cache is valid only while this number is the same as when it was filled.
    #[must_use]
    pub fn continuity(&self) -> u64 {
        self.continuity.load(Ordering::Relaxed)
    }

    /// A session for one read. The server answers with a state that a majority has, at the floor or later
    /// (MongoDB manual, "Causal Consistency").
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn session(&self) -> Result<ClientSession, Failure> {
        let mut session = with_deadline(self.database.client().start_session()).await.map_err(Failure::Read)?;
        if let Some(floor) = self.floor() {
            session.advance_operation_time(floor);
        }
        Ok(session)
    }

    /// The same read concern with the floor, for a raw command, which takes none from the session.
    pub(crate) fn read_concern(&self) -> RawDocumentBuf {
        let mut concern = rawdoc! { "level": "majority" };
        if let Some(floor) = self.floor() {
            concern.append(cstr!("afterClusterTime"), floor);
        }
        concern
    }

    /// The cluster time before which no read from now on shows a state; `None` before the first [`Self::advance`].
    pub(crate) fn floor(&self) -> Option<Timestamp> {
        let floor = self.floor.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        (floor > 0).then(|| Timestamp { time: half(floor >> 32), increment: half(floor) })
    }
}

impl Deref for CausalDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

#[cfg(test)]
mod tests {
    use mongodb::Client;

    use super::*;

    #[tokio::test]
    async fn the_floor_only_rises_and_clones_share_it() {
        // The client connects only when something is sent.
        let client = Client::with_uri_str("mongodb://127.0.0.1:9/").await.unwrap();
        let database = CausalDatabase::new(client.database("x"));
        assert_eq!(database.floor(), None);
        let late = Timestamp { time: 4_000_000_000, increment: 7 };
        database.clone().advance(late);
        database.advance(Timestamp { time: 3_999_999_999, increment: u32::MAX });
        assert_eq!(database.floor(), Some(late));
    }
}
