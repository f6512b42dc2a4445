//! What the tests need: a database of their own, a folder of their own, checkpoints, and a change stream
//! opened and read by plain commands, as the service does it.

use std::path::PathBuf;

use bson::{Bson, DateTime, Document, Timestamp, doc};
use mongodb::{Client, ClientSession, Database};
use resume_tokens::{Checkpoint, FileStore, History, MongoStore, ResumeToken, Store};
use tempfile::TempDir;
use xtask::mongod::{TestServer, unique_database_name};

/// A database for one test; dropped when the value is.
pub(crate) struct TestDatabase {
    pub database: Database,
}

impl TestDatabase {
    pub(crate) async fn create() -> Self {
        Self::connect(TestServer::obtain().uri()).await
    }

    /// With a name of its own for its connections, so that a failpoint can be for them alone.
    pub(crate) async fn create_named(app_name: &str) -> Self {
        let uri = TestServer::obtain().uri();
        let separator = if uri.contains('?') { '&' } else { '?' };
        Self::connect(&format!("{uri}{separator}appName={app_name}")).await
    }

    async fn connect(uri: &str) -> Self {
        Self::with_client(&Client::with_uri_str(uri).await.expect("the connection string is ours"))
    }

    pub(crate) fn with_client(client: &Client) -> Self {
        Self { database: client.database(&unique_database_name("resume_tokens")) }
    }

    pub(crate) fn store(&self) -> Store {
        Store::MongoDb(MongoStore::new(self.database.clone()))
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.database.name().to_owned();
        // A runtime and a client of its own: the test's may be ending, and a drop cannot wait in it.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let uri = TestServer::obtain().uri();
            runtime.block_on(async { Client::with_uri_str(uri).await?.database(&name).drop().await })
        });
        let _: Result<mongodb::error::Result<()>, _> = cleaner.join();
    }
}

/// A folder for one test, with a store in it.
pub(crate) struct TestFolder {
    pub folder: TempDir,
    pub store: Store,
}

impl TestFolder {
    pub(crate) fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Files(FileStore::new(folder.path().to_owned(), "test"));
        Self { folder, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A checkpoint at this second of the stream, saved at the same second of the clock.
pub(crate) fn checkpoint(second: u32, term: i64) -> Checkpoint {
    let token = ResumeToken::parse(format!("82{second:08X}000000012B0229296E04")).unwrap();
    Checkpoint {
        cluster_time: token.cluster_time(),
        token,
        wall_time: Some(DateTime::from_millis(i64::from(second) * 1000)),
        term,
        fingerprint: "0123456789abcdef".to_owned(),
        events: i64::from(second) * 2,
        updated_at: DateTime::from_millis(i64::from(second) * 1000),
        history: Some(History { set: "rs0".to_owned(), database: "test".to_owned(), collection: None }),
    }
}

/// A change stream read by `aggregate` and `getMore`.
pub(crate) struct Stream {
    database: Database,
    session: ClientSession,
    cursor: i64,
    /// What `getMore` takes: the collection, or `$cmd.aggregate` for a whole database.
    collection: String,
    /// The first `postBatchResumeToken`: a position without an event.
    pub first_position: ResumeToken,
}

impl Stream {
    /// On the whole database.
    pub(crate) async fn open(database: &Database, options: Document) -> Self {
        Self::open_on(database, Bson::Int32(1), "$cmd.aggregate", options).await
    }

    /// On one collection, as the old worker does.
    pub(crate) async fn open_on_collection(database: &Database, collection: &str, options: Document) -> Self {
        Self::open_on(database, Bson::from(collection), collection, options).await
    }

    async fn open_on(database: &Database, target: Bson, collection: &str, options: Document) -> Self {
        let mut session = database.client().start_session().await.unwrap();
        let command = doc! {
            "aggregate": target,
            "pipeline": [{ "$changeStream": options }],
            "cursor": { "batchSize": 0 },
        };
        let reply = database.run_command(command).session(&mut session).await.unwrap();
        let cursor = reply.get_document("cursor").unwrap();
        Self {
            database: database.clone(),
            session,
            cursor: cursor.get_i64("id").unwrap(),
            collection: collection.to_owned(),
            first_position: position(cursor),
        }
    }

    /// The events that have come when the first one is there.
    pub(crate) async fn events(&mut self) -> Vec<Document> {
        loop {
            let command = doc! { "getMore": self.cursor, "collection": &self.collection, "maxTimeMS": 1000 };
            let reply = self.database.run_command(command).session(&mut self.session).await.unwrap();
            let batch = reply.get_document("cursor").unwrap().get_array("nextBatch").unwrap();
            if !batch.is_empty() {
                return batch.iter().map(|event| event.as_document().unwrap().clone()).collect();
            }
        }
    }

    /// All events up to `count` of them.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Document> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.events().await);
        }
        events
    }
}

fn position(cursor: &Document) -> ResumeToken {
    ResumeToken::from_document(cursor.get_document("postBatchResumeToken").unwrap()).unwrap()
}

/// An event's own token.
pub(crate) fn token_of(event: &Document) -> ResumeToken {
    ResumeToken::from_document(event.get_document("_id").unwrap()).unwrap()
}

/// The time at which the server is.
pub(crate) async fn operation_time(database: &Database) -> Timestamp {
    let reply = database.run_command(doc! { "ping": 1 }).await.unwrap();
    reply.get_timestamp("operationTime").unwrap()
}
