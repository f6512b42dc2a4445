//! The occurrences of the jobs that are on, and their entries in the ledger. Of several occurrences at once, only the
//! last one is run.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::DateTime;

use super::clock_ahead;
use super::job::TimedJob;
use super::ledger::{self, LedgerEntry, RunOutcome};
use crate::config::TickerSettings;
use crate::context::Context;
use crate::interruption::Unfinished;
use crate::model::time::{is_ahead, seconds};
use crate::phase::{Phase, state};
use crate::schedule::{Schedule, zone};
use crate::write::transaction::Fence;

/// The outcome and reason of occurrences that are not run.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassedOutcome {
    outcome: RunOutcome,
    reason: &'static str,
}

/// The outcome and reason of occurrences that a later one has overtaken, while another run was under way.
pub(super) const OVERTAKEN: PassedOutcome =
    PassedOutcome { outcome: RunOutcome::Skipped, reason: "a later occurrence was due already" };
/// The outcome and reason of occurrences that came due before this leadership began.
pub(super) const MISSED: PassedOutcome = PassedOutcome { outcome: RunOutcome::Missed, reason: "nothing was running" };

/// The schedule of one job, and the state of its entries.
#[derive(Debug)]
struct OccurrencePlan {
    schedule: Schedule,
    /// The age up to which a missed occurrence is run after all.
    catch_up: Duration,
    /// The time up to which all occurrences are in the ledger; `None` for a job that was off.
    through: Option<DateTime>,
    /// The time after which the next occurrence is owed: that of the last success, or of the first occurrence of a job
    /// that was never done. `None` until it is known.
    owed_after: Option<DateTime>,
}

/// The plans of the jobs that run by their schedules.
#[derive(Debug)]
pub(super) struct Plans(BTreeMap<TimedJob, OccurrencePlan>);

impl Plans {
    /// Plans for the jobs that the configuration turns on.
    pub(super) fn configured(ticker: &TickerSettings) -> Self {
        let plan = |job: TimedJob| {
            let settings = ticker.jobs.get(job.name()).filter(|job| ticker.enabled && job.enabled)?;
            // The configuration was checked at the start, so neither the zone nor an expression fails here.
            let schedule = Schedule::parse(&settings.crons, zone(&ticker.time_zone)?).ok()?;
            Some((job, OccurrencePlan { schedule, catch_up: settings.catch_up, through: None, owed_after: None }))
        };
        Self(TimedJob::ALL.into_iter().filter_map(plan).collect())
    }

    /// Takes over `through` of each job as it is stored. Returns the names of the jobs in `through` that are off now.
    pub(super) fn resume(&mut self, mut through: BTreeMap<String, DateTime>) -> Vec<String> {
        for (job, plan) in &mut self.0 {
            plan.through = through.remove(job.name());
        }
        through.into_keys().collect()
    }

    /// Reads from the ledger what each job owes. A job owes nothing from before the step to the present phase.
    ///
    /// # Errors
    /// [`Failure::Read`](crate::error::Failure::Read).
    pub(super) async fn recall(&mut self, context: &Context, now: DateTime) -> Result<(), Unfinished> {
        let entered = state::load(&context.database, context.settings.phase.initial).await?.since;
        for (job, plan) in &mut self.0 {
            let last = ledger::previous(&context.database, job.name(), now).await?;
            let known = match last {
                Some(last) => Some(last),
                // Its first occurrence was not done, so it is what the job owes.
                None => ledger::first(&context.database, job.name()).await?.map(just_before).or(plan.through),
            };
            plan.owed_after = Some(known.unwrap_or(now).max(entered.unwrap_or(DateTime::MIN)).min(now));
        }
        Ok(())
    }

    /// Notes that a run of a job succeeded.
    pub(super) fn succeeded(&mut self, job: TimedJob, now: DateTime) {
        if let Some(plan) = self.0.get_mut(&job) {
            plan.owed_after = plan.owed_after.max(Some(now));
        }
    }

    /// Sets the metric of what each job owes. A job without work in this phase owes nothing.
    pub(super) fn show_due(&mut self, context: &Context, phase: Phase, now: DateTime) {
        for (job, plan) in &mut self.0 {
            if !job.applies_in(phase) {
                plan.owed_after = Some(now);
            }
            let owed = plan.owed_after.filter(|_| job.applies_in(phase));
            let due = owed.and_then(|after| plan.schedule.next_after(after));
            context.metrics.set_job_due(*job, due.map_or(f64::NAN, seconds));
        }
    }

    /// Enters the occurrences that have come due by `now`. Occurrences that are not run get the outcome `passed`. True
    /// when one occurrence is to be run.
    ///
    /// # Errors
    /// As [`ledger::enter`].
    pub(super) async fn enter(
        &mut self,
        context: &Context,
        fence: &Fence,
        now: DateTime,
        PassedOutcome { outcome: passed, reason }: PassedOutcome,
    ) -> Result<bool, Unfinished> {
        let (database, mut owes) = (&context.database, false);
        for (job, plan) in &mut self.0 {
            let Some(mut through) = plan.through else {
                // The job was just turned on: its occurrences count from now, and earlier ones are not missed.
                ledger::enter(fence, *job, now, &[]).await?;
                plan.through = Some(now);
                continue;
            };
            if is_ahead(through, now) {
                through = clock_ahead::take_back(fence, *job, through, now).await?;
                plan.through = Some(through);
                // The metric may show a success at a time that has not come yet.
                let last = ledger::previous(database, job.name(), now).await?;
                let last = last.map(seconds).unwrap_or_default();
                context.metrics.set_job_last_success(*job, last);
            }
            let Some(due) = plan.schedule.due(through, now) else { continue };
            let age = now.timestamp_millis().saturating_sub(due.last.timestamp_millis()).unsigned_abs();
            // Under a leader, the last occurrence is always run. If nothing was running, only a young one is caught up.
            let is_run = passed == RunOutcome::Skipped || Duration::from_millis(age) < plan.catch_up;
            let others = due.count - u64::from(is_run);
            let mut entries = Vec::new();
            if others > 0 {
                entries.push(LedgerEntry::Passed { first: due.first, count: others, outcome: passed, reason });
                context.metrics.job_runs(*job, passed, others);
            }
            if is_run {
                entries.push(LedgerEntry::Due(due.last));
                owes = true;
            }
            ledger::enter(fence, *job, due.last, &entries).await?;
            plan.through = Some(due.last);
        }
        Ok(owes)
    }
}

/// A time for which the next occurrence after it is this one.
fn just_before(time: DateTime) -> DateTime {
    DateTime::from_millis(time.timestamp_millis() - 1)
}
