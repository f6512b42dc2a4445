//! Makes the server refuse commands of the service (MongoDB's failpoint `failCommand`, which `enableTestCommands`
//! allows). A server has only one such failpoint: use it on one that the test has for itself.

use std::time::Duration;

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::waiting::{PATIENCE, eventually};

/// An error that passes by itself: a write conflict.
pub(crate) fn passing() -> Document {
    doc! { "errorCode": 112 }
}

/// Lets this command on this collection fail in the given way, for the service alone, until [`mend`].
pub(crate) async fn refuse(database: &Database, command: &str, collection: &str, how: Document) {
    set(database, "alwaysOn", command, collection, how).await;
}

/// The same, but for the first `count` of them.
pub(crate) async fn refuse_after(database: &Database, count: i32, command: &str, collection: &str, how: Document) {
    set(database, doc! { "skip": count }, command, collection, how).await;
}

/// Lets every one of these commands wait for so long before it is executed, for the service alone, until [`mend`].
pub(crate) async fn freeze(database: &Database, commands: &[&str], milliseconds: i32) {
    let data = doc! {
        "failCommands": commands, "appName": "stream-processor", "blockConnection": true, "blockTimeMS": milliseconds,
    };
    configure(database, doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data }).await;
}

/// Lets the next `count` of these commands fail in the given way, for the service alone, where no collection is named on
/// any.
pub(crate) async fn refuse_next(
    database: &Database,
    count: i32,
    commands: &[&str],
    collection: Option<&str>,
    how: Document,
) -> Refusals {
    let mut data = doc! { "failCommands": commands, "appName": "stream-processor" };
    data.extend(collection.map(|name| ("namespace".to_owned(), format!("{}.{name}", database.name()).into())));
    data.extend(how);
    let mode = doc! { "times": count };
    let reply = configure(database, doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }).await;
    Refusals { before: counted(&reply), expected: count.into() }
}

/// Refusals to come.
pub(crate) struct Refusals {
    before: i64,
    expected: i64,
}

impl Refusals {
    /// Waits until the last of them has happened.
    ///
    /// # Panics
    /// When the service does not send so many of these commands.
    pub(crate) async fn happened(self, database: &Database, what: &str) {
        self.have_happened(self.expected, database, what).await;
    }

    /// Waits until so many of them have happened.
    ///
    /// # Panics
    /// As [`Self::happened`].
    pub(crate) async fn have_happened(&self, times: i64, database: &Database, what: &str) {
        let patience = i64::try_from(PATIENCE.as_millis()).unwrap();
        let all = self.before + times;
        let wait = doc! { "waitForFailPoint": "failCommand", "timesEntered": all, "maxTimeMS": patience };
        let happened = database.client().database("admin").run_command(wait).await;
        assert!(happened.is_ok(), "{what}: the service does not meet the fault");
    }

    /// How many there were. Nothing is refused any more.
    pub(crate) async fn so_far(self, database: &Database) -> i64 {
        counted(&mend(database).await) - self.before
    }
}

/// Lets everything through again.
pub(crate) async fn mend(database: &Database) -> Document {
    configure(database, doc! { "configureFailPoint": "failCommand", "mode": "off" }).await
}

async fn set(database: &Database, mode: impl Into<Bson>, command: &str, collection: &str, how: Document) {
    let mut data = doc! {
        "failCommands": [command],
        "namespace": format!("{}.{collection}", database.name()),
        "appName": "stream-processor",
    };
    data.extend(how);
    configure(database, doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data }).await;
}

async fn configure(database: &Database, failpoint: Document) -> Document {
    database.client().database("admin").run_command(failpoint).await.expect("the server has test commands")
}

/// How many commands this server ever refused.
fn counted(reply: &Document) -> i64 {
    let count = reply.get("count").and_then(|count| count.as_i64().or_else(|| count.as_i32().map(i64::from)));
    count.expect("the server counts")
}

/// Lets every search through this collection wait for so long each time that it yields to others, until [`mend_scans`]: as
/// if there were much more to search.
pub(crate) async fn slow_scans(database: &Database, namespace: &str, wait: Duration) {
    let data = doc! { "namespace": namespace, "waitForMillis": i32::try_from(wait.as_millis()).unwrap() };
    let slow = doc! { "configureFailPoint": "setYieldAllLocksWait", "mode": "alwaysOn", "data": data };
    configure(database, slow).await;
}

/// Searches are as fast as they are again.
pub(crate) async fn mend_scans(database: &Database) {
    configure(database, doc! { "configureFailPoint": "setYieldAllLocksWait", "mode": "off" }).await;
}

/// Waits until the server has answered the service's `getMore`: it would bring what happens now.
pub(crate) async fn until_no_get_more(database: &Database) {
    let stages = [
        doc! { "$currentOp": { "allUsers": true } },
        doc! { "$match": { "appName": "stream-processor", "command.getMore": { "$exists": true } } },
    ];
    eventually(PATIENCE, "the server waits for the service", async || {
        let running = database.client().database("admin").aggregate(stages.clone()).await.unwrap();
        let running: Vec<Document> = running.try_collect().await.unwrap();
        running.is_empty().then_some(())
    })
    .await;
}
