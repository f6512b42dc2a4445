//! Stores lag and rates of each minute of a leadership, at most an hour of them, so that the page of the next leader shows
//! the time before it led. One document, written once a minute.

use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use mongodb::Database;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::names::STATE;
use crate::model::names::state_id::MINUTES;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::observe::recent_history::Minute;
use crate::tasks::pause;
use crate::write::{Writer, update_command};

/// The time between two looks at the lag.
const LOOK: Duration = Duration::from_secs(5);
/// The number of minutes that are kept.
const KEPT: i32 = 60;

/// What a leader counts from the beginning of a minute.
#[derive(Debug, Clone, Copy)]
struct Counted {
    minute: i64,
    at: i64,
    events: u64,
    offers: u64,
}

impl Counted {
    fn now(context: &Context) -> Self {
        let at = clock::now().timestamp_millis() / 1_000;
        let (events, offers) = (context.metrics.events_read(), context.metrics.offers_changed());
        Self { minute: at / 60, at, events, offers }
    }

    /// The minute from this count to a later one.
    #[expect(clippy::cast_precision_loss, reason = "counts within a minute")]
    fn until(self, now: Self, lag: Option<f64>) -> Minute {
        let seconds = (now.at - self.at).max(1) as f64;
        let rate = |from: u64, to: u64| (to.saturating_sub(from) as f64 / seconds * 10.0).round() / 10.0;
        let (events, offers) = (rate(self.events, now.events), rate(self.offers, now.offers));
        Minute { at: now.at, lag, events, offers }
    }
}

/// Stores each minute until `stop`. A minute that cannot be stored is missing on later pages.
///
/// # Errors
/// None.
pub(super) async fn store(context: Context, writer: Writer, stop: CancellationToken) -> Result<(), Unfinished> {
    let (mut began, mut lag) = (Counted::now(&context), None);
    while pause(&stop, LOOK).await {
        let (now, seen) = (Counted::now(&context), context.health.lag());
        lag = seen.map(|seen: f64| lag.map_or(seen, |most: f64| most.max(seen))).or(lag);
        if now.minute == began.minute {
            continue;
        }
        let Minute { at, lag: most, events, offers } = began.until(now, lag);
        let minute = doc! { "at": DateTime::from_millis(at * 1_000), "lag": most, "events": events, "offers": offers };
        let push = doc! { "$push": { "minutes": { "$each": [minute], "$slice": -KEPT } } };
        if let Err(unfinished) = update_command::record(&writer, STATE, doc! { "_id": MINUTES }, push).await {
            debug!(error = %unfinished, "a minute of the history could not be stored");
        }
        (began, lag) = (now, None);
    }
    Ok(())
}

/// Reads the stored minutes, the oldest first.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn read(database: &Database) -> Result<Vec<Minute>, Failure> {
    let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": MINUTES })).await;
    let stored = stored.map_err(Failure::Read)?.unwrap_or_default();
    let minutes = stored.get_array("minutes").map(Vec::as_slice).unwrap_or_default();
    Ok(minutes.iter().filter_map(Bson::as_document).filter_map(minute).collect())
}

fn minute(stored: &Document) -> Option<Minute> {
    Some(Minute {
        at: stored.get_datetime("at").ok()?.timestamp_millis() / 1_000,
        lag: stored.get_f64("lag").ok(),
        events: stored.get_f64("events").ok()?,
        offers: stored.get_f64("offers").ok()?,
    })
}
