//! Waiting for conditions: never a guessed time, always a question that is asked again until it has an answer.

use std::time::{Duration, Instant};

use bson::{Document, Timestamp, doc};
use mongodb::Database;

/// Far more than a busy machine needs; only a fault reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The time between two questions. It grows while there is no answer: each question costs the server, the service and the test
/// processor time, and several tests run at once.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LAST_POLL: Duration = Duration::from_millis(100);

/// Asks until the answer is `Some`, and returns it.
///
/// # Panics
/// With `what` when there is none within `patience`.
pub(crate) async fn eventually<T>(patience: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut poll = FIRST_POLL;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < patience, "not within {} s: {what}", patience.as_secs());
        tokio::time::sleep(poll).await;
        poll = LAST_POLL.min(poll * 3 / 2);
    }
}

/// The server's time of the last write: everything that was written before is at or before it.
pub(crate) async fn cluster_time_now(database: &Database) -> Timestamp {
    let reply = database.run_command(doc! { "ping": 1 }).await.expect("the server answers");
    reply.get_timestamp("operationTime").expect("a replica set tells its time")
}

/// Waits until everything that was written to the database before this call has been handled. Writes nothing.
pub(crate) async fn caught_up(database: &Database) {
    let written = cluster_time_now(database).await;
    caught_up_to(database, written).await;
}

/// Waits until the checkpoint has reached `time`.
pub(crate) async fn caught_up_to(database: &Database, time: Timestamp) {
    eventually(PATIENCE, "the checkpoint reaches the last write", async || {
        checkpoint(database).await.filter(|checkpoint| *checkpoint >= time)
    })
    .await;
}

/// The cluster time of the checkpoint (spec 03, "Checkpoints"); `None` before the first.
pub(crate) async fn checkpoint(database: &Database) -> Option<Timestamp> {
    let states = database.collection::<Document>("stream_processor_state");
    let checkpoint = states.find_one(doc! { "_id": "checkpoint" }).await.expect("the server answers")?;
    checkpoint.get_timestamp("cluster_time").ok()
}
