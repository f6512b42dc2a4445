//! The event that tells of a new leadership: from whom, and how long after the leadership before began.

use bson::{Document, doc};

use crate::context::Context;
use crate::model::names::EVENTS;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;

/// Makes the event of the leadership that begins now. What cannot be read is left out: the event is for people, and a
/// leadership does not fail for it.
pub(super) async fn leadership(context: Context, term: i64) -> TimelineEvent {
    let events = collection(&context.database, EVENTS);
    let last = events.find_one(doc! { "kind": "leadership" }).sort(doc! { "at": -1 });
    let last: Option<Document> = with_deadline(last).await.ok().flatten();
    let began = last.as_ref().and_then(|last| last.get_datetime("at").ok());
    let now = server_time(&context.database).await.ok();
    let after = now.zip(began).map(|(now, began)| (now.timestamp_millis() - began.timestamp_millis()) / 1_000);
    TimelineEvent::Leadership {
        instance: context.deployment.instance.clone(),
        term,
        from: last.as_ref().and_then(|last| last.get_str("instance").ok()).map(ToOwned::to_owned),
        after_seconds: after,
    }
}
