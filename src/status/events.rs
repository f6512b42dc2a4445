//! Reads the timeline, for `events`, `status --watch` and the page. Events have words, counts and names of instances, never
//! values of documents.

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::model::names::EVENTS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::shown_text::printable;

/// The number of events on the page.
const SHOWN: u32 = 20;

/// An event of the page.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ShownEvent {
    /// The time at which the server stored the event (RFC 3339).
    pub at: String,
    pub kind: String,
    /// The fields of the kind, as one line.
    pub details: String,
}

/// Reads the events of the page, the newest first.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn newest(database: &Database) -> Result<Vec<ShownEvent>, Failure> {
    let events = read(database, DateTime::from_millis(0), &[], Some(SHOWN)).await?;
    let shown = |event: &Document| ShownEvent {
        at: time(event).unwrap_or_default(),
        kind: event.get_str("kind").unwrap_or_default().to_owned(),
        details: fields_text(event),
    };
    Ok(events.iter().rev().map(shown).collect())
}

/// Reads the newest events since a time, the oldest first. Without a limit, all of them.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn read(
    database: &Database,
    since: DateTime,
    kinds: &[String],
    limit: Option<u32>,
) -> Result<Vec<Document>, Failure> {
    let events = collection(database, EVENTS);
    let mut filter = doc! { "at": { "$gte": since } };
    if !kinds.is_empty() {
        filter.insert("kind", doc! { "$in": kinds });
    }
    let found = events.find(filter).sort(doc! { "at": -1, "_id": -1 });
    let found = found.limit(i64::from(limit.unwrap_or_default()));
    let found = async { found.await?.try_collect::<Vec<Document>>().await };
    let mut found = with_deadline(found).await.map_err(Failure::Read)?;
    found.reverse();
    Ok(found)
}

fn time(event: &Document) -> Option<String> {
    event.get_datetime("at").ok()?.try_to_rfc3339_string().ok()
}

/// The fields of the event's kind. Fields without a value are left out.
fn fields(event: &Document) -> impl Iterator<Item = (&String, Value)> {
    let own =
        event.iter().filter(|(name, value)| !["_id", "at", "kind"].contains(&name.as_str()) && **value != Bson::Null);
    own.map(|(name, value)| (name, json_value(value)))
}

/// A value as JSON; a time as RFC 3339.
fn json_value(value: &Bson) -> Value {
    match value {
        Bson::DateTime(time) => time.try_to_rfc3339_string().map_or(Value::Null, Value::String),
        other => other.clone().into_relaxed_extjson(),
    }
}

/// The event as JSON: time, kind, and the fields of its kind.
pub(crate) fn as_value(event: &Document) -> Value {
    let mut value = json!({ "at": time(event), "kind": event.get_str("kind").ok() });
    if let Some(object) = value.as_object_mut() {
        object.extend(fields(event).map(|(name, value)| (name.clone(), value)));
    }
    value
}

/// The fields of the event's kind, as one line.
pub(crate) fn fields_text(event: &Document) -> String {
    let fields: Vec<String> = fields(event).map(|(name, value)| format!("{name}={value}")).collect();
    printable(&fields.join(" ")).into_owned()
}
