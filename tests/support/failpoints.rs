//! Makes the server refuse commands of the service (MongoDB's failpoint `failCommand`, which `enableTestCommands`
//! allows). A server has only one such failpoint: use it on one that the test has for itself.

use bson::{Bson, Document, doc};
use mongodb::Database;

/// An error that passes by itself: a write conflict.
pub fn passing() -> Document {
    doc! { "errorCode": 112 }
}

/// Lets this command on this collection fail in the given way, for the service alone, until [`mend`].
pub async fn refuse(database: &Database, command: &str, collection: &str, how: Document) {
    set(database, "alwaysOn", command, collection, how).await;
}

/// The same, but for the first `count` of them.
pub async fn refuse_after(database: &Database, count: i32, command: &str, collection: &str, how: Document) {
    set(database, doc! { "skip": count }, command, collection, how).await;
}

/// Lets everything through again.
pub async fn mend(database: &Database) {
    configure(database, doc! { "configureFailPoint": "failCommand", "mode": "off" }).await;
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

async fn configure(database: &Database, failpoint: Document) {
    database.client().database("admin").run_command(failpoint).await.expect("the server has test commands");
}
