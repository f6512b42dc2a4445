//! The runner: makes due runs and runs by hand, one after another, as long as this process has the lease. A run that an
//! earlier leader did not end is made again from its beginning, and finds only the work that is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{DateTime, oid::ObjectId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};

use super::job::TimedJob;
use super::job_context::{JobContext, LineListener};
use super::ledger::{self, ByHand, DueRun, RunEnd, RunOutcome};
use super::occurrences::{MISSED, OVERTAKEN, Plans};
use super::outcome::{self, EndedRun};
use super::production_marker;
use super::report::JobReport;
use super::retry_policy;
use super::ticker_command::JobOrder;
use super::write_access::{OfferWriteLock, RunPace, WriteAccess};
use crate::clock;
use crate::config::Environment;
use crate::context::Context;
use crate::error::Directive;
use crate::failpoint;
use crate::interruption::{Interruption, Unfinished};
use crate::maintenance::command_end;
use crate::maintenance::stored_commands::{self, Command, Lane, StoredCommand};
use crate::model::time::seconds;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::phase::watcher::Followed;
use crate::retry::Delays;
use crate::tasks::pause;
use crate::traces;
use crate::write::lease_check::Validity;
use crate::write::throttle::Throttle;
use crate::write::transaction::Fence;

/// The number of attempts at a run before it has failed.
const ATTEMPTS: u32 = 5;
/// The interval at which the ledger is searched for runs that were put off. The interval goes by the monotonic clock of
/// this machine, so a jump of the server's clock does not stop the search.
const LOOK: Duration = Duration::from_secs(60);
/// The interval at which old runs are deleted from the ledger.
const FORGET: Duration = Duration::from_hours(1);
const NOT_IN_PHASE: &str = "the phase has no use for it";

/// The ticker of one leadership.
#[derive(Debug)]
pub(crate) struct Ticker {
    pub context: Context,
    pub handles: LeaderHandles,
    /// Cancelled when the process must end, or when the lease is lost.
    stop: CancellationToken,
    plans: Plans,
    /// True once the occurrences before this leadership are in the ledger.
    begun: bool,
    /// True where the ledger may have runs to make.
    owes: bool,
    /// The time of the last search for due runs, on the monotonic clock.
    looked_at: Option<Instant>,
    forgot_at: Option<Instant>,
}

/// The rights and signals that a leadership gives to its ticker.
#[derive(Debug, Clone)]
pub(crate) struct LeaderHandles {
    /// The fence of the writes and transactions of the leadership.
    pub fence: Fence,
    /// For each job by name, the time up to which its occurrences were in the ledger when the leadership began.
    through: BTreeMap<String, DateTime>,
    /// The time that the lease still allows for writes.
    validity: watch::Receiver<Validity>,
    /// The phase as it was last read from the database.
    phase: watch::Receiver<Followed>,
    /// The throttle of the leadership.
    throttle: Throttle,
    pub offer_write_lock: OfferWriteLock,
    /// The signal that wakes the pipeline when a command is stored for it.
    pub wake: Arc<Notify>,
}

impl LeaderHandles {
    /// The handles of one leadership. Its pipeline takes the lock on writing offers and the wake signal from them.
    #[must_use]
    pub(crate) fn new(
        fence: Fence,
        through: BTreeMap<String, DateTime>,
        validity: watch::Receiver<Validity>,
        phase: watch::Receiver<Followed>,
        throttle: Throttle,
    ) -> Self {
        Self {
            fence,
            through,
            validity,
            phase,
            throttle,
            offer_write_lock: OfferWriteLock::default(),
            wake: Arc::default(),
        }
    }
}

/// The times of one run, as [`JobContext`] explains them.
#[derive(Debug, Clone, Copy)]
struct RunTimes {
    now: DateTime,
    scheduled_for: DateTime,
    previous: Option<DateTime>,
    by_hand: bool,
}

impl Ticker {
    /// A ticker for the jobs that the configuration turns on.
    #[must_use]
    pub(crate) fn new(context: Context, handles: LeaderHandles, stop: CancellationToken) -> Self {
        let plans = Plans::configured(&context.settings.ticker);
        Self { context, handles, stop, plans, begun: false, owes: true, looked_at: None, forgot_at: None }
    }

