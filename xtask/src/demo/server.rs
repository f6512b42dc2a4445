//! The MongoDB of the demo: the user's server with a new database, or a server that is started for the demo.

use xtask::mongod::{self, ReplicaSet};

/// The server and the database of the demo.
pub(super) struct DemoServer {
    uri: String,
    database: String,
    /// Dropping the value stops the server. `None` when the server is the user's.
    started: Option<ReplicaSet>,
}

impl DemoServer {
    pub(super) fn obtain() -> Result<Self, mongod::Failure> {
        if let Some(uri) = std::env::var("MONGODB_URI").ok().filter(|uri| !uri.is_empty()) {
            let database = mongod::unique_database_name("stream_processor_demo");
            println!("using the MongoDB of MONGODB_URI, database {database} (dropped at the end)");
            return Ok(Self { uri, database, started: None });
        }
        let set = ReplicaSet::start(&mongod::Options::default())?;
        println!("started MongoDB: {}", set.uri());
        Ok(Self { uri: set.uri(), database: "demo".to_owned(), started: Some(set) })
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// True when the server is the user's. The demo must then drop its database.
    pub(super) fn is_theirs(&self) -> bool {
        self.started.is_none()
    }
}
