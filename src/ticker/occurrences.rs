//! When the jobs that are on come due, and the ledger's entries for it: of several occurrences only the last one is run.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::DateTime;

use super::job::TimedJob;
use super::ledger::{self, LedgerEntry, RunOutcome};
use super::{ahead, outcome};
use crate::config::TickerSettings;
use crate::context::Context;
use crate::error::Failure;
use crate::model::time::is_ahead;
use crate::schedule::{Schedule, zone};
use crate::write::transaction::Fence;

/// A later occurrence was due already when the run before it had ended.
pub(super) const OVERTAKEN: (RunOutcome, &str) = (RunOutcome::Skipped, "a later occurrence was due already");
/// What came due before a leadership began.
pub(super) const MISSED: (RunOutcome, &str) = (RunOutcome::Missed, "nothing was running");

/// When a job runs by itself.
#[derive(Debug)]
struct OccurrencePlan {
    schedule: Schedule,
    catch_up: Duration,
    /// Up to when its occurrences are in the ledger.
    through: Option<DateTime>,
}

/// The jobs that run by themselves.
#[derive(Debug)]
pub(super) struct Plans(BTreeMap<TimedJob, OccurrencePlan>);

impl Plans {
    /// Those that the configuration turns on.
    pub(super) fn configured(ticker: &TickerSettings) -> Self {
        let plan = |job: TimedJob| {
            let settings = ticker.jobs.get(job.name()).filter(|job| ticker.enabled && job.enabled)?;
            // The configuration was checked: what it holds can be read.
            let schedule = Schedule::parse(&settings.crons, zone(&ticker.time_zone)?).ok()?;
            Some((job, OccurrencePlan { schedule, catch_up: settings.catch_up, through: None }))
        };
        Self(TimedJob::ALL.into_iter().filter_map(plan).collect())
    }

    /// Goes on from what the ledger has; gives back the names of jobs in it that are off.
    pub(super) fn resume(&mut self, mut through: BTreeMap<String, DateTime>) -> Vec<String> {
        for (job, plan) in &mut self.0 {
            plan.through = through.remove(job.name());
        }
        through.into_keys().collect()
    }

    /// Enters what has come due by `now`; what is not run has the outcome `passed`. True when something is to be run.
    ///
    /// # Errors
    /// As [`ledger::enter`].
    pub(super) async fn enter(
        &mut self,
        context: &Context,
        fence: &Fence,
        now: DateTime,
        (passed, reason): (RunOutcome, &'static str),
    ) -> Result<bool, Failure> {
        let (database, mut owes) = (&context.database, false);
        for (job, plan) in &mut self.0 {
            let Some(mut through) = plan.through else {
                // From here on: what was due before the job was turned on, nobody has missed.
                ledger::enter(fence, *job, now, &[]).await?;
                plan.through = Some(now);
                continue;
            };
            if is_ahead(through, now) {
                through = ahead::take_back(fence, (*job, through), now).await?;
                plan.through = Some(through);
                let last = ledger::previous(database, job.name(), now).await?;
                let last = last.map(outcome::seconds).unwrap_or_default();
                context.metrics.set_job_last_success(*job, last);
            }
            let Some(due) = plan.schedule.due(through, now) else { continue };
            let age = now.timestamp_millis().saturating_sub(due.last.timestamp_millis()).unsigned_abs();
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