    /// Makes runs until `stop` is cancelled. A failure of a job does not end the leadership.
    ///
    /// # Errors
    /// [`Interruption::LeaseLost`].
    pub(crate) async fn run(mut self) -> Result<(), Unfinished> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let mut failed = RepeatedFailure::default();
        while !self.stop.is_cancelled() {
            let delay = match Box::pin(self.round()).await {
                Ok(pause) => {
                    delays.reset();
                    if let Some(ended) = failed.end() {
                        info!(failures = ended.failures, seconds = ended.seconds, "the ticker works again");
                    }
                    pause
                }
                Err(Unfinished::Interrupted(Interruption::Stopping)) => break,
                Err(lost @ Unfinished::Interrupted(Interruption::LeaseLost)) => return Err(lost),
                Err(unfinished) => {
                    if failed.is_new(&unfinished) {
                        warn!(error = %unfinished, advice = unfinished.advice(), "the ticker failed; retrying");
                    }
                    delays.next_delay()
                }
            };
            pause(&self.stop, delay).await;
        }
        Ok(())
    }

    /// Makes one run at most: a stored command first, then the oldest due run. Returns the pause before the next round.
    async fn round(&mut self) -> Result<Duration, Unfinished> {
        let database = self.context.database.clone();
        let now = self.context.clock.now(&database).await?;
        if !self.begun {
            self.begin(now).await?;
        }
        self.owes |= self.plans.enter(&self.context, &self.handles.fence, now, OVERTAKEN).await?;
        let phase = self.handles.phase.borrow().phase;
        self.plans.show_due(&self.context, phase, now);
        if let Some(stored) = stored_commands::take_up(&database, Lane::Ticker, None, self.handles.fence.term).await? {
            self.carry_out(&stored).await?;
            return Ok(Duration::ZERO);
        }
        if self.owes || self.looked_at.is_none_or(|at| at.elapsed() >= LOOK) {
            self.looked_at = Some(clock::instant());
            if let Some(due_run) = ledger::next(&database, now).await? {
                self.make(&due_run).await?;
                return Ok(Duration::ZERO);
            }
            self.owes = false;
        }
        Ok(self.context.clock.rest())
    }

    async fn begin(&mut self, now: DateTime) -> Result<(), Unfinished> {
        let database = &self.context.database;
        if self.context.settings.environment == Environment::Production {
            production_marker::mark(database).await?;
        }
        let off = self.plans.resume(self.handles.through.clone());
        ledger::leave_out(database, self.handles.fence.term, &off).await?;
        self.plans.recall(&self.context, now).await?;
        for job in TimedJob::ALL {
            if let Some(last) = ledger::previous(database, job.name(), now).await? {
                self.context.metrics.set_job_last_success(job, seconds(last));
            }
        }
        // An earlier occurrence is in the ledger already, or came due while nothing was running.
        self.owes |= self.plans.enter(&self.context, &self.handles.fence, now, MISSED).await?;
        self.begun = true;
        Ok(())
    }

    /// Claims a due run and makes it. Nothing happens where the run has ended meanwhile.
    async fn make(&mut self, due_run: &DueRun) -> Result<(), Unfinished> {
        let (database, term) = (self.context.database.clone(), self.handles.fence.term);
        let now = self.context.clock.now(&database).await?;
        let Some(changed) = ledger::claim(&database, term, &due_run.id, now).await? else {
            return Ok(());
        };
        let Some(job) = TimedJob::named(&due_run.job) else {
            let end = RunEnd { outcome: RunOutcome::Skipped, error: Some("this version knows no such job".to_owned()) };
            return ledger::finish(&database, term, &due_run.id, &end, &JobReport::default(), now).await;
        };
        let previous = ledger::previous(&database, job.name(), now).await?;
        let times = RunTimes { now, scheduled_for: due_run.scheduled_for, previous, by_hand: false };
        self.complete(JobOrder::Job(job), &due_run.id, times, changed).await.map(drop)
    }

    /// Carries out the stored command with this `_id`, for a process of the command line that has the lease itself.
    ///
    /// # Errors
    /// [`Interruption::LeaseLost`] when the command cannot be taken up any more; another interruption or a failure that
    /// ends the attempt, which can be repeated.
    pub(crate) async fn carry_out_only(&mut self, id: ObjectId) -> Result<(), Unfinished> {
        let database = self.context.database.clone();
        match stored_commands::take_up(&database, Lane::Ticker, Some(id), self.handles.fence.term).await? {
            Some(stored) => self.carry_out(&stored).await?,
            None => return Err(Interruption::LeaseLost.into()),
        }
        Ok(())
    }

    /// Carries out a stored command, and stores its result.
    async fn carry_out(&mut self, stored: &StoredCommand) -> Result<(), Unfinished> {
        info!(command = %stored.id, order = stored.command.name(), "a command starts");
        let (database, term) = (self.context.database.clone(), self.handles.fence.term);
        let job_order = match JobOrder::of(&stored.command) {
            Ok(job_order) => job_order,
            Err(reason) => {
                let refused =
                    stored_commands::CommandOutcome { done: false, details: bson::doc! { "reasons": [reason] } };
                command_end::tell(&self.handles.fence.writer, stored, &refused);
                return stored_commands::finish(&database, stored.id, term, &refused).await;
            }
        };
        let given = match stored.command {
            Command::RunJob { now, .. } => now,
            _ => None,
        };
        let started = self.context.clock.now(&database).await?;
        let now = given.unwrap_or(started);
        let run = ByHand { name: job_order.name(), command: stored.id, now, now_is_given: given.is_some(), started };
        let (id, changed) = ledger::begin(&database, term, &run).await?;
        let previous = ledger::previous(&database, job_order.name(), started).await?;
        let times = RunTimes { now, scheduled_for: now, previous, by_hand: true };
        let (end, report) = self.complete(job_order, &id, times, changed).await?;
        let outcome = stored_commands::CommandOutcome { done: true, details: ledger::details(&end, &report) };
        stored_commands::finish(&database, stored.id, term, &outcome).await?;
        command_end::tell(&self.handles.fence.writer, stored, &outcome);
        Ok(())
    }

    /// Makes a claimed run, stores its end in the ledger, and reports it. `changed` is the number of documents that
    /// earlier attempts changed.
    async fn complete(
        &mut self,
        job_order: JobOrder,
        id: &str,
        times: RunTimes,
        changed: u64,
    ) -> Result<(RunEnd, JobReport), Unfinished> {
        failpoint::passed("job-claimed");
        let began = clock::instant();
        let trace = traces::job(job_order.name());
        let (end, report) = self.attempt(job_order, id, times, changed).instrument(trace.clone()).await?;
        trace.record("outcome", end.outcome.as_str()).record("matched", report.matched);
        trace.record("changed", report.changed).record("failed", report.failed);
        drop(trace);
        failpoint::passed("job-done");
        let (database, term) = (&self.context.database, self.handles.fence.term);
        let finished = self.context.clock.now(database).await?;
        match retry_policy::until(times.scheduled_for, finished, &report).filter(|_| !times.by_hand) {
            Some(until) => ledger::postpone(database, term, id, &end, &report, until).await?,
            None => ledger::finish(database, term, id, &end, &report, finished).await?,
        }
        if self.forgot_at.is_none_or(|at| at.elapsed() >= FORGET) {
            ledger::forget(database, finished).await?;
            self.forgot_at = Some(clock::instant());
        }
        let run = EndedRun { job_order, now: times.now, end: &end, report: &report, took: began.elapsed() };
        outcome::tell(&self.context, &run);
        outcome::note(&self.handles.fence.writer, &run);
        if let (JobOrder::Job(job), RunOutcome::Done) = (job_order, end.outcome) {
            self.plans.succeeded(job, times.now.min(finished));
        }
        Ok((end, report))
    }

    async fn attempt(
        &mut self,
        job_order: JobOrder,
        id: &str,
        times: RunTimes,
        mut changed: u64,
    ) -> Result<(RunEnd, JobReport), Unfinished> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut job = self.job_context(id, times);
            if !job_order.applies_in(job.phase) {
                let end = RunEnd { outcome: RunOutcome::Skipped, error: Some(NOT_IN_PHASE.to_owned()) };
                return Ok((end, job.report));
            }
            if let Some(lacking) = job_order.lacks(&self.context.target.schema()) {
                let end = RunEnd { outcome: RunOutcome::Skipped, error: Some(lacking) };
                return Ok((end, job.report));
            }
            // Changes of earlier attempts stay, so they count for the run.
            job.report.changed = changed;
            job.write_access.iter_mut().for_each(|access| access.pace.go_on_from(changed));
            let Err(unfinished) = job_order.run(&mut job).await else {
                return Ok((RunEnd::of(&job.report), job.report));
            };
            let passes = match &unfinished {
                Unfinished::Interrupted(Interruption::PhaseChanged) => true,
                Unfinished::Interrupted(_) => return Err(unfinished),
                Unfinished::Failed(failure) => failure.directive() == Directive::Retry,
            };
            changed = job.report.changed;
            if !passes || attempt >= ATTEMPTS {
                let end = RunEnd { outcome: RunOutcome::Failed, error: Some(unfinished.to_string()) };
                return Ok((end, job.report));
            }
            warn!(job = job_order.name(), error = %unfinished, advice = unfinished.advice(), "a job failed; retrying");
            if !pause(&self.stop, delays.next_delay()).await {
                return Err(Interruption::Stopping.into());
            }
        }
    }

    fn job_context(&self, id: &str, times: RunTimes) -> JobContext {
        let LeaderHandles { fence, validity, phase, throttle, offer_write_lock, wake, .. } = self.handles.clone();
        let (known, run) = (phase.borrow().phase, id.to_owned());
        let access = WriteAccess {
            fence,
            validity,
            phase,
            offer_write_lock,
            wake,
            pace: RunPace::of(throttle),
            run,
            stored_at: None,
        };
        JobContext {
            context: self.context.clone(),
            now: times.now,
            scheduled_for: times.scheduled_for,
            previous: times.previous,
            phase: known,
            report: JobReport::default(),
            stop: self.stop.clone(),
            write_access: Some(access),
            listener: LineListener::Nobody,
            stuck: 0,
        }
    }
}
