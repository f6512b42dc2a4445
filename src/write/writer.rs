//! The right to write documents: the database and, for who leads, the lease. A command is sent only while the
//! lease has long enough to run, and carries a time limit within it, so that an instance which was paused, or
//! whose command was held up on the way, changes nothing under its successor (spec 00, guarantee 4).

use std::time::{Duration, Instant};

use bson::raw::cstr;
use bson::{Document, RawDocumentBuf};
use mongodb::Database;
use tokio::sync::watch;

use crate::clock;
use crate::error::Failure;

/// The time limit of a command without a lease to lose.
const LONGEST: Duration = Duration::from_secs(30);

/// Sends write commands.
#[derive(Debug, Clone)]
pub struct Writer {
    database: Database,
    lease: Option<Lease>,
}

#[derive(Debug, Clone)]
struct Lease {
    valid_until: watch::Receiver<Instant>,
    duration: Duration,
}

impl Writer {
    /// Writes without a lease: for commands beside which an instance may write, or that write nothing.
    #[must_use]
    pub fn free(database: &Database) -> Self {
        Self { database: database.clone(), lease: None }
    }

    /// Writes as long as the lease is valid; `duration` is that of a fresh one.
    #[must_use]
    pub fn under(database: &Database, valid_until: watch::Receiver<Instant>, duration: Duration) -> Self {
        Self { database: database.clone(), lease: Some(Lease { valid_until, duration }) }
    }

    /// Sends one command with `maxTimeMS`, and waits no longer than the lease allows. Half of what the lease has
    /// left is for the way to the server, half for what the server does: `maxTimeMS` counts from when it begins
    /// (MongoDB manual, "maxTimeMS").
    ///
    /// # Errors
    /// [`Failure::LeaseLost`], [`Failure::Overdue`], [`Failure::Write`].
    pub async fn send(&self, mut command: RawDocumentBuf) -> Result<Document, Failure> {
        let limit = self.limit().await?;
        command.append(cstr!("maxTimeMS"), i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        let reply = tokio::time::timeout(limit, self.database.run_raw_command(command)).await;
        reply.map_err(|_| Failure::Overdue)?.map_err(Failure::Write)
    }

    /// Half of what the lease has left, once that is half of a fresh lease: else the next renewal is waited for.
    async fn limit(&self) -> Result<Duration, Failure> {
        let Some(Lease { mut valid_until, duration }) = self.lease.clone() else {
            return Ok(LONGEST);
        };
        loop {
            let ends = *valid_until.borrow_and_update();
            let left = ends.saturating_duration_since(clock::instant());
            if left.is_zero() {
                return Err(Failure::LeaseLost);
            }
            if left >= duration / 2 {
                return Ok(left / 2);
            }
            // Its end, or a renewal; without anybody who renews, its end.
            let renewed = tokio::time::timeout(left, valid_until.changed()).await;
            if matches!(renewed, Ok(Err(_))) {
                return Err(Failure::LeaseLost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::Client;

    use super::*;

    const DURATION: Duration = Duration::from_secs(10);

    async fn writer(ends_in: Duration) -> (watch::Sender<Instant>, Writer) {
        // Connects to nobody until something is sent.
        let client = Client::with_uri_str("mongodb://127.0.0.1:9/").await.unwrap();
        let (renewed, valid_until) = watch::channel(clock::instant() + ends_in);
        (renewed, Writer::under(&client.database("x"), valid_until, DURATION))
    }

    #[tokio::test]
    async fn a_fresh_lease_gives_half_of_itself_and_a_lost_one_nothing() {
        let (_renewed, fresh) = writer(DURATION).await;
        let limit = fresh.limit().await.unwrap();
        assert!(limit <= DURATION / 2 && limit > DURATION / 4, "{limit:?}");
        let (_renewed, lost) = writer(Duration::ZERO).await;
        assert!(matches!(lost.limit().await, Err(Failure::LeaseLost)));
        assert!(matches!(lost.send(RawDocumentBuf::new()).await, Err(Failure::LeaseLost)));
    }

    #[tokio::test]
    async fn near_its_end_a_renewal_is_waited_for() {
        let (renewed, near) = writer(DURATION / 4).await;
        let mut waiting = Box::pin(near.limit());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        renewed.send_replace(clock::instant() + DURATION);
        assert!(waiting.await.unwrap() > DURATION / 4);
        drop(renewed);
        let (renewed, ended) = writer(DURATION / 4).await;
        drop(renewed);
        assert!(matches!(ended.limit().await, Err(Failure::LeaseLost)));
    }
}
