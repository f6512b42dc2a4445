//! The change stream's cursor, owned: `aggregate` and `getMore` as plain commands in one explicit
//! session, always from an explicit position (spec 03, "Own the cursor"). It never resumes by itself:
//! every error goes to its caller, who knows the last position.

use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc};
use mongodb::{ClientSession, Database};
use resume_tokens::ResumeToken;

use super::event::{Collection, Event, Operation};
use super::pipeline;
use crate::answer::answered;
use crate::error::Failure;

/// How much longer than its own `maxTimeMS` a `getMore` may take before the stream counts as stalled.
const MARGIN: Duration = Duration::from_secs(10);
/// How many seconds a position may be ahead of the server's time: after an election, the new primary may
/// not have seen yet what the old one told.
const AHEAD: u32 = 60;

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Position {
    /// After an event (an `invalidate` too) or a high-water mark.
    After(ResumeToken),
    /// With the first event at this cluster time or later.
    At(Timestamp),
}

impl Position {
    /// Its cluster time.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match self {
            Self::After(token) => token.cluster_time(),
            Self::At(time) => *time,
        }
    }
}

/// What one command brought.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The events, in the one total order.
    pub events: Vec<Event>,
    /// `postBatchResumeToken`: everything up to it is in this reply or in one before.
    pub position: ResumeToken,
    /// The server's time when it answered.
    pub operation_time: Timestamp,
}

impl Reply {
    /// True when the stream ends here and must be opened after its `invalidate` event.
    #[must_use]
    pub fn invalidates(&self) -> bool {
        self.events.iter().any(|event| event.operation == Operation::Invalidate)
    }
}

/// An open cursor.
pub struct Cursor {
    database: Database,
    session: ClientSession,
    id: i64,
    await_time: Duration,
    longest: Duration,
    batch_size: u32,
    last: Timestamp,
}

impl Cursor {
    /// Opens the stream of these collections at `position`.
    ///
    /// # Errors
    /// [`Failure::Cursor`], [`Failure::Ahead`]; the directive tells whether the position is at fault.
    pub async fn open(
        database: &Database,
        (watched, position): (&[Collection], &Position),
        await_time: Duration,
        batch_size: u32,
    ) -> Result<Self, Failure> {
        let mut session = database.client().start_session().await.map_err(Failure::Cursor)?;
        let mut stages = vec![doc! { "$changeStream": start(position) }];
        stages.extend(pipeline::stages(watched));
        let command = doc! {
            "aggregate": 1, "pipeline": stages, "cursor": { "batchSize": 0 },
            "readConcern": { "level": "majority" },
        };
        let opening = database.run_command(command).session(&mut session);
        let reply = tokio::time::timeout(await_time + MARGIN, opening).await;
        let reply = reply.map_err(|_| Failure::Stalled)?.map_err(Failure::Cursor)?;
        // The server takes such a position, and is silent until that time has come.
        let now = reply.get_timestamp("operationTime").map_err(|_| Failure::Reply("operationTime"))?;
        if position.time().time > now.time.saturating_add(AHEAD) {
            return Err(Failure::Ahead);
        }
        let id = reply.get_document("cursor").ok().and_then(|cursor| cursor.get_i64("id").ok());
        let id = id.ok_or(Failure::Reply("cursor.id"))?;
        let last = Timestamp { time: 0, increment: 0 };
        let longest = await_time + MARGIN;
        Ok(Self { database: database.clone(), session, id, await_time, longest, batch_size, last })
    }

    /// Waits for an answer for up to `longest`: far back in the oplog, the server may look through much of it
    /// before it finds an event.
    #[must_use]
    pub fn patient(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Waits for the next reply: at once when there are events, else empty after `await_time`.
    ///
    /// # Errors
    /// [`Failure::Cursor`], [`Failure::Stalled`], or what makes a reply unreadable.
    pub async fn next(&mut self) -> Result<Reply, Failure> {
        let command = doc! {
            "getMore": self.id, "collection": "$cmd.aggregate", "batchSize": self.batch_size,
            "maxTimeMS": i64::try_from(self.await_time.as_millis()).unwrap_or(i64::MAX),
        };
        let waiting = self.database.run_command(command).session(&mut self.session);
        let reply = tokio::time::timeout(self.longest, waiting).await;
        let reply = reply.map_err(|_| Failure::Stalled)?.map_err(Failure::Cursor)?;
        let reply = read(&reply)?;
        for event in &reply.events {
            if event.cluster_time < self.last {
                return Err(Failure::Backwards);
            }
            self.last = event.cluster_time;
        }
        Ok(reply)
    }

    /// Tells the server that the cursor is done with. Its failure does not matter: the server forgets
    /// the cursor with its session.
    pub async fn close(mut self) {
        let command = doc! { "killCursors": "$cmd.aggregate", "cursors": [self.id] };
        let closing = self.database.run_command(command).session(&mut self.session);
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), closing).await {
            tracing::debug!(error = crate::error::describe(&error), "the cursor could not be closed");
        }
    }
}

fn start(position: &Position) -> Document {
    match position {
        // Not `resumeAfter`: that refuses the token of an `invalidate`.
        Position::After(token) => doc! { "startAfter": token.to_document() },
        Position::At(time) => doc! { "startAtOperationTime": *time },
    }
}

fn read(reply: &Document) -> Result<Reply, Failure> {
    let cursor = reply.get_document("cursor").map_err(|_| Failure::Reply("cursor"))?;
    let batch = cursor.get_array("nextBatch").map_err(|_| Failure::Reply("cursor.nextBatch"))?;
    let position = cursor.get_document("postBatchResumeToken");
    let position = position.map_err(|_| Failure::Reply("cursor.postBatchResumeToken"))?;
    let events = batch.iter().filter_map(Bson::as_document).map(Event::read).collect::<Result<_, _>>()?;
    Ok(Reply {
        events,
        position: ResumeToken::from_document(position).map_err(crate::source::event::EventError::from)?,
        operation_time: reply.get_timestamp("operationTime").map_err(|_| Failure::Reply("operationTime"))?,
    })
}

/// The server's cluster time now.
///
/// # Errors
/// [`Failure::Read`].
pub async fn operation_time(database: &Database) -> Result<Timestamp, Failure> {
    let reply = answered(database.run_command(doc! { "ping": 1 })).await.map_err(Failure::Read)?;
    reply.get_timestamp("operationTime").map_err(|_| Failure::Reply("operationTime"))
}
