//! Elections of a set of three members: the primary steps down, then the next one is killed and comes back with what it
//! wrote alone rolled back.

use bson::doc;
use mongodb::Database;
use xtask::mongod::ReplicaSet;

use super::waiting::{PATIENCE, eventually};

/// Makes both elections happen, and waits until the set is healthy again.
pub(crate) async fn elect_twice(set: &mut ReplicaSet, database: &Database) {
    let first = primary(database).await;
    // It answers by cutting the connection, or not at all.
    let down = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 10 };
    drop(database.client().database("admin").run_command(down).await);
    let second = another_primary(database, &first).await;
    let killed = (0..3).find(|index| set.member(*index).host() == second).unwrap();
    set.member(killed).kill();
    another_primary(database, &second).await;
    set.member(killed).restart().unwrap();
    set.wait_until_healthy().unwrap();
}

async fn primary(database: &Database) -> String {
    eventually(PATIENCE, "there is a primary", async || {
        let hello = database.client().database("admin").run_command(doc! { "hello": 1 }).await.ok()?;
        hello.get_bool("isWritablePrimary").ok()?.then(|| hello.get_str("me").unwrap().to_owned())
    })
    .await
}

async fn another_primary(database: &Database, than: &str) -> String {
    eventually(PATIENCE, "there is another primary", async || {
        let primary = primary(database).await;
        (primary != than).then_some(primary)
    })
    .await
}
