//! Watches who else changes our offers, with a thin cursor of its own, in every phase. The leader's own writes are told
//! from others by [`crate::write::own_writes`], and our offers by their label. The watch never ends a leadership: after a
//! failure it is retried. The pipeline does not wait for it. The watch pauses while the leader writes many offers itself:
//! nearly all events would be its own, and reading them would slow the writing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::Database;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::foreign_counts::{Bursts, ForeignCounts, fields, minute_of};
use super::foreign_minutes;
use super::reader::EVENTS_PER_REPLY;
use crate::clock;
use crate::context::Context;
use crate::error::{Directive, Failure};
use crate::fetch::own_offers::own_offers;
use crate::interruption::Unfinished;
use crate::model::ids::JobId;
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::observe::metrics::Metrics;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::retry::Delays;
use crate::source::aggregation::Watched;
use crate::source::cursor::{Cursor, StreamPosition, operation_time};
use crate::source::event::{Event, Operation};
use crate::tasks::pause;
use crate::write::Writer;
use crate::write::own_writes::{OwnWrites, UNANSWERED};
use crate::write::recorder::note_at_once;

const WATCHED: [WatchedCollection; 1] = [WatchedCollection::Offers];
/// The pause after each reply. Nobody waits for these counts, and fewer replies cost less.
const BETWEEN_REPLIES: Duration = Duration::from_secs(1);
/// The time between two saves of counts.
const BETWEEN_SAVES: Duration = Duration::from_secs(5);
/// The number of minutes after which counts that cannot be saved are dropped.
const UNSAVED: usize = 60;
/// The number of saves after which old counts are deleted again.
const FORGET_AFTER: u32 = 1_000;

/// The watch of one leadership.
pub(super) struct ForeignWriteWatch {
    /// A database with a floor and a continuity of its own: this cursor says nothing about the caches of the pipeline.
    database: CausalDatabase,
    writer: Writer,
    term: i64,
    own: OwnWrites,
    partner_label: String,
    await_time: Duration,
    primary_changes: PrimaryChanges,
    metrics: Arc<Metrics>,
    /// The position behind the events that were taken; `None` to begin with the present time.
    position: Option<StreamPosition>,
    /// Events that are not the leader's own, and of which the label is not known yet.
    unjudged: Vec<Event>,
    /// The minutes that are not over, or not saved.
    minutes: BTreeMap<i64, Minute>,
    bursts: Bursts,
    saved: Instant,
    saves_until_forgotten: u32,
    failed: RepeatedFailure,
    failed_save: RepeatedFailure,
    /// The time since which the watch pauses; `None` while it reads.
    paused: Option<Instant>,
    stop: CancellationToken,
}

/// The cursor, and the number of changes of the primary before it was opened.
struct OpenCursor {
    cursor: Cursor,
    primary: u64,
}

#[derive(Debug, Default)]
struct Minute {
    counts: ForeignCounts,
    is_saved: bool,
    /// True when the minute is over, and its burst is told.
    is_over: bool,
}

impl ForeignWriteWatch {
    /// Makes the watch. `own` must remember every write of this leadership.
    pub(super) fn new(context: &Context, writer: Writer, own: OwnWrites, term: i64, stop: CancellationToken) -> Self {
        let settings = &context.settings;
        Self {
            database: CausalDatabase::new(Database::clone(&context.database)),
            writer,
            term,
            own,
            partner_label: settings.target.partner_label.clone(),
            await_time: settings.stream.await_time,
            primary_changes: context.primary_changes.clone(),
            metrics: Arc::clone(&context.metrics),
            position: None,
            unjudged: Vec::new(),
            minutes: BTreeMap::new(),
            bursts: Bursts::new(settings.foreign_writes.burst),
            saved: clock::instant(),
            saves_until_forgotten: 0,
            failed: RepeatedFailure::default(),
            failed_save: RepeatedFailure::default(),
            paused: None,
            stop,
        }
    }

