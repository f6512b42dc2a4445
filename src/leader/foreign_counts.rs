//! Counts of the writes of others to our offers: by minute, and bursts of them. Pure. A burst is a series of minutes with
//! many foreign writes, at most [`LONGEST_PAUSE`] apart. It is told once, when it has ended.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document};

use crate::model::timeline::TimelineEvent;
use crate::observe::labels::LabelValue as _;
use crate::project::FieldLabel;
use crate::source::event::{Event, Operation};

/// The greatest number of minutes between two minutes of one burst.
const LONGEST_PAUSE: i64 = 3;
/// The number of minutes after which a burst is told although it goes on. The rest is another one.
const LONGEST_BURST: i64 = 60;
const MILLISECONDS: i64 = 60_000;

/// The foreign writes of some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ForeignCounts {
    pub writes: i64,
    pub operations: BTreeMap<&'static str, i64>,
    /// The writes that changed a field, by field. An insert, a replacement and a deletion name none.
    pub fields: BTreeMap<&'static str, i64>,
    /// The times of the first and of the last write, by the server's clock.
    pub span: Option<(DateTime, DateTime)>,
}

impl ForeignCounts {
    pub(super) fn add(&mut self, event: &Event) {
        self.writes += 1;
        *self.operations.entry(event.operation.name()).or_default() += 1;
        for field in fields(event) {
            *self.fields.entry(field.label()).or_default() += 1;
        }
        let (first, last) = self.span.unwrap_or((event.wall_time, event.wall_time));
        self.span = Some((first.min(event.wall_time), last.max(event.wall_time)));
    }

    fn merge(&mut self, other: &Self) {
        self.writes += other.writes;
        for (sums, counts) in [(&mut self.operations, &other.operations), (&mut self.fields, &other.fields)] {
            for (name, count) in counts {
                *sums.entry(*name).or_default() += count;
            }
        }
        let (first, last) = match (self.span, other.span) {
            (Some((first, last)), Some((other_first, other_last))) => (first.min(other_first), last.max(other_last)),
            (Some(span), None) | (None, Some(span)) => span,
            (None, None) => return,
        };
        self.span = Some((first, last));
    }
}

/// The fields that a write changed, each one once.
pub(super) fn fields(event: &Event) -> impl Iterator<Item = FieldLabel> + use<> {
    let mut fields: Vec<FieldLabel> = match &event.paths {
        Some(paths) => paths.iter().map(|path| FieldLabel::of(Some(path))).collect(),
        None if event.operation == Operation::Update => vec![FieldLabel::of(None)],
        None => Vec::new(),
    };
    fields.sort_unstable();
    fields.dedup();
    fields.into_iter()
}

/// The counts as a document.
pub(super) fn document(counts: &BTreeMap<&'static str, i64>) -> Document {
    counts.iter().map(|(name, count)| ((*name).to_owned(), Bson::Int64(*count))).collect()
}

/// The number of whole minutes since 1970.
pub(super) fn minute_of(time: DateTime) -> i64 {
    time.timestamp_millis().div_euclid(MILLISECONDS)
}

/// The beginning of a minute.
pub(super) fn beginning(minute: i64) -> DateTime {
    DateTime::from_millis(minute.saturating_mul(MILLISECONDS))
}

/// Finds bursts in ended minutes.
#[derive(Debug)]
pub(super) struct Bursts {
    /// The setting `foreign_writes.burst`.
    threshold: i64,
    open: Option<Burst>,
}

#[derive(Debug)]
struct Burst {
    first: i64,
    last: i64,
    counts: ForeignCounts,
}

impl Bursts {
    pub(super) fn new(threshold: usize) -> Self {
        Self { threshold: i64::try_from(threshold).unwrap_or(i64::MAX), open: None }
    }

    /// Takes the counts of a minute that is over. Returns the burst that ended before it.
    pub(super) fn minute(&mut self, minute: i64, counts: &ForeignCounts) -> Option<TimelineEvent> {
        let ended = self.quiet_until(minute);
        if counts.writes >= self.threshold {
            let burst = Burst { first: minute, last: minute, counts: ForeignCounts::default() };
            let open = self.open.get_or_insert(burst);
            open.last = minute;
            open.counts.merge(counts);
        }
        ended
    }

