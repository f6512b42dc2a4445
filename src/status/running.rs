//! The work that runs now, for `status`, `/api/status` and the page: a resync or the first fill, stored commands and
//! time-based jobs, with what is known of their end.

use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use serde::Serialize;

use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::maintenance::backfill;
use crate::maintenance::replay::{self, length_text};
use crate::maintenance::resync::StoredResync;
use crate::maintenance::stored_commands::{Command, Lane, StoredCommand, count};
use crate::maintenance::unfinished_commands;
use crate::model::names::{OFFERS, WatchedCollection};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::source::scan;
use crate::ticker::stored_run;

/// One piece of work that has begun and has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RunningWork {
    /// The name: `resync` or `first fill` with its stage, a command, or a time-based job.
    pub what: String,
    /// The part that is done, in percent: of the stage for a resync. Null where nobody knows.
    pub percent: Option<u64>,
    /// The time left at the mean speed so far, in seconds; null where nobody knows, and while a pause or a halt holds
    /// the work up.
    pub seconds_left: Option<u64>,
    /// True while a pause or a halt holds the work up.
    pub held_up: bool,
    /// The time since the beginning, in seconds.
    pub running_seconds: u64,
}

impl RunningWork {
    fn new(what: String, began: DateTime, fraction: Option<f64>) -> Self {
        let milliseconds = clock::now().timestamp_millis().saturating_sub(began.timestamp_millis());
        let running = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default());
        let (percent, seconds_left) = match fraction {
            Some(fraction) => (Some(percent(fraction)), seconds_left(running, fraction)),
            None => (None, None),
        };
        Self { what, percent, seconds_left, held_up: false, running_seconds: running.as_secs() }
    }

    fn hold_up(mut self) -> Self {
        (self.seconds_left, self.held_up) = (None, true);
        self
    }

    /// The line for a person.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let running = length_text(Duration::from_secs(self.running_seconds));
        let percent = self.percent.map_or_else(String::new, |percent| format!("  {percent} %"));
        let left = self.seconds_left.map(|seconds| length_text(Duration::from_secs(seconds)));
        let left = left.map_or_else(String::new, |left| format!(", {left} left"));
        let held_up = if self.held_up { ", held up" } else { "" };
        format!("{}{percent}{left}{held_up}  (for {running})", self.what)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a hundred")]
fn percent(fraction: f64) -> u64 {
    (fraction.clamp(0.0, 1.0) * 100.0) as u64
}

/// The time left in seconds. `None` at the beginning, when the speed is not known.
fn seconds_left(running: Duration, fraction: f64) -> Option<u64> {
    (fraction > 0.0).then(|| running.mul_f64((1.0 - fraction.min(1.0)) / fraction).as_secs())
}

/// Reads the work that has begun and has not ended. `is_held_up` is true during a pause and while the leader is halted.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn running(
    context: &Context,
    resync: Option<&StoredResync>,
    is_held_up: bool,
) -> Result<Vec<RunningWork>, Failure> {
    let mut works = Vec::new();
    if let Some(resync) = resync {
        works.push(resyncing(context, resync).await?);
    }
    for stored in unfinished_commands::running(&context.database).await? {
        // A command of the ticker is a run of the ledger.
        if stored.command.lane() != Lane::Ticker {
            let done = fraction_of(context, &stored).await?;
            works.push(RunningWork::new(stored.command.name().to_owned(), stored.requested_at, done));
        }
    }
    for run in stored_run::under_way(&context.database).await? {
        let done = run.part.map(|(done, all)| fraction(done, all));
        works.extend(run.started.map(|started| RunningWork::new(format!("job {}", run.job), started, done)));
    }
    Ok(if is_held_up { works.into_iter().map(RunningWork::hold_up).collect() } else { works })
}

async fn resyncing(context: &Context, resync: &StoredResync) -> Result<RunningWork, Failure> {
    let stage = resync.stage.as_deref().unwrap_or("begun");
    let done = match (resync.collection(), &resync.after) {
        (Some(name), Some(Bson::ObjectId(after))) => {
            let documents = collection(&context.database, name);
            let all = with_deadline(documents.estimated_document_count()).await.map_err(Failure::Read)?;
            Some(fraction(counted(context, name, doc! { "_id": { "$lte": after } }).await?, all))
        }
        _ => None,
    };
    let began = resync.began.unwrap_or_else(clock::now);
    let name = if resync.is_first_fill() { "first fill" } else { "resync" };
    let mut work = RunningWork::new(format!("{name}, stage {stage}"), began, done);
    // The other stages take a time that nobody knows.
    work.seconds_left = work.seconds_left.filter(|_| stage == WatchedCollection::Recruiters.name());
    Ok(work)
}

async fn fraction_of(context: &Context, stored: &StoredCommand) -> Result<Option<f64>, Failure> {
    let recruiters = WatchedCollection::Recruiters.name();
    let (documents, filter, field) = match &stored.command {
        Command::Backfill { recruiter, active_only } => {
            (recruiters, scan::backfill_filter(*recruiter, *active_only), "recruiters")
        }
        Command::BackfillSelected { filter, active_only } => match backfill::selected(filter, *active_only) {
            Some(filter) => (recruiters, filter, "recruiters"),
            None => return Ok(None),
        },
        Command::BackfillMirror => (OFFERS, doc! { "partner_label": &context.settings.target.partner_label }, "offers"),
        Command::Replay(span) => {
            return Ok(replay::until(stored).map(|until| {
                let seconds = |time: u32| u64::from(time.saturating_sub(span.from.time));
                fraction(seconds(replay::reached(stored, span.from).time), seconds(until.time))
            }));
        }
        _ => return Ok(None),
    };
    let all = counted(context, documents, filter).await?;
    Ok(Some(fraction(count(&stored.progress, field), all)))
}

async fn counted(context: &Context, name: &str, filter: Document) -> Result<u64, Failure> {
    let documents = collection(&context.database, name);
    with_deadline(documents.count_documents(filter)).await.map_err(Failure::Read)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of documents and seconds")]
fn fraction(done: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { done as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_done_in_a_minute_leaves_three_minutes() {
        let began = DateTime::from_millis(clock::now().timestamp_millis() - 60_000);
        let work = RunningWork::new("backfill".to_owned(), began, Some(0.25));
        assert_eq!((work.percent, work.seconds_left, work.running_seconds), (Some(25), Some(180), 60));
        assert_eq!(work.text(), "backfill  25 %, 3m left  (for 1m)");
        assert_eq!(work.hold_up().text(), "backfill  25 %, held up  (for 1m)");
        let unknown = RunningWork::new("job verify".to_owned(), began, None);
        assert_eq!(unknown.text(), "job verify  (for 1m)");
        assert_eq!(RunningWork::new(String::new(), began, Some(0.0)).seconds_left, None);
    }
}
