//! The cursor of the change stream: one `aggregate`, then one `getMore` per call, in one explicit session and from an
//! explicit position (spec 03, "Own the cursor"). The cursor never resumes by itself. Every error goes to the caller,
//! who knows the last position. Replies are read from the bytes that the server sent.

use std::time::Duration;

use bson::{Document, RawBsonRef, RawDocument, Timestamp, doc};
use futures::StreamExt as _;
use mongodb::raw_batch_cursor::{RawBatch, SessionRawBatchCursor};
use mongodb::{ClientSession, Database};
use resume_tokens::ResumeToken;

use super::aggregation::{self, Watched};
use super::event::{Event, Operation};
use crate::clock;
use crate::error::Failure;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::{ServerProgress, with_deadline};

/// The time without progress, beyond `maxTimeMS`, after which a stream counts as stalled. `maxTimeMS` bounds the wait
/// for an event, not the search for one. Far back in the oplog a search may take minutes, so it may go on as long as
/// the server makes progress.
const MARGIN: Duration = Duration::from_secs(10);
/// The interval at which the server is asked for the progress of a late `getMore`.
const LOOK: Duration = Duration::from_secs(2);
/// The number of seconds that a position may be ahead of the server's time. After an election, the new primary may not
/// have seen yet all that the old primary sent.
const AHEAD: u32 = 60;

/// The beginning of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamPosition {
    /// After an event, also an `invalidate`, or after a high-water mark.
    After(ResumeToken),
    /// With the first event at this cluster time or later.
    At(Timestamp),
}

impl StreamPosition {
    /// The cluster time of the position.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match self {
            Self::After(token) => token.cluster_time(),
            Self::At(time) => *time,
        }
    }
}

/// The reply to one `getMore`.
#[derive(Debug, Clone)]
pub(crate) struct StreamReply {
    /// The events in their total order.
    pub events: Vec<Event>,
    /// `postBatchResumeToken`: all events up to it are in this reply or in earlier ones.
    pub position: ResumeToken,
    /// The server's cluster time at the reply.
    pub operation_time: Timestamp,
}

impl StreamReply {
    /// True when the stream ends with an `invalidate` event. The caller then opens it anew after that event.
    #[must_use]
    pub(crate) fn invalidates(&self) -> bool {
        self.events.iter().any(|event| event.operation == Operation::Invalidate)
    }
}

/// An open cursor. Dropping it closes it on the server too.
pub(crate) struct Cursor {
    database: CausalDatabase,
    session: ClientSession,
    cursor: SessionRawBatchCursor,
    await_time: Duration,
    last: Timestamp,
}

impl Cursor {
    /// Opens the stream at `position`.
    ///
    /// # Errors
    /// [`Failure::Cursor`], [`Failure::Stalled`], [`Failure::Ahead`]. The directive of the failure says whether the
    /// position is at fault.
    pub(crate) async fn open(
        database: &CausalDatabase,
        watched: Watched<'_>,
        position: &StreamPosition,
        await_time: Duration,
        batch_size: u32,
    ) -> Result<Self, Failure> {
        // Events may have been missed before each opening, so caches must be emptied. This call is here so that no
        // caller can forget it.
        database.interrupt();
        let mut session = database.client().start_session().await.map_err(Failure::Cursor)?;
        let mut stages = vec![doc! { "$changeStream": start(position) }];
        stages.extend(aggregation::stages(watched));
        let command = doc! {
            "aggregate": 1, "pipeline": stages, "cursor": { "batchSize": 0 },
            "readConcern": { "level": "majority" },
        };
        // `watch` of the driver would resume by itself. This cursor sends each command once.
        let opening = database.run_cursor_command(command).batch_size(batch_size).max_time(await_time);
        let opening = tokio::time::timeout(await_time + MARGIN, opening.session(&mut session).batch()).await;
        let cursor = opening.map_err(|_| Failure::Stalled)?.map_err(Failure::Cursor)?;
        let last = Timestamp { time: 0, increment: 0 };
        let mut cursor = Self { database: database.clone(), session, cursor, await_time, last };
        let reply = cursor.reply(|_| {}).await?;
        let now = reply.as_raw_document().get_timestamp("operationTime");
        let now = now.map_err(|_| Failure::Reply("operationTime"))?;
        // The server accepts a position in the future, and sends nothing until that time has come.
        if position.time().time > now.time.saturating_add(AHEAD) {
            return Err(Failure::Ahead);
        }
        Ok(cursor)
    }

