//! The late writes (spec 10, "After `retired`"): what is still written to `recruiters` after the step to `retired`.
//! The document `late_writes` of the state is read and made here. The leader watches, see `leader::late_write_watch`.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, Timestamp, doc};
use mongodb::Database;
use serde::{Deserialize, Serialize};

use super::state::Current;
use crate::error::Failure;
use crate::model::names::state_id::{LATE_WRITES, TOMBSTONE};
use crate::model::names::{STATE, WatchedCollection};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::source::event::{Event, Operation};

/// The number of writes whose ids are kept.
const KEPT: usize = 10;
/// The text in place of an `_id` that is no ObjectId. Such an `_id` may be anything, also the address of a person.
const OTHER_ID: &str = "(no ObjectId)";
/// The operations that count as late writes.
pub(crate) const LATE: [Operation; 4] = [Operation::Insert, Operation::Update, Operation::Replace, Operation::Delete];

/// One late write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateWrite {
    /// The `_id` of the recruiter.
    pub id: String,
    /// The operation, as the server names it.
    pub operation: String,
    /// The time of the write, by the server's clock.
    pub at: DateTime,
}

/// A span of the stream in which writes could not be counted, because the position was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnwatchedSpan {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// The end of the watch, because `recruiters` is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchEnd {
    /// `drop` or `rename`.
    pub operation: String,
    pub at: DateTime,
}

/// The late writes since one step to `retired`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LateWrites {
    /// The time of the step. The counts of an earlier retirement do not count for a later one.
    pub retired_at: DateTime,
    /// The `postBatchResumeToken` up to which writes are counted; `None` before the first reply.
    pub token: Option<Document>,
    /// The cluster time up to which writes are counted.
    pub counted_to: Timestamp,
    /// The number of writes by operation.
    pub counts: BTreeMap<String, i64>,
    /// The last [`KEPT`] writes, the newest first.
    pub last: Vec<LateWrite>,
    /// From the first to the last span without a count.
    pub unwatched: Option<UnwatchedSpan>,
    /// `None` while `recruiters` is watched.
    pub ended: Option<WatchEnd>,
}

impl LateWrites {
    /// No writes yet, after a step at `retired_at`, from a position of the stream.
    #[must_use]
    pub(crate) fn none(retired_at: DateTime, from: Timestamp) -> Self {
        Self {
            retired_at,
            token: None,
            counted_to: from,
            counts: BTreeMap::new(),
            last: Vec::new(),
            unwatched: None,
            ended: None,
        }
    }

    /// Reads the late writes of the present retirement. `None` in other phases, and before a leader has begun to watch.
    ///
    /// # Errors
    /// [`Failure::Read`], [`Failure::OwnDocument`].
    pub(crate) async fn read(database: &Database, current: &Current) -> Result<Option<Self>, Failure> {
        let Some(retirement) = Retirement::read(database, current).await? else {
            return Ok(None);
        };
        Self::of_retirement(database, &retirement).await
    }

