//! The control carries out the stored commands that pause the service, end the pause, or end the leadership. It works
//! beside the pipeline and the ticker, so that it also answers while one of them is busy or fails.

use std::time::Duration;

use bson::{DateTime, doc, oid::ObjectId};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pause::StoredPause;
use super::stream_loop::COMMANDS_INTERVAL;
use crate::interruption::{Interruption, Unfinished};
use crate::maintenance::command_end::{self, end_cancelled};
use crate::maintenance::refused::refused;
use crate::maintenance::stored_commands::{self, Command, CommandOutcome, Lane, StoredCommand};
use crate::model::timeline::TimelineEvent;
use crate::mongo::server_clock::server_time;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::tasks::pause;
use crate::write::Writer;
use crate::write::stored_throttle::store_order;
use crate::write::throttle::Throttle;

/// The refusal of `resume` where there is nothing to resume.
pub(crate) const NOT_PAUSED: &str = "the service is not paused, and no leader is halted";

/// What the holder of the lease does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaderState {
    Leads,
    Paused,
    /// The holder is the command line, because there is no leader.
    HoldsForCommand,
}

/// A decision of a person after which the holder of the lease does something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The leadership ends, and the pause begins.
    Pause,
    /// The pause is over.
    Resume,
    /// The lease is given back, and not asked for again for this time.
    Stepdown(Duration),
}

/// The control of the process that holds the lease.
#[derive(Debug)]
pub(crate) struct Control {
    /// The writer under the lease, with its timeline.
    pub writer: Writer,
    /// The term of the lease.
    pub term: i64,
    /// The name of this instance.
    pub instance: String,
    /// The throttle that an order changes.
    pub throttle: Throttle,
    pub state: LeaderState,
}

impl Control {
    /// Carries commands out until one ends the leadership, or until `stop`.
    ///
    /// # Errors
    /// [`Interruption::Paused`], [`Interruption::SteppedDown`].
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Unfinished> {
        match self.decided(&stop).await {
            Some(Decision::Stepdown(duration)) => Err(Interruption::SteppedDown(duration).into()),
            Some(Decision::Pause) => Err(Interruption::Paused.into()),
            Some(Decision::Resume) | None => Ok(()),
        }
    }

    /// Carries commands out until one of them is a decision; `None` when `stop` comes first. A lost lease ends the
    /// leadership elsewhere.
    pub(super) async fn decided(&self, stop: &CancellationToken) -> Option<Decision> {
        let mut failed = RepeatedFailure::default();
        loop {
            match self.look(None).await {
                Ok(Some(decision)) => return Some(decision),
                Ok(None) => {
                    if let Some(ended) = failed.end() {
                        let (failures, seconds) = (ended.failures, ended.seconds);
                        info!(failures, seconds, "the control works again");
                    }
                }
                Err(unfinished) if failed.is_new(&unfinished) => {
                    warn!(error = %unfinished, advice = unfinished.advice(), "the control failed; retrying");
                }
                Err(_) => {}
            }
            if !pause(stop, COMMANDS_INTERVAL).await {
                return None;
            }
        }
    }

    /// Carries out the oldest command of the control, or only the one with the id `only`.
    ///
    /// # Errors
    /// [`Unfinished`]: the command is taken up again at the next look.
    pub(crate) async fn look(&self, only: Option<ObjectId>) -> Result<Option<Decision>, Unfinished> {
        let database = self.writer.database();
        if self.state == LeaderState::Paused {
            end_cancelled(&self.writer, self.term).await?;
        }
        let Some(mut stored) = stored_commands::take_up(database, Lane::Control, only, self.term).await? else {
            return Ok(None);
        };
        info!(command = %stored.id, order = stored.command.name(), "a command starts");
        match stored.command.clone() {
            Command::Pause { reason, limit_seconds } => self.pause(&stored, reason, limit_seconds).await,
            Command::Resume { .. } => self.resume(&mut stored).await,
            Command::Stepdown { seconds } => self.step_down(&stored, seconds).await,
            Command::Throttle { max_writes_per_second, reason } => {
                self.order(&stored, max_writes_per_second, &reason).await
            }
            // The other commands belong to the other lanes, see `Command::lane`.
            _ => Ok(None),
        }
    }

