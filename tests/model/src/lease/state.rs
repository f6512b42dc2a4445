//! The state: the lease as the primary and as a majority have it, two instances, and a write of each on its way.

use bson::{Bson, DateTime, Document, Timestamp, doc};
use stream_processor::inside::cluster_end;

/// The time of the first step by a right clock, in milliseconds.
pub(super) const BEGINNING: i64 = 1_800_000_000_000;
/// One step of the time, in milliseconds.
pub(super) const TICK: i64 = 1_000;
/// The duration of a lease, in milliseconds.
pub(super) const DURATION: i64 = 4 * TICK;

/// The document of the lease. Times are in milliseconds by the clock of the primary that wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(super) holder: u8,
    pub(super) term: i64,
    pub(super) expires_at: i64,
    pub(super) renewed_at: i64,
    /// The end as a time of the cluster, in seconds, for the process that renewed it.
    pub(super) cluster_end: Option<u32>,
    /// The time of the cluster that the last write of it gave, which every later primary knows.
    pub(super) written: i64,
}

impl Lease {
    pub(super) fn to_document(self) -> Document {
        doc! {
            "_id": "lease", "holder": name(self.holder), "term": self.term, "milliseconds": DURATION,
            "expires_at": DateTime::from_millis(self.expires_at), "renewed_at": DateTime::from_millis(self.renewed_at),
        }
    }

    /// The lease after a write by a primary with this clock.
    pub(super) fn written(document: &Document, before: Self, clock: i64) -> Self {
        let time = |field| document.get_datetime(field).expect("a time").timestamp_millis();
        let term = match document.get("term") {
            Some(Bson::Int64(term)) => *term,
            other => panic!("no term: {other:?}"),
        };
        let holder = u8::from(document.get_str("holder").expect("a holder") == name(1));
        let (expires_at, renewed_at) = (time("expires_at"), time("renewed_at"));
        // The field is missing after a command that renews nothing.
        let renewed = document.get_timestamp("cluster_time").ok();
        let cluster_end = renewed.map_or(before.cluster_end, |renewed| end(renewed_at, renewed));
        // The primary takes its clock, or the next time where its clock is behind.
        Self { holder, term, expires_at, renewed_at, cluster_end, written: before.written.max(clock) }
    }
}

/// The end of a lease that was renewed at these times, as a time of the cluster.
fn end(renewed_at: i64, cluster: Timestamp) -> Option<u32> {
    cluster_end(DateTime::from_millis(renewed_at + DURATION), Some(cluster)).map(|end| end.time)
}

/// The name of an instance in the lease.
pub(super) fn name(instance: u8) -> &'static str {
    if instance == 0 { "one" } else { "other" }
}

/// A leadership, as its instance knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    pub(super) term: i64,
    /// The end by the clock of the process, which runs as the model's time does.
    pub(super) until: i64,
    /// The end by the clock of the server that renewed the lease.
    pub(super) ends_at: i64,
    /// The end as a time of the cluster.
    pub(super) cluster_end: Option<u32>,
}

impl Leading {
    /// A leadership after a renewal that was asked for at `asked`.
    pub(super) fn of(lease: Lease, asked: i64) -> Self {
        let Lease { term, renewed_at, cluster_end, .. } = lease;
        Self { term, until: asked + DURATION, ends_at: renewed_at + DURATION, cluster_end }
    }
}

/// A command about the lease on its way to the server, or its answer on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(super) kind: Kind,
    pub(super) asked: i64,
    /// The lease after the command; `None` inside where the filter matched nothing.
    pub(super) answer: Option<Option<Lease>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Take,
    Renew {
        term: i64,
    },
    /// Gives the lease back. `unanswered` is the time until which the server may work on a write.
    Release {
        term: i64,
        unanswered: i64,
    },
}

/// A write command of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(super) term: i64,
    /// The times of the server's clock between which it may begin.
    pub(super) begins: (i64, i64),
    /// The time of the cluster before which it may begin.
    pub(super) cluster_end: Option<u32>,
    /// The limit of the server's work, in milliseconds.
    pub(super) limit: i64,
    /// The time at which the server gives it up; `None` while it is on its way.
    pub(super) until: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Instance {
    pub(super) leads: Option<Leading>,
    pub(super) request: Option<Request>,
    pub(super) write: Option<Write>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The time in milliseconds since the beginning.
    pub(super) now: i64,
    /// How far the clocks of the two members are ahead, in milliseconds.
    pub(super) ahead: [i64; 2],
    pub(super) primary: u8,
    /// The lease as the primary has it.
    pub(super) lease: Lease,
    /// The lease as a majority has it.
    pub(super) majority: Lease,
    pub(super) instances: [Instance; 2],
    pub(super) failovers: u8,
    /// True once a write took effect although the lease had a later term.
    pub(super) wrote_late: bool,
}

impl State {
    /// The first instance has just taken the lease. The time of the cluster is `cluster` ahead of the primary's clock.
    pub(super) fn beginning(ahead: i64, cluster: i64) -> Self {
        let clock = BEGINNING;
        let (expires_at, written) = (clock + DURATION, clock + cluster);
        let cluster = Timestamp { time: u32::try_from(written / 1_000).expect("a time of this century"), increment: 1 };
        let cluster_end = end(clock, cluster);
        let lease = Lease { holder: 0, term: 1, expires_at, renewed_at: clock, cluster_end, written };
        let leads = Leading::of(lease, 0);
        Self {
            now: 0,
            ahead: [0, ahead],
            primary: 0,
            lease,
            majority: lease,
            instances: [Instance { leads: Some(leads), ..Instance::default() }, Instance::default()],
            failovers: 0,
            wrote_late: false,
        }
    }

    /// The clock of the primary.
    pub(super) fn clock(&self) -> i64 {
        BEGINNING + self.now + self.ahead[usize::from(self.primary)]
    }
}
