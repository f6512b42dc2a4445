//! The maintenance worker does the work beside the live stream in steps: a resync first, then the stored command that
//! is taken up ([`crate::maintenance::stored_commands`]). A step is short, needs the lease, and can be repeated after a crash.

use bson::{DateTime, doc, oid::ObjectId};
use mongodb::Database;
use resume_tokens::Store;
use tracing::{Instrument as _, Span as TracingSpan, info};

use super::backfill::{self, AFTER_OTHER};
use super::backfill_mirror;
use super::refused::{refused, refused_by};
use super::replay::{self, Replaying};
use super::resync::Resync;
use super::retry_dead_letters::Selection;
use super::stored_commands::{self, CANCELLED, Command, CommandOutcome, Lane, Span, StoredCommand, count, counted};
use super::{command_end, retry_dead_letters};
use crate::apply::dry_run::WriteCounts;
use crate::apply::executor::Apply;
use crate::config::Choice as _;
use crate::error::Directive;
use crate::interruption::Unfinished;
use crate::model::timeline::TimelineEvent;
use crate::mongo::oplog::Oplog;
use crate::mongo::server_clock::server_time;
use crate::phase::Phase;
use crate::phase::watcher::KnownPhase;
use crate::source::scan;
use crate::traces;
use crate::write::Writer;
use crate::write::transaction::Fence;

/// The field of a command's progress that is true once its resync is requested.
const BEGUN: &str = "begun";

/// The maintenance worker of one term of the lease.
#[derive(Debug)]
pub(crate) struct MaintenanceWorker {
    /// The resync that is not finished. Commands wait for it.
    pub resync: Option<Resync>,
    /// True if the resync must wait, because a source is gone or is being filled again.
    pub held: bool,
    /// The command that is taken up and not finished.
    command: Option<StoredCommand>,
    /// The fence of this term. The transaction of a step to another phase needs it.
    pub(crate) fence: Fence,
    /// The setting `phase.initial`.
    pub(super) initial: Phase,
    /// The phase as this leadership knows it.
    pub(super) known: KnownPhase,
    /// The store of checkpoints. A step to another phase records the position at which it happens.
    pub(super) positions: Store,
    /// The offers that the resync wrote since this leadership took it up.
    resync_written: WriteCounts,
    /// The replay that is carried out; `None` if there is none, or after a failure.
    replaying: Option<Replaying>,
    /// The trace of the command that is taken up.
    trace: TracingSpan,
}

impl MaintenanceWorker {
    /// Makes the worker for the term of `fence`. `resync` is new, or left unfinished by an earlier leadership.
    #[must_use]
    pub(crate) fn new(
        resync: Option<Resync>,
        fence: Fence,
        initial: Phase,
        known: KnownPhase,
        positions: Store,
    ) -> Self {
        Self {
            resync,
            held: false,
            command: None,
            fence,
            initial,
            known,
            positions,
            resync_written: WriteCounts::default(),
            replaying: None,
            trace: TracingSpan::none(),
        }
    }

    /// True if a step can be done now.
    #[must_use]
    pub(crate) fn has_work(&self) -> bool {
        match self.resync {
            Some(_) => !self.held,
            None => self.command.is_some(),
        }
    }

    /// Takes up the oldest stored command, or only the one with the id `only`, unless one is taken up already. Ends the
    /// command if a person cancelled it. A resync that it requested goes on.
    ///
    /// # Errors
    /// As [`stored_commands::take_up`] and [`stored_commands::finish`].
    pub(crate) async fn take_up(&mut self, database: &Database, only: Option<ObjectId>) -> Result<(), Unfinished> {
        if self.command.is_none() {
            self.command = stored_commands::take_up(database, Lane::Pipeline, only, self.fence.term).await?;
            if let Some(stored) = &self.command {
                info!(command = %stored.id, order = stored.command.name(), "a command starts");
                self.trace = traces::command(stored.command.name());
            }
        }
        if let Some(stored) = &self.command
            && stored_commands::is_cancelled(database, stored.id).await?
        {
            let outcome = refused([CANCELLED.to_owned()]);
            stored_commands::finish(database, stored.id, self.fence.term, &outcome).await?;
            command_end::tell(&self.fence.writer, stored, &outcome);
            (self.command, self.replaying, self.trace) = (None, None, TracingSpan::none());
        }
        Ok(())
    }

