//! The MongoDB of a test process: one for all its tests, each with a database of its own.
//! Never the user's `MONGODB_URI`: tests write and drop.

use std::sync::OnceLock;

use super::{Failure, Options, ReplicaSet};

/// Names a MongoDB that tests may use instead of starting one; `cargo xtask test` sets it for the processes that it starts.
pub const TEST_URI_VARIABLE: &str = "STREAM_PROCESSOR_TEST_MONGODB_URI";

/// MongoDB's limit is 63 bytes (its manual, "Limits and Thresholds"); a test may add a little to the name.
const NAME_BYTES: usize = 60;

/// A MongoDB replica set that all tests of this process share.
#[derive(Debug)]
pub struct TestServer {
    uri: String,
    /// Held for as long as the process lives; its end stops the server.
    _started: Option<ReplicaSet>,
}

impl TestServer {
    /// The server of this process: the one named by [`TEST_URI_VARIABLE`], else one that is started by the first call.
    ///
    /// # Panics
    /// When none can be started: no test can go on without it.
    #[allow(clippy::panic, reason = "for tests, which report a failure by a panic")]
    pub fn obtain() -> &'static Self {
        static SERVER: OnceLock<TestServer> = OnceLock::new();
        SERVER.get_or_init(|| Self::start().unwrap_or_else(|failure| panic!("no MongoDB for the tests: {failure}")))
    }

    /// The same, as a value of its own: for who starts the test processes.
    ///
    /// # Errors
    /// When none can be started.
    pub fn start() -> Result<Self, Failure> {
        if let Some(uri) = std::env::var(TEST_URI_VARIABLE).ok().filter(|uri| !uri.is_empty()) {
            return Ok(Self { uri, _started: None });
        }
        let set = ReplicaSet::start(&Options::default())?;
        Ok(Self { uri: set.uri(), _started: Some(set) })
    }

    /// The connection string.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// [`unique_database_name`].
    #[must_use]
    pub fn unique_database_name(&self, prefix: &str) -> String {
        unique_database_name(prefix)
    }
}

/// A name that nobody else uses, in this process or another: `prefix`, cut where it is too long, and a random part.
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