    /// Reads the late writes of this retirement.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn of_retirement(database: &Database, retirement: &Retirement) -> Result<Option<Self>, Failure> {
        let states = collection(database, STATE);
        let stored = with_deadline(states.find_one(doc! { "_id": LATE_WRITES })).await.map_err(Failure::Read)?;
        let stored = stored.filter(|stored| stored.get_datetime("retired_at").ok() == Some(&retirement.at));
        let fault = Failure::OwnDocument { collection: STATE, field: "late_writes" };
        stored.map(|stored| Self::of(&stored).ok_or(fault)).transpose()
    }

    fn of(stored: &Document) -> Option<Self> {
        let write = |write: &Bson| {
            let write = write.as_document()?;
            let text = |field: &str| write.get_str(field).ok().map(ToOwned::to_owned);
            Some(LateWrite { id: text("id")?, operation: text("operation")?, at: *write.get_datetime("at").ok()? })
        };
        let counts = stored.get_document("counts").ok()?.iter();
        let time = |document: &Document, field: &str| document.get_timestamp(field).ok();
        let unwatched = stored.get_document("unwatched").ok();
        let ended = stored.get_document("ended").ok();
        Some(Self {
            retired_at: *stored.get_datetime("retired_at").ok()?,
            token: stored.get_document("token").ok().cloned(),
            counted_to: time(stored, "counted_to")?,
            counts: counts.map(|(name, count)| Some((name.clone(), count.as_i64()?))).collect::<Option<_>>()?,
            last: stored.get_array("last").ok()?.iter().map(write).collect::<Option<_>>()?,
            unwatched: unwatched
                .and_then(|span| Some(UnwatchedSpan { from: time(span, "from")?, to: time(span, "to")? })),
            ended: ended.and_then(|ended| {
                let operation = ended.get_str("operation").ok()?.to_owned();
                Some(WatchEnd { operation, at: *ended.get_datetime("at").ok()? })
            }),
        })
    }

    /// The fields of the stored document.
    #[must_use]
    pub(crate) fn to_document(&self) -> Document {
        let counts: Document = self.counts.iter().map(|(name, count)| (name.clone(), Bson::Int64(*count))).collect();
        let last = self.last.iter().map(|write| {
            doc! { "id": &write.id, "operation": &write.operation, "at": write.at }
        });
        let ended = self.ended.as_ref().map(|ended| doc! { "operation": &ended.operation, "at": ended.at });
        doc! {
            "retired_at": self.retired_at,
            "token": self.token.clone(),
            "counted_to": self.counted_to,
            "counts": counts,
            "last": last.collect::<Vec<_>>(),
            "unwatched": self.unwatched.map(|span| doc! { "from": span.from, "to": span.to }),
            "ended": ended,
        }
    }

    /// Counts these events. Writes of before the step are none: the last ones of an application, and those of the
    /// service itself, may stand behind the position at which the watch begins. A drop ends the watch.
    pub(crate) fn note(&mut self, events: &[Event]) {
        for event in events.iter().filter(|event| event.wall_time > self.retired_at) {
            let recruiters = [event.collection, event.renamed_to].contains(&Some(WatchedCollection::Recruiters));
            match event.operation {
                operation if recruiters && LATE.contains(&operation) => {
                    *self.counts.entry(operation.name().to_owned()).or_default() += 1;
                    let id = event.id().map_or_else(|| OTHER_ID.to_owned(), |id| id.to_hex());
                    self.last.insert(0, LateWrite { id, operation: operation.name().to_owned(), at: event.wall_time });
                    self.last.truncate(KEPT);
                }
                operation @ (Operation::Drop | Operation::Rename) if recruiters => {
                    self.ended = Some(WatchEnd { operation: operation.name().to_owned(), at: event.wall_time });
                    return;
                }
                _ => {}
            }
        }
    }

    /// Records that writes between the last position and `to` are not counted, and continues at `to`.
    pub(crate) fn skip_to(&mut self, to: Timestamp) {
        let from = self.unwatched.map_or(self.counted_to, |span| span.from);
        self.unwatched = Some(UnwatchedSpan { from, to });
        self.token = None;
        self.counted_to = to;
    }

    /// The number of writes.
    #[must_use]
    pub(crate) fn total(&self) -> i64 {
        self.counts.values().sum()
    }

    /// The late writes for the page, `/api/status`, `status` and `phase show`.
    #[must_use]
    pub(crate) fn report(&self) -> LateWritesReport {
        LateWritesReport {
            total: self.total(),
            by_operation: self.counts.clone(),
            last: self.last.iter().map(LateWriteReport::of).collect(),
            unwatched_from: self.unwatched.map(|span| time_text(span.from)),
            unwatched_to: self.unwatched.map(|span| time_text(span.to)),
            recruiters_gone_since: self.ended.as_ref().map(|ended| text(ended.at)),
        }
    }
}

/// The step to `retired`, as the tombstone has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retirement {
    /// The time of the step, by the server's clock.
    pub at: DateTime,
    /// The position of the stream at the step; `None` where there was no checkpoint.
    pub position: Option<Timestamp>,
}

impl Retirement {
    /// Reads the step. `None` in other phases.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database, current: &Current) -> Result<Option<Self>, Failure> {
        if current.phase != super::Phase::Retired {
            return Ok(None);
        }
        let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": TOMBSTONE })).await;
        let stored = stored.map_err(Failure::Read)?.unwrap_or_default();
        // A database that began in `retired` has no tombstone.
        let at = stored.get_datetime("retired_at").ok().copied().or(current.since);
        Ok(at.map(|at| Self { at, position: stored.get_timestamp("cluster_time").ok() }))
    }
}

/// The late writes as they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LateWritesReport {
    /// The number of writes to `recruiters` since the step to `retired`.
    pub total: i64,
    pub by_operation: BTreeMap<String, i64>,
    /// The last ten writes, the newest first.
    pub last: Vec<LateWriteReport>,
    /// The beginning of the span in which writes could not be counted (RFC 3339); null when there is none.
    pub unwatched_from: Option<String>,
    /// The end of that span (RFC 3339); null when there is none.
    pub unwatched_to: Option<String>,
    /// The time at which `recruiters` was dropped or renamed (RFC 3339); null while it is watched.
    pub recruiters_gone_since: Option<String>,
}