    /// Requests a resync. A running resync begins again.
    ///
    /// # Errors
    /// As [`Resync::request`].
    pub(crate) async fn request_resync(&mut self, apply: &Apply, cause: &str) -> Result<(), Unfinished> {
        let stages = &apply.stages;
        self.resync = Some(Resync::request(&self.fence.writer, &stages.metrics, cause, self.fence.term).await?);
        Ok(())
    }

    /// Does one step of the resync, or else of the command.
    ///
    /// # Errors
    /// [`Unfinished`]: an interruption, or a failure that is not about one document. The step can be repeated.
    pub(crate) async fn step(&mut self, apply: &mut Apply) -> Result<(), Unfinished> {
        if let Some(resync) = &mut self.resync {
            let before = apply.stages.write_counts;
            let step = Box::pin(resync.step(apply, &self.fence.writer));
            let ended = step.instrument(traces::command("resync")).await?;
            self.resync_written.add_since(before, apply.stages.write_counts);
            if ended {
                let (began, written) = (resync.began, std::mem::take(&mut self.resync_written));
                self.resync = None;
                note_resync(&self.fence.writer, began, written).await;
            }
            return self.count_for_command(before, apply).await;
        }
        let Some(mut stored) = self.command.take() else {
            return Ok(());
        };
        let before = stored.progress.clone();
        let trace = self.trace.clone();
        let outcome = Box::pin(self.carry_out(&mut stored, apply)).instrument(trace).await;
        let (database, id) = (&apply.stages.database, stored.id);
        // The command is kept until its outcome is stored. After a failure the step is repeated and changes nothing.
        let stored = self.command.insert(stored);
        match outcome? {
            Some(outcome) => {
                stored_commands::finish(database, id, self.fence.term, &outcome).await?;
                command_end::tell(&self.fence.writer, stored, &outcome);
                (self.command, self.trace) = (None, TracingSpan::none());
                Ok(())
            }
            None if stored.progress == before || !scan::is_storable(stored.progress.get(AFTER_OTHER)) => Ok(()),
            None => stored_commands::store_progress(database, stored, self.fence.term).await,
        }
    }

    /// Does one step of a command. Returns the outcome when the command is finished.
    async fn carry_out(
        &mut self,
        stored: &mut StoredCommand,
        apply: &mut Apply,
    ) -> Result<Option<CommandOutcome>, Unfinished> {
        match stored.command.clone() {
            Command::Backfill { recruiter, active_only } => {
                backfill::step(stored, apply, &scan::backfill_filter(recruiter, active_only)).await
            }
            Command::BackfillSelected { filter, active_only } => match backfill::selected(&filter, active_only) {
                Some(filter) => backfill::step(stored, apply, &filter).await,
                None => Ok(Some(refused(["the leader cannot read the filter of this backfill".to_owned()]))),
            },
            Command::BackfillMirror => backfill_mirror::step(stored, apply).await,
            Command::Repair => self.repair(stored, apply, "a repair was asked for").await,
            Command::Resync { .. } => self.repair(stored, apply, "an operator asked for it").await,
            Command::RetryDeadLetters { ids, due_at } => {
                retry_dead_letters::step(stored, apply, Selection { ids: &ids, due_at }).await
            }
            Command::Replay(span) => self.replay(stored, apply, &span).await,
            Command::DropDeadLetters { ids, .. } => {
                let dropped = apply.stages.dead_letters.drop_named(&ids).await?;
                info!(dropped, "dead letters were dropped by hand");
                // The count is added to the progress, because the step may be repeated after a lost answer.
                let dropped = count(&stored.progress, "dropped") + dropped;
                Ok(Some(CommandOutcome { done: true, details: doc! { "dropped": counted(dropped) } }))
            }
            Command::SetPhase { to, force, reason } => {
                self.set_phase(stored, apply, Phase::from_word(&to), force, reason).await
            }
            // These commands belong to the other lanes, see `Command::lane`.
            Command::RunJob { .. }
            | Command::AnonymizeUser { .. }
            | Command::Obfuscate
            | Command::Pause { .. }
            | Command::Resume { .. }
            | Command::Stepdown { .. }
            | Command::Throttle { .. } => Ok(Some(refused([]))),
        }
    }

