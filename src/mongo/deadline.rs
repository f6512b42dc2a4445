//! Waits for an answer of the server, but not for ever. The driver has no such limit: it notices that a whole server is
//! silent, not that one command is, on a connection whose other side is gone or in a server that hangs.

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

/// The longest that one command may take whose work is bounded: some ids, one document. One that takes longer than this
/// would be given up at every attempt.
const LONGEST: Duration = Duration::from_secs(30);
/// How long the server may work on a command without that it can be seen to get on: it does not tell every user.
const LONGEST_UNSEEN: Duration = Duration::from_mins(10);

/// The answer. What is given up may still be done by the server: like a command whose connection was cut, it is one that
/// can be sent again.
///
/// # Errors
/// Those of `asking`; a network error when there is no answer.
pub async fn with_deadline<T, E: From<MongoError>>(asking: impl IntoFuture<Output = Result<T, E>>) -> Result<T, E> {
    let answer = tokio::time::timeout(LONGEST, asking.into_future()).await;
    answer.unwrap_or_else(|_| Err(unanswered().into()))
}

/// The answer of a command whose work has no bound, such as a search without an index: waited for as long as the server
/// gets on with it. `comment` is the command's own, and no other command's.
///
/// # Errors
/// As [`with_deadline`].
pub async fn while_server_works<T, E: From<MongoError>>(
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

/// What the server does for a command that it has not answered yet, as it tells on another connection: a slow server is
/// told from one that is stuck by how often the command yielded to others, which it does every few milliseconds.
#[derive(Debug)]
pub struct ServerProgress {
    admin: Database,
    which: Document,
    yields: i64,
    began: std::time::Instant,
}

impl ServerProgress {
    /// The work on the command that `which` finds in `$currentOp`.
    #[must_use]
    pub fn new(client: &Client, which: Document) -> Self {
        Self { admin: client.database("admin"), which, yields: 0, began: clock::instant() }
    }

    /// The server's time, when it got on with the command since it was last asked; `None` when it did not, or does not
    /// answer `within` this time.
    pub async fn goes_on(&mut self, within: Duration) -> Option<Timestamp> {
        tokio::time::timeout(within, self.look()).await.ok().flatten()
    }

    async fn look(&mut self) -> Option<Timestamp> {
        let pong = self.admin.run_command(doc! { "ping": 1 }).await.ok()?;
        let time = pong.get_timestamp("operationTime").unwrap_or(Timestamp { time: 0, increment: 0 });
        match self.yields().await {
            Ok(yields) if yields > self.yields => self.yields = yields,
            Ok(_) => return None,
            // Where it is not told, an answer to the ping must do.
            Err(error) if command_code(&error).is_some() && self.began.elapsed() < LONGEST_UNSEEN => {}
            Err(_) => return None,
        }
        Some(time)
    }

    /// How often the command has yielded; 0 when the server has no such command.
    async fn yields(&self) -> Result<i64, MongoError> {
        let stages = [
            doc! { "$currentOp": { "allUsers": false } },
            doc! { "$match": &self.which },
            doc! { "$project": { "yields": { "$toLong": "$numYields" } } },
        ];
        // No state of documents: the server takes this stage with no other read concern.
        let asking = self.admin.aggregate(stages).read_concern(ReadConcern::local());
        let found: Option<Document> = asking.await?.try_next().await?;
        Ok(found.and_then(|found| found.get_i64("yields").ok()).unwrap_or_default())
    }
}
