//! Watches the pressure on the server: how far a majority of the members is behind the primary, and how long a small write
//! takes. The throttle judges these measures; this task tells what it decides.

use std::sync::Arc;
use std::time::Duration;

use bson::doc;
use mongodb::Database;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::config::ThrottleSettings;
use crate::context::Context;
use crate::error::Failure;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::observe::metrics::Metrics;
use crate::tasks::pause;
use crate::write::Writer;
use crate::write::stored_throttle::store_slowed;
use crate::write::throttle::{Pressure, Slowed, Throttle, ThrottleChange};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// The watch of one leadership.
pub(super) struct PressureWatch {
    database: Database,
    writer: Writer,
    term: i64,
    throttle: Throttle,
    settings: ThrottleSettings,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl PressureWatch {
    pub(super) fn new(
        context: &Context,
        writer: Writer,
        term: i64,
        throttle: Throttle,
        stop: CancellationToken,
    ) -> Self {
        Self {
            database: Database::clone(&context.database),
            writer,
            term,
            throttle,
            settings: context.settings.throttle.clone(),
            metrics: Arc::clone(&context.metrics),
            stop,
        }
    }

    /// Watches until `stop`.
    ///
    /// # Errors
    /// None.
    pub(super) async fn run(self) -> Result<(), Failure> {
        // The leader before may have ended while it slowed its work.
        self.store(None).await;
        while pause(&self.stop, LOOK).await {
            let (lag, latency) = (replication_lag(&self.database).await, self.throttle.take_latency());
            self.metrics.pressure(lag, latency);
            let change = self.throttle.judge(&self.settings, lag, latency, clock::instant());
            let slowed = self.throttle.slowed();
            self.metrics.slowed(slowed.map(|slowed| slowed.pressure), self.throttle.ceiling());
            match change {
                Some(ThrottleChange::Began(slowed)) => self.began(slowed),
                Some(ThrottleChange::Ended { lasted }) => self.ended(lasted),
                None => {}
            }
            if change.is_some() || slowed.is_some() {
                self.store(slowed).await;
            }
        }
        self.metrics.slowed(None::<Pressure>, None);
        Ok(())
    }

    fn began(&self, Slowed { pressure, value, stream }: Slowed) {
        let milliseconds = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        warn!(pressure = pressure.word(), milliseconds, stream, "the server is under pressure: work is slowed");
        let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
        self.writer.note(TimelineEvent::Slowed { pressure: pressure.word(), milliseconds });
    }

    fn ended(&self, lasted: Duration) {
        let seconds = lasted.as_secs();
        info!(seconds, "the pressure on the server is over: work is not slowed any more");
        self.writer.note(TimelineEvent::SlowedEnded { seconds: i64::try_from(seconds).unwrap_or(i64::MAX) });
    }

    /// Stores the state for other processes. It is for people, so a failure is no trouble.
    async fn store(&self, slowed: Option<Slowed>) {
        if let Err(cause) = store_slowed(&self.writer, self.term, slowed).await {
            debug!(error = %cause, "the state of the throttle could not be stored");
        }
    }
}

/// How far a majority of the members is behind the primary, by the primary; `None` where it does not say.
async fn replication_lag(database: &Database) -> Option<Duration> {
    let hello = with_deadline(database.run_command(doc! { "hello": 1 })).await.ok()?;
    let last = hello.get_document("lastWrite").ok()?;
    let date = |field: &str| last.get_datetime(field).ok().map(|date| date.timestamp_millis());
    let behind = date("lastWriteDate")? - date("majorityWriteDate")?;
    Some(Duration::from_millis(u64::try_from(behind).unwrap_or_default()))
}
