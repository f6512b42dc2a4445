//! Time limits for answers of the server. The driver has no such limit: it notices a silent server, but not one silent
//! command on a dead connection or in a server that hangs.

use std::future::IntoFuture;
use std::io;
use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc};
use futures::TryStreamExt as _;
use mongodb::error::Error as MongoError;
use mongodb::options::ReadConcern;
use mongodb::{Client, Database};

use crate::clock;
use crate::error::command_code;

/// The limit for a command whose work is bounded, such as a read of some ids or of one document. A command that takes
/// longer would be given up at every attempt.
const LONGEST: Duration = Duration::from_secs(30);
/// The limit for a command whose progress the server does not tell: not every user may see it.
const LONGEST_UNSEEN: Duration = Duration::from_mins(10);

/// Waits at most 30 s for the answer of a command. The server may still carry out a command that was given up. So the
/// command must be one that can be sent again, as after a broken connection.
///
/// # Errors
/// The errors of `asking`, and a network error when no answer comes.
pub(crate) async fn with_deadline<T, E: From<MongoError>>(
    asking: impl IntoFuture<Output = Result<T, E>>,
) -> Result<T, E> {
    within(LONGEST, asking).await
}

/// Waits at most `longest` for the answer of a command, as [`with_deadline`].
///
/// # Errors
/// As [`with_deadline`].
pub(crate) async fn within<T, E: From<MongoError>>(
    longest: Duration,
    asking: impl IntoFuture<Output = Result<T, E>>,
) -> Result<T, E> {
    let answer = tokio::time::timeout(longest, asking.into_future()).await;
    answer.unwrap_or_else(|_| Err(unanswered().into()))
}

/// Waits for the answer of a command whose work has no bound, such as a search without an index. The wait lasts as long
/// as the server makes progress. `comment` must be unique, because the work on the command is found by it.
///
/// # Errors
/// As [`with_deadline`].
pub(crate) async fn while_server_works<T, E: From<MongoError>>(
    client: &Client,
    comment: &Bson,
    asking: impl IntoFuture<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut work = ServerProgress::new(client, doc! { "command.comment": comment });
    let mut asking = std::pin::pin!(asking.into_future());
    loop {
        if let Ok(answer) = tokio::time::timeout(LONGEST, &mut asking).await {
            return answer;
        }
        if work.goes_on(LONGEST).await.is_none() {
            return Err(unanswered().into());
        }
    }
}

fn unanswered() -> MongoError {
    MongoError::from(io::Error::from(io::ErrorKind::TimedOut))
}

/// The progress of a command that the server has not answered yet, read on another connection. A running command yields
/// to others every few milliseconds. So the number of yields grows on a slow server, and stays on a stuck one.
#[derive(Debug)]
pub(crate) struct ServerProgress {
    admin: Database,
    which: Document,
    yields: i64,
    began: std::time::Instant,
}

impl ServerProgress {
    /// `which` is the filter that finds the command in `$currentOp`.
    #[must_use]
    pub(crate) fn new(client: &Client, which: Document) -> Self {
        Self { admin: client.database("admin"), which, yields: 0, began: clock::instant() }
    }

    /// The server's cluster time, if the command made progress since the last call. `None` without progress, or when
    /// the server does not answer `within` this time.
    pub(crate) async fn goes_on(&mut self, within: Duration) -> Option<Timestamp> {
        tokio::time::timeout(within, self.look()).await.ok().flatten()
    }

    async fn look(&mut self) -> Option<Timestamp> {
        let pong = self.admin.run_command(doc! { "ping": 1 }).await.ok()?;
        let time = pong.get_timestamp("operationTime").unwrap_or(Timestamp { time: 0, increment: 0 });
        match self.yields().await {
            Ok(yields) if yields > self.yields => self.yields = yields,
            Ok(_) => return None,
            // The server refuses to tell the progress. The answer to the ping must do, for a limited time.
            Err(error) if command_code(&error).is_some() && self.began.elapsed() < LONGEST_UNSEEN => {}
            Err(_) => return None,
        }
        Some(time)
    }

    /// The number of yields of the command so far; 0 when no such command runs.
    async fn yields(&self) -> Result<i64, MongoError> {
        let stages = [
            doc! { "$currentOp": { "allUsers": false } },
            doc! { "$match": &self.which },
            doc! { "$project": { "yields": { "$toLong": "$numYields" } } },
        ];
        // The server takes `$currentOp` with no other read concern.
        let asking = self.admin.aggregate(stages).read_concern(ReadConcern::local());
        let found: Option<Document> = asking.await?.try_next().await?;
        Ok(found.and_then(|found| found.get_i64("yields").ok()).unwrap_or_default())
    }
}
