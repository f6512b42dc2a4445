//! Watches the pressure on the server: how far a majority of the members is behind the primary, and how long a small write
//! takes. The throttle judges these measures; this task tells what it decides.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{DateTime, doc};
use mongodb::Database;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::config::ThrottleSettings;
use crate::context::Context;
use crate::error::Failure;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::server_clock::server_time;
use crate::observe::metrics::Metrics;
use crate::tasks::pause;
use crate::write::Writer;
use crate::write::recorder::note_at_once;
use crate::write::stored_throttle::{slowed_since, store_slowed};
use crate::write::throttle::{Pressure, Slowed, Throttle, ThrottleChange};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// The time for the last answers at the end.
const LAST: Duration = Duration::from_millis(500);

/// The watch of one term of the lease: a leadership, or a command without a leader.
pub(crate) struct PressureWatch {
    database: Database,
    writer: Writer,
    term: i64,
    throttle: Throttle,
    settings: ThrottleSettings,
    metrics: Arc<Metrics>,
    /// The begin of the slowed time, by the server's clock.
    since: Mutex<Option<DateTime>>,
    stop: CancellationToken,
}

impl PressureWatch {
    pub(crate) fn new(
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
            since: Mutex::default(),
            stop,
        }
    }

    /// Watches until `stop`. A write that is not answered yet is a measure too: it takes at least so long.
    ///
    /// # Errors
    /// None.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.end_earlier().await;
        let (mut began, mut write) = (clock::instant(), Box::pin(self.write()));
        let mut is_answered = false;
        loop {
            let latency = tokio::select! {
                () = self.stop.cancelled() => break,
                is_written = &mut write => {
                    is_answered = true;
                    is_written.then(|| began.elapsed())
                }
                () = tokio::time::sleep(LOOK) => Some(began.elapsed()),
            };
            let lag = tokio::select! {
                () = self.stop.cancelled() => break,
                lag = replication_lag(&self.database) => lag,
            };
            let has_changed = self.judge(lag, latency).await;
            // A change is stored at once.
            if is_answered && !has_changed && !pause(&self.stop, LOOK).await {
                break;
            }
            if is_answered {
                (began, write, is_answered) = (clock::instant(), Box::pin(self.write()), false);
            }
        }
        if !is_answered {
            let _ = tokio::time::timeout(LAST, write).await;
        }
        if let Some(lasted) = self.throttle.end_slowed(clock::instant()) {
            // Where this fails, the next holder of the lease tells the end.
            let _ = tokio::time::timeout(LAST, self.tell_end(lasted)).await;
        }
        self.metrics.slowed(None::<Pressure>, None);
        Ok(())
    }

    /// Tells the end of the slowed time of an earlier term that could not tell it.
    async fn end_earlier(&self) {
        let Ok(Some(since)) = slowed_since(&self.database).await else { return };
        // The length is for people. It does not fail because the clock cannot be read.
        let now = server_time(&self.database).await.unwrap_or(since);
        let seconds = (now.timestamp_millis() - since.timestamp_millis()).max(0) / 1_000;
        self.writer.note(TimelineEvent::SlowedEnded { seconds });
    }

    /// Tells the end of the slowed time with the term.
    async fn tell_end(&self, lasted: Duration) {
        let seconds = i64::try_from(lasted.as_secs()).unwrap_or(i64::MAX);
        note_at_once(&self.writer, TimelineEvent::SlowedEnded { seconds }).await;
        self.write().await;
    }

    /// Judges the measures, and tells what changed. True when work is slowed from now on, or no more.
    async fn judge(&self, lag: Option<Duration>, latency: Option<Duration>) -> bool {
        self.metrics.pressure(lag, latency);
        let change = self.throttle.judge(&self.settings, lag, latency, clock::instant());
        self.metrics.slowed(self.throttle.slowed().map(|slowed| slowed.pressure), self.throttle.ceiling());
        match change {
            Some(ThrottleChange::Began(slowed)) => {
                let since = server_time(&self.database).await.unwrap_or_else(|_| clock::now());
                *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
                self.began(slowed);
            }
            Some(ThrottleChange::Ended { lasted }) => self.ended(lasted),
            None => {}
        }
        change.is_some()
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

    /// Stores the state for other processes, by the small write whose time is measured. False when it fails.
    async fn write(&self) -> bool {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = store_slowed(&self.writer, self.term, self.throttle.slowed().zip(since)).await;
        stored.inspect_err(|cause| debug!(error = %cause, "the state of the throttle could not be stored")).is_ok()
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