    /// Waits for the next reply. Events come at once. Without events, an empty reply comes when the server has searched
    /// the whole oplog and `await_time` has passed. During a longer search, `searching` gets the server's time every
    /// few seconds.
    ///
    /// # Errors
    /// [`Failure::Cursor`], [`Failure::Stalled`], [`Failure::Backwards`], or the failure of an unreadable reply.
    pub(crate) async fn next(&mut self, searching: impl Fn(Timestamp)) -> Result<StreamReply, Failure> {
        let reply = read(self.reply(searching).await?.as_raw_document())?;
        for event in &reply.events {
            if event.cluster_time < self.last {
                return Err(Failure::Backwards);
            }
            self.last = event.cluster_time;
        }
        // Later reads must not show a document as it was before these events.
        self.database.advance(reply.position.cluster_time());
        Ok(reply)
    }

    async fn reply(&mut self, searching: impl Fn(Timestamp)) -> Result<RawBatch, Failure> {
        let id = self.session.id().get("id").cloned();
        let mut work = ServerProgress::new(self.database.client(), doc! { "lsid.id": id });
        let mut replies = self.cursor.stream(&mut self.session);
        let mut reply = replies.next();
        let mut patience = self.await_time + LOOK;
        let mut got_on = clock::instant() + self.await_time;
        let reply = loop {
            if let Ok(reply) = tokio::time::timeout(patience, &mut reply).await {
                break reply;
            }
            match work.goes_on(LOOK).await {
                Some(time) => {
                    got_on = clock::instant();
                    searching(time);
                }
                None if got_on.elapsed() >= MARGIN => return Err(Failure::Stalled),
                None => {}
            }
            patience = LOOK;
        };
        // A cursor ends only after an `invalidate`, and the caller has that event by then. Any other end is a failure.
        reply.ok_or(Failure::Reply("cursor.id"))?.map_err(Failure::Cursor)
    }
}

fn start(position: &StreamPosition) -> Document {
    match position {
        // `resumeAfter` would refuse the token of an `invalidate`.
        StreamPosition::After(token) => doc! { "startAfter": token.to_document() },
        StreamPosition::At(time) => doc! { "startAtOperationTime": *time },
    }
}

fn read(reply: &RawDocument) -> Result<StreamReply, Failure> {
    let cursor = reply.get_document("cursor").map_err(|_| Failure::Reply("cursor"))?;
    let batch = cursor.get_array("nextBatch").map_err(|_| Failure::Reply("cursor.nextBatch"))?;
    let position = cursor.get_document("postBatchResumeToken");
    let position = position.map_err(|_| Failure::Reply("cursor.postBatchResumeToken"))?;
    let mut events = Vec::new();
    for event in batch {
        let event = event.ok().and_then(RawBsonRef::as_document).ok_or(Failure::Reply("cursor.nextBatch"))?;
        events.push(Event::read(event)?);
    }
    Ok(StreamReply {
        events,
        position: ResumeToken::from_raw(position).map_err(crate::error::EventError::from)?,
        operation_time: reply.get_timestamp("operationTime").map_err(|_| Failure::Reply("operationTime"))?,
    })
}

/// The server's wall clock in whole seconds. On an idle server the cluster time stays behind this clock.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn server_clock(database: &Database) -> Result<Timestamp, Failure> {
    let reply = with_deadline(database.run_command(doc! { "hello": 1 })).await.map_err(Failure::Read)?;
    let local = reply.get_datetime("localTime").map_err(|_| Failure::Reply("localTime"))?;
    let seconds = u32::try_from(local.timestamp_millis().div_euclid(1_000)).map_err(|_| Failure::Reply("localTime"))?;
    Ok(Timestamp { time: seconds, increment: 0 })
}

/// The cluster time of the server's last operation.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn operation_time(database: &Database) -> Result<Timestamp, Failure> {
    let reply = with_deadline(database.run_command(doc! { "ping": 1 })).await.map_err(Failure::Read)?;
    reply.get_timestamp("operationTime").map_err(|_| Failure::Reply("operationTime"))
}
