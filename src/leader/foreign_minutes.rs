//! The stored counts of foreign writes (`stream_processor_foreign_writes`): one document for each minute with such writes
//! and each leadership, for 90 days. The status reads the last hour.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use super::foreign_counts::{ForeignCounts, beginning, document};
use crate::context::Context;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::names::FOREIGN_WRITES;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::write::{Writer, update_command};

const HOUR_MILLISECONDS: i64 = 3_600_000;
/// The time for which counts are kept, in milliseconds: 90 days.
const KEPT_MILLISECONDS: i64 = 90 * 24 * HOUR_MILLISECONDS;
/// The greatest number of documents that the status reads: two leaderships in each minute of an hour.
const READ: i64 = 120;

/// Stores the counts of a minute. The same counts can be stored again.
///
/// # Errors
/// As [`update_command::record`].
pub(super) async fn store(writer: &Writer, term: i64, minute: i64, counts: &ForeignCounts) -> Result<(), Unfinished> {
    let at = beginning(minute);
    let fields = doc! {
        "at": at, "writes": counts.writes, "operations": document(&counts.operations),
        "fields": document(&counts.fields), "last": counts.span.map(|(_, last)| last),
    };
    let filter = doc! { "_id": { "minute": at, "term": term } };
    update_command::record(writer, FOREIGN_WRITES, filter, doc! { "$set": fields }).await
}

/// Deletes the counts that are too old.
///
/// # Errors
/// As [`update_command::delete`].
pub(super) async fn forget(writer: &Writer) -> Result<(), Unfinished> {
    let now = server_time(writer.database()).await?.timestamp_millis();
    let before = DateTime::from_millis(now.saturating_sub(KEPT_MILLISECONDS));
    update_command::delete(writer, FOREIGN_WRITES, doc! { "at": { "$lt": before } }).await
}

/// The foreign writes of the last hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForeignWritesReport {
    /// The number of writes of others to our offers in the last hour.
    pub writes: u64,
    pub by_operation: BTreeMap<String, i64>,
    /// The writes that changed a field, by field.
    pub by_field: BTreeMap<String, i64>,
    /// The time of the last write (RFC 3339); null when there was none in the last hour.
    pub last: Option<String>,
}

impl ForeignWritesReport {
    /// Reads the counts of the hour before `now`, a time of the server; `None` if nobody counts.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn of_last_hour(context: &Context, now: DateTime) -> Result<Option<Self>, Failure> {
        if !context.settings.foreign_writes.enabled {
            return Ok(None);
        }
        let since = DateTime::from_millis(now.timestamp_millis().saturating_sub(HOUR_MILLISECONDS));
        let minutes = collection(&context.database, FOREIGN_WRITES);
        let found = minutes.find(doc! { "at": { "$gte": since } }).sort(doc! { "at": -1 }).limit(READ);
        let found = async { found.await?.try_collect::<Vec<Document>>().await };
        let found = with_deadline(found).await.map_err(Failure::Read)?;
        let mut report = Self::default();
        found.iter().for_each(|minute| report.add(minute));
        Ok(Some(report))
    }

    fn add(&mut self, minute: &Document) {
        self.writes += minute.get_i64("writes").unwrap_or_default().unsigned_abs();
        for (name, sums) in [("operations", &mut self.by_operation), ("fields", &mut self.by_field)] {
            for (name, count) in minute.get_document(name).into_iter().flatten() {
                *sums.entry(name.clone()).or_default() += count.as_i64().unwrap_or_default();
            }
        }
        let last = minute.get("last").and_then(Bson::as_datetime).and_then(|last| last.try_to_rfc3339_string().ok());
        self.last = self.last.take().max(last);
    }

    /// The counts as one line for a terminal; `None` if there were no writes.
    #[must_use]
    pub(crate) fn line(&self) -> Option<String> {
        let last = self.last.as_ref()?;
        let list = |counts: &BTreeMap<String, i64>| {
            let mut counts: Vec<(&String, &i64)> = counts.iter().collect();
            counts.sort_by_key(|(_, count)| -**count);
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let fields = if self.by_field.is_empty() { String::new() } else { format!("; {}", list(&self.by_field)) };
        Some(format!(
            "{} writes of others to our offers in the last hour ({}{fields}), the last one at {last}",
            self.writes,
            list(&self.by_operation)
        ))
    }
}
