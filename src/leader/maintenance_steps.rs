//! The pipeline's work between batches: it follows the phase, looks for stored commands, does steps of maintenance and
//! records gaps.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use chrono_tz::Tz;
use tracing::{error, info};

use super::reader::Incoming;
use super::schema_memory::SchemaMemory;
use super::stream_loop::{COMMANDS_INTERVAL, Pipeline};
use crate::clock;
use crate::interruption::{Interruption, Unfinished};
use crate::maintenance::gaps;
use crate::maintenance::resync::Resync;
use crate::model::names::STATE;
use crate::model::names::state_id::TARGET_SCHEMA;
use crate::model::timeline::TimelineEvent;
use crate::retry::Delays;
use crate::shown_time::shown_position;
use crate::target::changes;
use crate::write::update_command;

/// The longest time between two steps of maintenance while the stream is busy.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Takes over the phase of the database. A phase with other watched collections needs another change stream. This
    /// leadership then ends, and the next one opens that stream.
    pub(crate) async fn follow_phase(&mut self) -> Result<(), Unfinished> {
        let (from, to) = (self.apply.stages.phase, self.phase.borrow().phase);
        if from == to {
            return Ok(());
        }
        info!(from = from.word(), to = to.word(), "the phase has changed");
        self.apply.enter(to);
        self.apply.stages.metrics.set_phase(to);
        if to.writes_offers() && !from.writes_offers() && self.maintenance.resync.is_none() {
            self.request_resync("the stream writes offers again").await?;
        }
        let keeps_backup = self.apply.stages.keeps_backup;
        if from.watched(keeps_backup) != to.watched(keeps_backup) {
            self.stop.cancel();
        }
        Ok(())
    }

    /// Tells the mirror whether a job without a link cannot exist.
    pub(crate) fn tell_whether_links_are_complete(&mut self) {
        let resync = self.maintenance.resync.as_ref();
        self.apply.stages.links_are_complete = resync.is_none_or(Resync::has_completed_links);
    }

    /// Takes up a stored command if the last look is [`COMMANDS_INTERVAL`] ago.
    pub(crate) async fn look_for_commands(&mut self) -> Result<(), Unfinished> {
        if self.times.looked.is_some_and(|at| at.elapsed() < COMMANDS_INTERVAL) {
            return Ok(());
        }
        self.times.looked = Some(clock::instant());
        self.may_write()?;
        self.note_schema();
        self.tend_schema().await?;
        let taken_up = self.maintenance.take_up(&self.apply.stages.database, None).await;
        match taken_up {
            Ok(()) => Ok(()),
            Err(cause) => self.wait_after(cause, &mut Delays::up_to(Duration::from_secs(5))).await,
        }
    }

    /// Tells the timeline what changed in the schema and the indexes of the target since the last look.
    fn note_schema(&mut self) {
        let now = self.apply.stages.target.state();
        if let Some(before) = self.schema.told.replace(now.clone()) {
            for change in changes(&before, &now) {
                self.maintenance.fence.writer.note(TimelineEvent::SchemaChanged { change });
            }
        }
    }

    /// Requests a resync where existing offers were made for another schema of the target, which is in force no longer.
    /// Only where the stream writes offers: the step back to such a phase requests a resync by itself.
    pub(crate) async fn tend_schema(&mut self) -> Result<(), Unfinished> {
        let state = self.apply.stages.target.state();
        if state.is_hidden || !self.apply.stages.phase.writes_offers() {
            return Ok(());
        }
        let now = SchemaMemory::of(&state.schema);
        if self.schema.stored.as_ref() == Some(&now) {
            return Ok(());
        }
        let stored = match self.schema.stored.take() {
            Some(known) => Some(known),
            None => match SchemaMemory::read(&self.apply.stages.database).await {
                Ok(stored) => stored,
                // The next look reads it again.
                Err(failure) => {
                    return self.wait_after(failure.into(), &mut Delays::up_to(Duration::from_secs(5))).await;
                }
            },
        };
        if stored.as_ref().is_some_and(|stored| stored.differs_in_offers(&now)) {
            info!("existing offers differ from the schema of jobs_partners; a resync follows");
            self.resync_everything("the schema of jobs_partners has changed").await?;
        }
        if stored.as_ref() != Some(&now) {
            self.store_state(TARGET_SCHEMA, now.to_document()).await?;
        }
        self.schema.stored = Some(now);
        Ok(())
    }

    /// Sets fields of a document of `stream_processor_state`, unless a later leader has written it. Failed attempts are
    /// repeated.
    pub(crate) async fn store_state(&mut self, id: &str, fields: Document) -> Result<(), Unfinished> {
        let (writer, term) = (self.maintenance.fence.writer.clone(), self.maintenance.fence.term);
        let filter = doc! { "_id": id, "term": { "$not": { "$gt": term } } };
        let mut set = fields;
        set.insert("term", term);
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            self.may_write()?;
            match update_command::record(&writer, STATE, filter.clone(), doc! { "$set": set.clone() }).await {
                Ok(()) => return Ok(()),
                Err(cause) => self.wait_after(cause, &mut delays).await?,
            }
            if self.stop.is_cancelled() {
                return Err(Interruption::Stopping.into());
            }
        }
    }

    /// True if a step of maintenance is due although the stream may have events. A step waits as long as the last step
    /// took, so a busy stream gets half of the time.
    pub(crate) fn step_is_due(&self) -> bool {
        self.times.stepped.is_none_or(|at| at.elapsed() >= self.times.step_took.min(LONGEST_PAUSE))
    }

    pub(crate) async fn background_step(&mut self) -> Result<(), Unfinished> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            let offer_write_lock = Arc::clone(&self.offer_write_lock);
            let offer_write_lock = offer_write_lock.lock().await;
            self.may_write()?;
            let began = clock::instant();
            self.tell_whether_links_are_complete();
            let before = self.apply.stages.written_documents();
            self.apply.stages.throttle.steps();
            let done = self.maintenance.step(&mut self.apply).await;
            self.apply.stages.throttle.step_wrote(self.written_since(before));
            drop(offer_write_lock);
            self.times.stepped = Some(clock::instant());
            self.times.step_took = began.elapsed();
            self.apply.stages.count_dead_letters();
            match done {
                Ok(()) => {
                    self.health.works(crate::observe::health::HealthPart::Pipeline);
                    return Ok(());
                }
                Err(cause) => {
                    // The step may have stopped in the middle of a touch.
                    self.apply.stages.expect_repetition(self.batch_max.saturating_mul(2));
                    self.wait_after(cause, &mut delays).await?;
                }
            }
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// The number of documents that were written since there were `before`.
    pub(crate) fn written_since(&self, before: u64) -> u64 {
        self.apply.stages.written_documents().saturating_sub(before)
    }

    /// Requests a resync of everything. If a resync is running, the new one follows it: a restart with each deletion or
    /// gap could keep it from ever ending.
    pub(crate) async fn resync_everything(&mut self, cause: &str) -> Result<(), Unfinished> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let database = self.apply.stages.database.clone();
        while let Some(resync) = &mut self.maintenance.resync {
            match resync.ask_again(&database).await {
                Ok(()) => return Ok(()),
                Err(cause) => self.wait_after(cause, &mut delays).await?,
            }
            if self.stop.is_cancelled() {
                return Err(Interruption::Stopping.into());
            }
        }
        self.request_resync(cause).await
    }

    async fn request_resync(&mut self, cause: &str) -> Result<(), Unfinished> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            self.may_write()?;
            match self.maintenance.request_resync(&self.apply, cause).await {
                Ok(()) => return Ok(()),
                Err(cause) => self.wait_after(cause, &mut delays).await?,
            }
            if self.stop.is_cancelled() {
                return Err(Interruption::Stopping.into());
            }
        }
    }

    pub(crate) async fn open_gap(&mut self, gap: Incoming) -> Result<(), Unfinished> {
        let Incoming::Gap { from, to, cause } = gap else {
            return Ok(());
        };
        error!(
            error = cause,
            from = shown_position(from, Tz::UTC),
            to = shown_position(to, Tz::UTC),
            "events between these times were not read; a resync follows"
        );
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let writer = self.maintenance.fence.writer.clone();
        while let Err(cause) = gaps::open(&writer, from, to, &cause, clock::now()).await {
            self.wait_after(cause, &mut delays).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
        while let Err(cause) = self.note_absent_recruiters().await {
            self.wait_after(cause, &mut delays).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
        self.resync_everything("the history of the stream was lost").await
    }
}
