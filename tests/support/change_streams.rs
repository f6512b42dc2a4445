//! Change streams on one collection, opened with the driver as the worker that we replace opens its own: where the
//! tokens come from that it would have left, and who resumes after those that we leave.

use bson::oid::ObjectId;
use bson::{Document, Timestamp};
use futures::TryStreamExt as _;
use mongodb::Collection;
use mongodb::change_stream::event::{ChangeStreamEvent, ResumeToken};

/// The event of one document.
pub(crate) struct Seen {
    /// The document's `_id`.
    pub id: ObjectId,
    /// The event's resume token, `{_data}`.
    pub token: Document,
}

/// The events of `collection` from `time` on, up to the first one of the document `last`.
pub(crate) async fn events_since(collection: &Collection<Document>, time: Timestamp, last: ObjectId) -> Vec<Seen> {
    let stream = collection.watch().start_at_operation_time(time).await.unwrap();
    until(stream, last).await
}

/// The events of `collection` after this token, up to the first one of the document `last`.
pub(crate) async fn events_after(collection: &Collection<Document>, token: &Document, last: ObjectId) -> Vec<Seen> {
    let token: ResumeToken = bson::deserialize_from_document(token.clone()).unwrap();
    let stream = collection.watch().resume_after(token).await.expect("the server takes the token");
    until(stream, last).await
}

async fn until(
    mut stream: mongodb::change_stream::ChangeStream<ChangeStreamEvent<Document>>,
    last: ObjectId,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        let event = stream.try_next().await.expect("the stream goes on").expect("an event");
        let id = event.document_key.unwrap().get_object_id("_id").unwrap();
        seen.push(Seen { id, token: bson::serialize_to_document(&event.id).unwrap() });
        if id == last {
            return seen;
        }
    }
}
