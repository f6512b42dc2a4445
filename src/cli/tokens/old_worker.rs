//! The command `tokens export --old-worker`, which stores tokens for the old worker's two streams at the present
//! position. A running service keeps these tokens current, but the token of a collection without events stays old.

use bson::{Timestamp, doc};
use mongodb::Database;
use resume_tokens::{OldWorkerTokens, ResumeToken};
use tokio_util::sync::CancellationToken;

use super::current;
use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::leader::checkpoint::OLD_WORKER_COLLECTIONS;
use crate::leader::lead::{hold, release_lease};
use crate::mongo::deadline::with_deadline;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::shown_time::shown_position;
use crate::tasks::Group;

/// Stores the tokens for the old worker, and holds the lease meanwhile.
///
/// # Errors
/// A [`Refusal`] while an instance runs, when there is no position, or when the oplog no longer holds the position.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub(super) async fn hand_over(context: &Context) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    let (lease, _) = hold(context, "writes these tokens by itself: stop all instances first", &mut group).await?;
    let handed_over = tokens_left(context).await;
    release_lease(&lease, &group).await;
    let time = handed_over?;
    println!("done: the old worker continues after {}", shown_position(time, context.time_zone));
    Ok(Exit::Done)
}

async fn tokens_left(context: &Context) -> Result<Timestamp, Refusal> {
    let time = current(context).await?.cluster_time;
    let left = OldWorkerTokens::new(Database::clone(&context.database));
    for collection in OLD_WORKER_COLLECTIONS {
        let token = token_at(context, collection.name(), time).await?;
        with_deadline(left.save(collection.name(), &token, clock::now())).await.map_err(Failure::from)?;
    }
    Ok(time)
}

/// The resume token of a new stream on one collection. The token of our stream, which is on the database, belongs to
/// another pipeline.
async fn token_at(context: &Context, collection: &str, time: Timestamp) -> Result<ResumeToken, Failure> {
    let command = doc! {
        "aggregate": collection, "pipeline": [{ "$changeStream": { "startAtOperationTime": time } }],
        "cursor": { "batchSize": 0 },
    };
    let reply = with_deadline(context.database.run_command(command)).await.map_err(Failure::Cursor)?;
    let cursor = reply.get_document("cursor").map_err(|_| Failure::Reply("cursor"))?;
    let token = cursor.get_document("postBatchResumeToken");
    let token = token.map_err(|_| Failure::Reply("cursor.postBatchResumeToken"))?;
    if let Ok(id) = cursor.get_i64("id") {
        // The cursor is not needed any more. The server would also close it by itself, but later.
        let closing = doc! { "killCursors": collection, "cursors": [id] };
        with_deadline(context.database.run_command(closing)).await.map_err(Failure::Cursor)?;
    }
    ResumeToken::from_document(token).map_err(|error| Failure::Event(error.into()))
}