    /// Stores the pause. A leader finishes the command when it has ended all other work, see [`super::during_pause`].
    async fn pause(
        &self,
        stored: &StoredCommand,
        reason: String,
        limit_seconds: i64,
    ) -> Result<Option<Decision>, Unfinished> {
        let database = self.writer.database();
        let (standing, now) = (StoredPause::read(database).await?, server_time(database).await?);
        // After a crash in between, the command is taken up again, and the pause is its own.
        let pause = match &standing {
            Some(pause) if pause.command == Some(stored.id) => pause.clone(),
            _ => StoredPause {
                since: standing.as_ref().map_or(now, |standing| standing.since),
                limit_at: later(now, limit_seconds),
                who: stored.who.clone(),
                reason,
                command: Some(stored.id),
            },
        };
        pause.store(&self.writer, self.term).await?;
        if standing.is_none() {
            self.writer.note(TimelineEvent::Paused { limit_seconds });
        }
        if self.state == LeaderState::Leads {
            return Ok(Some(Decision::Pause));
        }
        self.finish(stored, doc! { "since": pause.since, "limit_at": pause.limit_at }).await?;
        Ok(None)
    }

    async fn resume(&self, stored: &mut StoredCommand) -> Result<Option<Decision>, Unfinished> {
        let database = self.writer.database();
        let now = server_time(database).await?;
        let since = match StoredPause::read(database).await? {
            Some(pause) => pause.since,
            // The pause was ended by an earlier attempt, whose end was not stored.
            None => match stored.progress.get_datetime("since") {
                Ok(since) => *since,
                Err(_) => return self.refuse(stored, NOT_PAUSED).await,
            },
        };
        stored.progress.insert("since", since);
        stored_commands::store_progress(database, stored, self.term).await?;
        StoredPause::end(&self.writer, self.term).await?;
        let seconds = (now.timestamp_millis() - since.timestamp_millis()) / 1_000;
        self.writer.note(TimelineEvent::Resumed { seconds });
        self.finish(stored, doc! { "since": since, "seconds": seconds }).await?;
        Ok(Some(Decision::Resume))
    }

    async fn step_down(&self, stored: &StoredCommand, seconds: i64) -> Result<Option<Decision>, Unfinished> {
        if self.state == LeaderState::HoldsForCommand {
            return self.refuse(stored, "no instance leads").await;
        }
        let instance = self.instance.clone();
        self.finish(stored, doc! { "instance": &instance, "term": self.term, "seconds": seconds }).await?;
        self.writer.note(TimelineEvent::SteppedDown { instance, seconds });
        Ok(Some(Decision::Stepdown(Duration::from_secs(seconds.unsigned_abs()))))
    }

    /// Stores the order of a ceiling, and keeps to it from now on.
    async fn order(
        &self,
        stored: &StoredCommand,
        ordered: Option<u32>,
        reason: &str,
    ) -> Result<Option<Decision>, Unfinished> {
        let at = server_time(self.writer.database()).await?;
        store_order(&self.writer, self.term, ordered, (&stored.who, reason, at)).await?;
        self.throttle.order(ordered);
        let ceiling = self.throttle.ceiling().map(i64::from);
        self.writer.note(TimelineEvent::Throttled { off: ordered.is_none(), max_writes_per_second: ceiling });
        self.finish(stored, doc! { "max_writes_per_second": ceiling }).await?;
        Ok(None)
    }

    async fn refuse(&self, stored: &StoredCommand, reason: &str) -> Result<Option<Decision>, Unfinished> {
        self.end(stored, refused([reason.to_owned()])).await?;
        Ok(None)
    }

    async fn finish(&self, stored: &StoredCommand, details: bson::Document) -> Result<(), Unfinished> {
        self.end(stored, CommandOutcome { done: true, details }).await
    }

    async fn end(&self, stored: &StoredCommand, outcome: CommandOutcome) -> Result<(), Unfinished> {
        stored_commands::finish(self.writer.database(), stored.id, self.term, &outcome).await?;
        command_end::tell(&self.writer, stored, &outcome);
        Ok(())
    }
}

fn later(time: DateTime, seconds: i64) -> DateTime {
    DateTime::from_millis(time.timestamp_millis().saturating_add(seconds.saturating_mul(1_000)))
}
