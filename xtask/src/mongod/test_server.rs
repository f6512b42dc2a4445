//! The MongoDB of a test process. All its tests share the server, and each test has its own database.
//! It is never the server of `MONGODB_URI`, because tests write and drop data.

use std::sync::OnceLock;

use bson::doc;

use super::{Failure, Options, ReplicaSet};

/// The variable with the connection string of a MongoDB for tests. `cargo xtask test` sets it for its test processes.
/// Without it, a test process starts a MongoDB.
pub const TEST_URI_VARIABLE: &str = "STREAM_PROCESSOR_TEST_MONGODB_URI";

/// The greatest length of a database name. MongoDB's limit is 63 bytes (its manual, "Limits and Thresholds"), and a
/// test may add a suffix.
const NAME_BYTES: usize = 60;

/// A MongoDB replica set that all tests of this process share.
#[derive(Debug)]
pub struct TestServer {
    uri: String,
    /// Dropping the value stops the server. `None` when the server was started elsewhere.
    _started: Option<ReplicaSet>,
}

impl TestServer {
    /// The server of this process: the one that [`TEST_URI_VARIABLE`] names, else one that the first call starts.
    ///
    /// # Panics
    /// When no server can be started, because no test can run without it.
    #[allow(clippy::panic, reason = "for tests, which report a failure by a panic")]
    pub fn obtain() -> &'static Self {
        static SERVER: OnceLock<TestServer> = OnceLock::new();
        SERVER.get_or_init(|| Self::start().unwrap_or_else(|failure| panic!("no MongoDB for the tests: {failure}")))
    }

    /// As [`TestServer::obtain`], but the caller owns the value. `cargo xtask test` keeps it while test processes run.
    ///
    /// # Errors
    /// When no server can be started.
    pub fn start() -> Result<Self, Failure> {
        if let Some(uri) = std::env::var(TEST_URI_VARIABLE).ok().filter(|uri| !uri.is_empty()) {
            return Ok(Self { uri, _started: None });
        }
        let mut set = ReplicaSet::start(&Options::default())?;
        // For as long as a snapshot of the past may be asked for, the server keeps the files of a dropped database. By default
        // these are five minutes, and so thousands of files that its threads go through all the time. No test asks for one.
        set.member(0).ask(doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": 5 })?;
        Ok(Self { uri: set.uri(), _started: Some(set) })
    }

    /// The connection string.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// As the function [`unique_database_name`].
    #[must_use]
    pub fn unique_database_name(&self, prefix: &str) -> String {
        unique_database_name(prefix)
    }
}

/// A name that no other test of any process uses: `prefix`, shortened where it is too long, and a random part.
#[must_use]
pub fn unique_database_name(prefix: &str) -> String {
    let random = format!("_{:016x}", rand::random::<u64>());
    let prefix: String = prefix
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
        .take(NAME_BYTES - random.len())
        .collect();
    format!("{prefix}{random}")
}