/// One late write as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LateWriteReport {
    /// The `_id` of the recruiter.
    pub id: String,
    pub operation: String,
    /// The time of the write (RFC 3339).
    pub at: String,
}

impl LateWriteReport {
    fn of(write: &LateWrite) -> Self {
        Self { id: write.id.clone(), operation: write.operation.clone(), at: text(write.at) }
    }
}

impl LateWritesReport {
    /// The late writes as lines for a terminal. The first line is the sum.
    #[must_use]
    pub(crate) fn lines(&self) -> Vec<String> {
        let by: Vec<String> =
            self.by_operation.iter().map(|(operation, count)| format!("{count} {operation}")).collect();
        let mut lines = vec![match self.last.first() {
            None => "none".to_owned(),
            Some(last) => {
                format!("{} writes to recruiters ({}), the last one at {}", self.total, by.join(", "), last.at)
            }
        }];
        lines.extend(self.last.iter().map(|write| format!("  {}  {}  {}", write.at, write.operation, write.id)));
        lines.extend(
            self.unwatched_from
                .iter()
                .zip(&self.unwatched_to)
                .map(|(from, to)| format!("  not counted between {from} and {to}: the position in the oplog was lost")),
        );
        let gone = self.recruiters_gone_since.as_ref();
        lines.extend(gone.map(|at| format!("  recruiters is gone since {at}: the watch has ended")));
        lines
    }
}

fn time_text(time: Timestamp) -> String {
    text(DateTime::from_millis(i64::from(time.time) * 1_000))
}

fn text(date: DateTime) -> String {
    date.try_to_rfc3339_string().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    const STEP: i64 = 1_000_000;

    fn event(operation: &str, at: i64, fields: RawDocumentBuf) -> Event {
        let mut event = rawdoc! {
            "_id": { "_data": "82650F1A2B000000012B0229296E04" }, "operationType": operation,
            "ns": { "coll": "recruiters" }, "wallTime": DateTime::from_millis(STEP + at),
        };
        fields.iter().flatten().for_each(|(name, value)| event.append(name, value));
        Event::read(&event).unwrap()
    }

    fn write(operation: &str, at: i64, id: ObjectId) -> Event {
        event(operation, at, rawdoc! { "documentKey": { "_id": id } })
    }

    fn none() -> LateWrites {
        LateWrites::none(DateTime::from_millis(STEP), Timestamp { time: 5, increment: 1 })
    }

    #[test]
    fn writes_after_the_step_are_counted_by_operation_and_the_last_ten_are_kept_newest_first() {
        let ids: Vec<ObjectId> = (0..12).map(|_| ObjectId::new()).collect();
        let mut late = none();
        late.note(&[write("update", -1, ids[0]), write("update", 0, ids[0])]);
        assert_eq!(late, none(), "the last writes of before the step are none");
        for (at, id) in (1..).zip(&ids) {
            late.note(&[write(if at == 1 { "delete" } else { "update" }, at, *id)]);
        }
        assert_eq!(late.counts, BTreeMap::from([("delete".to_owned(), 1), ("update".to_owned(), 11)]));
        assert_eq!((late.total(), late.last.len()), (12, KEPT));
        assert_eq!(late.last[0].id, ids[11].to_hex());
        assert_eq!(LateWrites::of(&late.to_document()), Some(late));
    }

    #[test]
    fn a_drop_ends_the_watch_and_an_id_that_is_no_object_id_is_not_shown() {
        let mut late = none();
        let odd = event("insert", 1, rawdoc! { "documentKey": { "_id": "someone@example.org" } });
        late.note(&[odd, event("drop", 2, rawdoc! {}), write("insert", 3, ObjectId::new())]);
        assert_eq!((late.total(), late.last[0].id.as_str()), (1, OTHER_ID));
        let lines = late.report().lines().join("\n");
        assert!(late.ended.is_some() && lines.contains("recruiters is gone") && !lines.contains('@'), "{lines}");
        assert_eq!(LateWrites::of(&late.to_document()), Some(late));
    }

    #[test]
    fn lost_positions_become_one_span() {
        let mut late = none();
        for to in [8, 20] {
            late.token = Some(doc! { "_data": "00" });
            late.skip_to(Timestamp { time: to, increment: 0 });
        }
        let span = late.unwatched.unwrap();
        assert_eq!((span.from.time, span.to.time, late.token.as_ref()), (5, 20, None));
        assert_eq!(LateWrites::of(&late.to_document()), Some(late));
    }
}