    /// Returns the burst that is over, when all minutes before `minute` were taken.
    pub(super) fn quiet_until(&mut self, minute: i64) -> Option<TimelineEvent> {
        let is_over = |open: &mut Burst| minute - open.last > LONGEST_PAUSE || minute - open.first >= LONGEST_BURST;
        self.open.take_if(is_over).map(Burst::told)
    }

    /// Returns the burst that goes on, because the watch ends.
    pub(super) fn end(&mut self) -> Option<TimelineEvent> {
        self.open.take().map(Burst::told)
    }
}

impl Burst {
    fn told(self) -> TimelineEvent {
        let counts = &self.counts;
        let (began, ended) = counts.span.unwrap_or((beginning(self.first), beginning(self.last)));
        TimelineEvent::ForeignWrites {
            began,
            ended,
            writes: counts.writes,
            operations: document(&counts.operations),
            fields: document(&counts.fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId, rawdoc};

    use super::*;

    fn update(at: i64, paths: &[&str]) -> Event {
        let paths: bson::raw::RawArrayBuf = paths.iter().copied().collect();
        Event::read(&rawdoc! {
            "_id": { "_data": "82650F1A2B000000012B0229296E04" }, "operationType": "update",
            "ns": { "coll": "jobs_partners" }, "documentKey": { "_id": ObjectId::new() },
            "wallTime": DateTime::from_millis(at), "updated": paths,
        })
        .unwrap()
    }

    fn counts(minute: i64, writes: usize) -> ForeignCounts {
        let mut counts = ForeignCounts::default();
        (0..writes).for_each(|_| counts.add(&update(minute * MILLISECONDS, &["rank"])));
        counts
    }

    fn writes(event: Option<TimelineEvent>) -> Option<i64> {
        match event? {
            TimelineEvent::ForeignWrites { writes, .. } => Some(writes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_write_counts_once_for_each_field_that_the_platform_knows() {
        let mut counts = ForeignCounts::default();
        counts.add(&update(2_000, &["offer_status_history.3", "offer_status_history.4", "offer_status"]));
        counts.add(&update(1_000, &["someone@example.org", "rank"]));
        let fields = doc! { "offer_status": 1_i64, "offer_status_history": 1_i64, "other": 1_i64, "rank": 1_i64 };
        assert_eq!(document(&counts.fields), fields);
        assert_eq!((counts.writes, document(&counts.operations)), (2, doc! { "update": 2_i64 }));
        assert_eq!(counts.span, Some((DateTime::from_millis(1_000), DateTime::from_millis(2_000))));
    }

    #[test]
    fn a_burst_is_told_once_after_it_has_ended_and_single_writes_are_none() {
        let mut bursts = Bursts::new(5);
        assert_eq!(bursts.minute(10, &counts(10, 4)), None);
        for minute in [11, 13, 16] {
            assert_eq!(bursts.minute(minute, &counts(minute, 5)), None, "{minute}");
        }
        assert_eq!(bursts.minute(17, &counts(17, 1)), None);
        assert_eq!(bursts.quiet_until(19), None);
        let Some(TimelineEvent::ForeignWrites { began, ended, writes, fields, .. }) = bursts.quiet_until(20) else {
            panic!("no burst");
        };
        assert_eq!((began, ended), (beginning(11), beginning(16)));
        assert_eq!((writes, fields), (15, doc! { "rank": 15_i64 }));
        assert_eq!((bursts.quiet_until(30), bursts.end()), (None, None));
    }

    #[test]
    fn a_burst_without_an_end_is_told_every_hour_and_when_the_watch_ends() {
        let mut bursts = Bursts::new(1);
        let told: Vec<i64> = (0..70).filter_map(|minute| writes(bursts.minute(minute, &counts(minute, 2)))).collect();
        assert_eq!((told, writes(bursts.end())), (vec![120], Some(20)));
    }
}
