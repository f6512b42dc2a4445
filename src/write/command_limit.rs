//! The limits that a lease sets to one command: how long the server may work on it, and when it may begin.

use std::time::Duration;

use bson::raw::cstr;
use bson::{DateTime, RawDocumentBuf, Timestamp, rawdoc};

/// Makes the end of a lease as a time of the cluster. Whoever takes the lease at its end writes at this time or later,
/// and the time of the cluster never goes back, whatever the clock of the next primary says (MongoDB manual,
/// "`$$CLUSTER_TIME`"). `renewed` is the time of the cluster at the renewal. It can be further ahead than the end, after
/// a primary whose clock was ahead. Then the clock alone must do, or no command could begin.
#[must_use]
pub fn cluster_end(ends_at: DateTime, renewed: Option<Timestamp>) -> Option<Timestamp> {
    let seconds = u32::try_from(ends_at.timestamp_millis().div_euclid(1_000)).ok()?;
    let end = Timestamp { time: seconds, increment: 0 };
    renewed.is_some_and(|renewed| renewed < end).then_some(end)
}

/// The times of the server between which a command may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begins {
    /// By the server's clock.
    pub after: DateTime,
    /// By the server's clock.
    pub before: DateTime,
    /// The time of the cluster before which the command may begin.
    pub cluster_end: Option<Timestamp>,
}

/// The limits of one command: its duration, and the times between which it may begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommandLimit {
    /// The time that the server may take.
    pub(super) time: Duration,
    pub(super) begins: Option<Begins>,
}

impl CommandLimit {
    /// Returns the longest wait for an answer: more than the server may take, and less than the lease has left.
    pub(super) fn patience(&self) -> Duration {
        self.time + self.time / 4
    }

    pub(super) fn put_on(&self, mut command: RawDocumentBuf) -> RawDocumentBuf {
        command.append(cstr!("maxTimeMS"), i64::try_from(self.time.as_millis()).unwrap_or(i64::MAX));
        if let Some(begins) = self.begins {
            command.append(cstr!("let"), fence(begins));
        }
        command
    }
}

/// Computes the time limit of a command under a lease that ends at `ends` by the server's clock and by the time of the
/// cluster, and has `left` by the clock of this process. Also returns the times between which the command may begin.
#[must_use]
pub fn limits(ends: (DateTime, Option<Timestamp>), duration: Duration, left: Duration) -> (Duration, Begins) {
    let (time, (ends_at, cluster_end)) = (left / 2, ends);
    // By the clock that renewed the lease, the end is one duration away. By the clock of another member the end may be
    // days away. A successor need not wait so long (see [`crate::lease`]), so a command must not begin too early either.
    (time, Begins { after: earlier(ends_at, duration * 2), before: earlier(ends_at, time), cluster_end })
}

fn earlier(time: DateTime, duration: Duration) -> DateTime {
    let duration = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(time.timestamp_millis().saturating_sub(duration))
}

/// Makes a variable of the command that the server can compute only between these times. At another time each statement
/// fails with [`crate::error::FENCED`] and does nothing (MongoDB manual, "update", `let`; `$$NOW` and `$$CLUSTER_TIME` are
/// the times at which the command began). A filter on `$$NOW` in each statement would cost the server far more, and an
/// upsert takes none.
#[must_use]
pub fn fence(begins: Begins) -> RawDocumentBuf {
    let Begins { after, before, cluster_end } = begins;
    let mut in_time = rawdoc! { "$and": [{ "$gt": ["$$NOW", after] }, { "$lt": ["$$NOW", before] }] };
    if let Some(end) = cluster_end {
        in_time = rawdoc! { "$and": [in_time, { "$lt": ["$$CLUSTER_TIME", end] }] };
    }
    rawdoc! { "lease": { "$toInt": { "$cond": [in_time, "1", "over"] } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_a_time_of_the_cluster_unless_the_cluster_is_there_already() {
        let at = |time, increment| Timestamp { time, increment };
        let end = |renewed| cluster_end(DateTime::from_millis(12_900), renewed);
        assert_eq!(end(Some(at(11, 7))), Some(at(12, 0)));
        assert_eq!([end(Some(at(12, 0))), end(Some(at(4_000, 1))), end(None)], [None; 3]);
        assert_eq!(cluster_end(DateTime::MAX, Some(at(11, 7))), None);
    }
}
