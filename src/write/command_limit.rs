//! The limits that a lease sets to one command: how long the server may work on it, and when it may begin.

use std::time::Duration;

use bson::raw::cstr;
use bson::{DateTime, RawDocumentBuf, rawdoc};

/// The limits of one command: its duration, and the two times of the server's clock between which it may begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommandLimit {
    /// The time that the server may take.
    pub(super) time: Duration,
    pub(super) begins: Option<(DateTime, DateTime)>,
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

/// Computes the time limit of a command under a lease that ends at `ends_at` by the server's clock and has `left` by the
/// clock of this process. Also returns the two times of the server's clock between which the command may begin.
#[must_use]
pub fn limits(ends_at: DateTime, duration: Duration, left: Duration) -> (Duration, (DateTime, DateTime)) {
    let time = left / 2;
    // By the clock that renewed the lease, the end is one duration away. By the clock of another member the end may be
    // days away. A successor need not wait so long (see [`crate::lease`]), so a command must not begin too early either.
    (time, (earlier(ends_at, duration * 2), earlier(ends_at, time)))
}

fn earlier(time: DateTime, duration: Duration) -> DateTime {
    let duration = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(time.timestamp_millis().saturating_sub(duration))
}

/// Makes a variable of the command that the server can compute only between these two times of its clock. At another
/// time each statement fails with [`crate::error::FENCED`] and does nothing
/// (MongoDB manual, "update", `let`; `$$NOW` is the time at which the command began). A filter on `$$NOW` in each
/// statement would cost the server far more, and an upsert takes none.
#[must_use]
pub fn fence((after, before): (DateTime, DateTime)) -> RawDocumentBuf {
    let in_time = rawdoc! { "$and": [{ "$gt": ["$$NOW", after] }, { "$lt": ["$$NOW", before] }] };
    rawdoc! { "lease": { "$toInt": { "$cond": [in_time, "1", "over"] } } }
}