    /// Does the next part of a replay. After a failure the replay begins again at the stored progress.
    async fn replay(
        &mut self,
        stored: &mut StoredCommand,
        apply: &mut Apply,
        span: &Span,
    ) -> Result<Option<CommandOutcome>, Unfinished> {
        if let Some(refused) = refused_by(apply.stages.phase) {
            return Ok(Some(refused));
        }
        // A command gets a step only when no resync is running, so the requested resync is finished.
        if stored.progress.get_bool(replay::ENDED).unwrap_or_default() {
            return Ok(Some(CommandOutcome { done: true, details: stored.progress.clone() }));
        }
        let mut replaying = match self.replaying.take().filter(|replaying| replaying.command == stored.id) {
            Some(replaying) => replaying,
            None => Replaying::begin(stored, span, &apply.stages).await?,
        };
        let step = match Box::pin(replaying.step(stored, apply)).await {
            Ok(step) => step,
            Err(Unfinished::Failed(failure)) if failure.directive() == Directive::Resync => {
                let oplog = Oplog::measure(&apply.stages.database).await?;
                return Ok(Some(refused([replay::too_old(replay::reached(stored, span.from), oplog.as_ref())])));
            }
            Err(unfinished) => return Err(unfinished),
        };
        // The resync is requested before the progress is stored. After a crash in between it is requested again.
        if step.everything && !stored.progress.get_bool(replay::RESYNC).unwrap_or_default() {
            self.request_resync(apply, "what changed in a replayed span cannot be told from its events").await?;
            stored.progress.insert(replay::RESYNC, true);
        }
        if step.ended {
            drop(stored.progress.insert(replay::ENDED, true))
        } else {
            self.replaying = Some(replaying)
        }
        Ok(None)
    }

    /// Adds the writes of a resync to the counts of the command that requested it.
    async fn count_for_command(&mut self, before: WriteCounts, apply: &Apply) -> Result<(), Unfinished> {
        let asked = |stored: &&mut StoredCommand| stored.progress.get_bool(replay::RESYNC).unwrap_or_default();
        let Some(stored) = self.command.as_mut().filter(asked) else {
            return Ok(());
        };
        replay::add_written(stored, before, &apply.stages);
        stored_commands::store_progress(&apply.stages.database, stored, self.fence.term).await
    }

    /// Repairs all offers by a resync, which touches every recruiter and then handles removals.
    async fn repair(
        &mut self,
        stored: &mut StoredCommand,
        apply: &Apply,
        cause: &str,
    ) -> Result<Option<CommandOutcome>, Unfinished> {
        // While the mirror is on, a resync repairs `recruiters`.
        if let Some(refused) = refused_by(apply.stages.phase).filter(|_| !apply.stages.mirrors()) {
            return Ok(Some(refused));
        }
        // A command gets a step only when no resync is running, so the resync that was begun is finished.
        if stored.progress.get_bool(BEGUN).unwrap_or_default() {
            let mut details = stored.progress.clone();
            for field in [BEGUN, replay::RESYNC] {
                details.remove(field);
            }
            return Ok(Some(CommandOutcome { done: true, details }));
        }
        self.request_resync(apply, cause).await?;
        // The second field makes the writes of the resync count for the command.
        stored.progress.extend(doc! { BEGUN: true, replay::RESYNC: true });
        Ok(None)
    }
}

/// Tells the log and the timeline that a resync ended.
async fn note_resync(writer: &Writer, began: DateTime, WriteCounts { created, changed, unchanged }: WriteCounts) {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    // The end is for people. It does not fail because the clock cannot be read.
    let now = server_time(writer.database()).await.unwrap_or(began);
    let seconds = (now.timestamp_millis() - began.timestamp_millis()) / 1_000;
    let (created, changed, unchanged) = (number(created), number(changed), number(unchanged));
    info!(seconds, created, changed, unchanged, "the resync is finished");
    writer.note(TimelineEvent::ResyncEnded { seconds, created, changed, unchanged });
}
