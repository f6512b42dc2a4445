//! The step to another phase: allowed or refused, and carried out (spec 04). [`crate::phase::step_conditions`] has the
//! conditions, and [`crate::phase::state`] stores the phase.

use std::time::Duration;

use bson::doc;

use super::refused::refused;
use super::stored_commands::{CommandOutcome, StoredCommand};
use super::worker::MaintenanceWorker;
use crate::apply::executor::Apply;
use crate::interruption::Unfinished;
use crate::model::timeline::TimelineEvent;
use crate::mongo::server_clock::server_time;
use crate::phase::state::{self, PhaseChange};
use crate::phase::step_conditions::conditions;
use crate::phase::watcher;
use crate::phase::{Phase, StepDirection};

/// The pause before the next look while a step back waits for the mirror.
const DRAINING: Duration = Duration::from_millis(100);

impl MaintenanceWorker {
    /// Requests the resync that must follow a step: one side was not written until now. It is requested before the step,
    /// so that a crash in between cannot lose it.
    async fn prepare_step(
        &mut self,
        apply: &Apply,
        from: Phase,
        to: Phase,
        way: StepDirection,
    ) -> Result<(), Unfinished> {
        let keeps_backup = apply.stages.keeps_backup;
        if way == StepDirection::Back && to.writes_offers() && !from.writes_offers() {
            self.request_resync(apply, "the stream writes offers again").await?;
        } else if to.mirrors(keeps_backup) && !from.mirrors(keeps_backup) {
            self.request_resync(apply, "the mirror begins").await?;
        }
        Ok(())
    }

    /// Steps to another phase, or refuses that with the reasons. `to` is `None` for a word that is no phase, and `force`
    /// steps although conditions are not met. Returns `None` while the step must wait.
    ///
    /// # Errors
    /// [`Unfinished`]: the step can be repeated.
    pub(super) async fn set_phase(
        &mut self,
        stored: &StoredCommand,
        apply: &mut Apply,
        to: Option<Phase>,
        force: bool,
        reason: Option<String>,
    ) -> Result<Option<CommandOutcome>, Unfinished> {
        if must_drain(stored, apply, to) {
            tokio::time::sleep(DRAINING).await;
            return Ok(None);
        }
        let database = apply.stages.database.clone();
        let was_made = state::was_made_by(&self.fence, stored.id).await?;
        let current = state::load(&database, self.initial).await?;
        if was_made {
            watcher::note(&self.known, &current);
            return Ok(Some(CommandOutcome { done: true, details: doc! { "phase": current.phase.word() } }));
        }
        let way = to.and_then(|to| Some((to, current.phase.way_to(to)?)));
        let Some((to, way)) = way else {
            let cause =
                format!("the phase is {}: only the phase before it or after it can be entered", current.phase.word());
            return Ok(Some(refused([cause])));
        };
        let now = server_time(&database).await?;
        let facts = state::facts(&database, &current, Some(stored.id), now).await?;
        let unmet: Vec<String> = conditions(&facts, to)
            .into_iter()
            .filter(|condition| !condition.met)
            .map(|unmet| format!("{}: {}", unmet.condition, unmet.found))
            .collect();
        if !unmet.is_empty() && !force {
            return Ok(Some(refused(unmet)));
        }
        self.prepare_step(apply, current.phase, to, way).await?;
        let position = self.positions.load().await?.map(|checkpoint| checkpoint.to_document()).unwrap_or_default();
        let left = position.into_iter().filter(|(name, _)| ["token", "cluster_time"].contains(&name.as_str()));
        let change = PhaseChange {
            from: current,
            to,
            command: stored.id,
            who: stored.who.clone(),
            reason,
            overridden: unmet,
            position: left.collect(),
        };
        let step = TimelineEvent::PhaseStep {
            from: change.from.phase.word(),
            to: to.word(),
            forced: !change.overridden.is_empty(),
        };
        if !state::change(&self.fence, &change, now).await? {
            return Ok(Some(refused(["another process changed the phase meanwhile".to_owned()])));
        }
        self.fence.writer.note(step);
        watcher::note(&self.known, &state::load(&database, self.initial).await?);
        Ok(Some(CommandOutcome { done: true, details: doc! { "phase": to.word() } }))
    }
}

/// True while offers that were written before the command may wait to be mirrored: a step back would leave their jobs
/// old. Without a stream, the comparison before the step tells what differs.
fn must_drain(stored: &StoredCommand, apply: &Apply, to: Option<Phase>) -> bool {
    let stages = &apply.stages;
    let is_back = to.is_some_and(Phase::writes_offers);
    let asked = stored.requested_at.timestamp_millis() / 1_000;
    let is_behind = stages.health.applied_time().is_some_and(|applied| i64::from(applied.time) <= asked);
    is_back && stages.phase.mirrors(stages.keeps_backup) && is_behind
}