    /// Watches until `stop`, and then saves what is counted. Only reads are cut off: a write without an answer would keep the
    /// lease from being free at once.
    ///
    /// # Errors
    /// None.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let (stop, mut open, mut delays) = (self.stop.clone(), None, Delays::up_to(Duration::from_secs(5)));
        while !stop.is_cancelled() {
            let read = tokio::select! { () = stop.cancelled() => break, read = self.read(&mut open) => read };
            let wait = match read {
                Ok(wait) => {
                    delays.reset();
                    if let Some(ended) = self.failed.end() {
                        let (failures, seconds) = (ended.failures, ended.seconds);
                        info!(failures, seconds, "the watch for foreign writes works again");
                    }
                    self.save_if_due().await;
                    wait
                }
                Err(failure) => {
                    open = None;
                    self.note_failure(&failure);
                    delays.next_delay()
                }
            };
            pause(&stop, wait).await;
        }
        self.end_minutes(i64::MAX);
        self.save().await;
        if let Some(burst) = self.bursts.end() {
            note_at_once(&self.writer, burst).await;
        }
        Ok(())
    }

    fn note_failure(&mut self, failure: &Failure) {
        if self.failed.is_new(failure) {
            warn!(error = %failure, advice = failure.advice(), "the watch for foreign writes failed; retrying");
        }
        // Such a position is lost, or an event cannot be delivered. The writes up to now are not counted.
        if matches!(failure.directive(), Directive::Resync | Directive::PassOver) {
            self.position = None;
        }
    }

    /// Reads one reply, after opening the cursor if there is none. Returns the time to wait before the next reply.
    async fn read(&mut self, open: &mut Option<OpenCursor>) -> Result<Duration, Failure> {
        self.judge().await?;
        let OpenCursor { cursor, primary } = match open {
            Some(open) => open,
            None => open.insert(self.open().await?),
        };
        if self.primary_changes.found() != *primary {
            return Err(Failure::NewPrimary);
        }
        let asked = clock::instant();
        let reply = cursor.next(|_| {}).await?;
        if reply.invalidates() {
            (*open, self.position) = (None, None);
            return Ok(Duration::ZERO);
        }
        let position = reply.position.cluster_time();
        let others = reply.events.into_iter().filter(|event| is_write(event) && !self.is_own(event));
        self.unjudged.extend(others.collect::<Vec<_>>());
        self.position = Some(StreamPosition::After(reply.position));
        self.own.forget(asked, reply.operation_time, position);
        self.judge().await?;
        self.end_minutes(i64::from(position.time) / 60);
        if self.own.was_incomplete() {
            // Own writes that the full memory did not take would count. They are over after this time.
            (*open, self.position) = (None, None);
            self.note_pause();
            return Ok(UNANSWERED);
        }
        if let Some(since) = self.paused.take() {
            info!(seconds = since.elapsed().as_secs(), "the watch for foreign writes goes on");
        }
        Ok(BETWEEN_REPLIES)
    }

    fn note_pause(&mut self) {
        if self.paused.is_none() {
            info!("the leader writes many offers itself; the watch for foreign writes pauses");
            self.paused = Some(clock::instant());
        }
        self.metrics.foreign_writes_unwatched(UNANSWERED);
    }

    /// Opens the cursor at the position, or at the present time.
    async fn open(&mut self) -> Result<OpenCursor, Failure> {
        let primary = self.primary_changes.found();
        let position = match &self.position {
            Some(position) => position.clone(),
            None => StreamPosition::At(operation_time(&self.database).await?),
        };
        self.position = Some(position.clone());
        let size = u32::try_from(EVENTS_PER_REPLY).unwrap_or(u32::MAX);
        let watched = Watched { collections: &WATCHED, own_label: Some(&self.partner_label), omits_foreign: true };
        let cursor = Cursor::open(&self.database, watched, &position, self.await_time, size).await?;
        Ok(OpenCursor { cursor, primary })
    }

    fn is_own(&self, event: &Event) -> bool {
        event.id().is_some_and(|offer| self.own.explains(offer))
    }

    /// Counts the events of our offers, and drops the others.
    async fn judge(&mut self) -> Result<(), Failure> {
        if self.unjudged.is_empty() {
            return Ok(());
        }
        let ours = own_offers(&self.database, &self.partner_label, self.unjudged.iter()).await?;
        for event in std::mem::take(&mut self.unjudged) {
            if event.id().is_some_and(|id| ours.contains(&JobId(id))) {
                self.count(&event);
            }
        }
        Ok(())
    }

    fn count(&mut self, event: &Event) {
        self.metrics.foreign_write(event.operation, fields(event));
        let over = self.minutes.iter().filter(|(_, minute)| minute.is_over).map(|(number, _)| *number).next_back();
        // The clock of the server may be put back. A minute that is over stays as it is.
        let number = minute_of(event.wall_time).max(over.map_or(i64::MIN, |over| over + 1));
        let minute = self.minutes.entry(number).or_default();
        minute.counts.add(event);
        minute.is_saved = false;
    }

    /// Ends the minutes before `now`, and tells the bursts that are over.
    fn end_minutes(&mut self, now: i64) {
        for (number, minute) in self.minutes.range_mut(..now).filter(|(_, minute)| !minute.is_over) {
            minute.is_over = true;
            if let Some(burst) = self.bursts.minute(*number, &minute.counts) {
                self.writer.note(burst);
            }
        }
        if now < i64::MAX
            && let Some(burst) = self.bursts.quiet_until(now)
        {
            self.writer.note(burst);
        }
    }

    async fn save_if_due(&mut self) {
        if self.saved.elapsed() >= BETWEEN_SAVES {
            self.saved = clock::instant();
            self.save().await;
        }
    }

    /// Saves the counts. A failure is logged, and the counts are saved later.
    async fn save(&mut self) {
        match self.try_save().await {
            Ok(()) => {
                self.failed_save.end();
            }
            Err(cause) if self.failed_save.is_new(&cause) => {
                warn!(error = %cause, "the counts of foreign writes could not be saved; retrying");
            }
            Err(_) => {}
        }
        while self.minutes.len() > UNSAVED {
            self.minutes.pop_first();
        }
    }

    async fn try_save(&mut self) -> Result<(), Unfinished> {
        for (number, minute) in self.minutes.iter_mut().filter(|(_, minute)| !minute.is_saved) {
            foreign_minutes::store(&self.writer, self.term, *number, &minute.counts).await?;
            minute.is_saved = true;
            if self.saves_until_forgotten == 0 {
                self.saves_until_forgotten = FORGET_AFTER;
                foreign_minutes::forget(&self.writer).await?;
            }
            self.saves_until_forgotten -= 1;
        }
        // The last minute that is over shows which minutes are.
        let last_over = self.minutes.iter().filter(|(_, minute)| minute.is_over).map(|(number, _)| *number).next_back();
        self.minutes.retain(|number, minute| !minute.is_over || !minute.is_saved || Some(*number) == last_over);
        Ok(())
    }
}

/// True for an event of one document.
fn is_write(event: &Event) -> bool {
    matches!(event.operation, Operation::Insert | Operation::Update | Operation::Replace | Operation::Delete)
}
