//! Spawns every task of the process, under a name (spec 07, "Every task is spawned in one place").
//! Tasks form groups. When the first task of a group ends, all others are stopped.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, warn};

use crate::error::Failure;
use crate::interruption::Unfinished;

/// The time that tasks have to end after they are told to stop.
const GRACE: Duration = Duration::from_secs(8);
/// The time that tasks have for the answers to their last writes after the most important task ended. The lease can be
/// given back at once only if no command is unanswered.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The name of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Serves HTTP until the process ends.
    Http,
    /// Waits for SIGTERM or Ctrl-C and then stops the group.
    Signals,
    /// Waits for SIGHUP and then reads the configuration again, until the process ends.
    Reload,
    /// Reads the state of the service for the status page, until the process ends.
    Survey,
    /// Pings MongoDB, until the process ends.
    Database,
    /// Writes the signs of life of this instance, until the process ends.
    Heartbeats,
    /// Logs changes of the verdict, until the process ends.
    Verdict,
    /// Takes up what operators without a shell ask for, until the process ends.
    OperatorSignals,
    /// Tells systemd about the service, until the process ends.
    Systemd,
    /// Watches the schema of the target, until the process ends.
    Target,
    /// Follows the phase of the database.
    Phase,
    /// Writes the canary.
    Canary,
    /// Renews the lease. When this task ends, the leadership ends.
    Lease,
    /// Reads the change stream. When this task ends, the pipeline ends.
    Reader,
    /// Runs time-based jobs until the leadership ends.
    Ticker,
    /// Verifies a sample of the touched recruiters until the leadership ends.
    Verification,
    /// Writes the timeline until the leadership ends.
    Timeline,
    /// Carries out the commands that pause the service or end the leadership, until the leadership ends.
    Control,
    /// Stores lag and rates of each minute, until the leadership ends.
    Minutes,
    /// Tells the timeline of outages, until the leadership ends.
    Outages,
    /// Watches the pressure on the server, until the leadership ends.
    Pressure,
    /// Counts the writes of others to our offers, until the leadership ends.
    ForeignWrites,
    /// Counts late writes in `retired`, until the leadership ends.
    LateWrites,
    /// Applies the replies of the reader. When this task ends, the leadership ends. In the group of the whole service,
    /// this is the name of the task that competes for the lease and leads.
    Pipeline,
}

impl Task {
    /// True for the tasks whose writes under the lease end soon after they are told to stop.
    fn writes_shortly(self) -> bool {
        matches!(self, Self::Canary | Self::Timeline | Self::ForeignWrites | Self::Pressure)
    }

    /// The name in the log.
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Signals => "signals",
            Self::Reload => "reload",
            Self::Survey => "survey",
            Self::Database => "database",
            Self::Heartbeats => "heartbeats",
            Self::Verdict => "verdict",
            Self::OperatorSignals => "operator_signals",
            Self::Systemd => "systemd",
            Self::Target => "target",
            Self::Phase => "phase",
            Self::Canary => "canary",
            Self::Lease => "lease",
            Self::Reader => "reader",
            Self::Ticker => "ticker",
            Self::Verification => "verification",
            Self::Timeline => "timeline",
            Self::Control => "control",
            Self::Minutes => "minutes",
            Self::Outages => "outages",
            Self::Pressure => "pressure",
            Self::ForeignWrites => "foreign_writes",
            Self::LateWrites => "late_writes",
            Self::Pipeline => "pipeline",
        }
    }
}

/// A group of tasks that run and end together.
#[derive(Debug)]
pub(crate) struct Group {
    tasks: JoinSet<(Task, Result<(), Unfinished>)>,
    /// The tasks that have not ended.
    running: Vec<Task>,
    /// Cancelled when the first task ends, by a task of the group, or by the parent.
    pub stop: CancellationToken,
}

impl Group {
    /// Makes an empty group that `parent` can stop.
    #[must_use]
    pub(crate) fn new(parent: &CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), running: Vec::new(), stop: parent.child_token() }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that may: see clippy.toml")]
    pub(crate) fn spawn<E: Into<Unfinished>>(
        &mut self,
        task: Task,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.running.push(task);
        // The lines of a task name the deployment, as those of its parent do.
        self.tasks.spawn(async move { (task, work.await.map_err(E::into)) }.in_current_span());
    }

    /// Waits until the first task ends, stops the others, and waits for the end of `last`, whose orderly end matters.
    /// Tasks that still run then are dropped, those that write a little later.
    ///
    /// # Errors
    /// The first error of a task.
    pub(crate) async fn join(mut self, last: Task) -> Result<(), Unfinished> {
        let mut outcome = Ok(());
        while let Some(ended) = self.next_or_grace().await {
            let (task, result) = self.ended(ended);
            outcome = outcome.and(result);
            self.stop.cancel();
            if task == last {
                // A write that is not answered by then keeps the lease for a while, and changes nothing more.
                let _ = tokio::time::timeout(LAST_ANSWERS, self.last_answers()).await;
                break;
            }
        }
        self.tasks.shutdown().await;
        outcome
    }

    /// Waits for the end of the tasks that write under the lease.
    async fn last_answers(&mut self) {
        while self.running.iter().any(|task| task.writes_shortly()) {
            let Some(ended) = self.tasks.join_next().await else { break };
            let _ = self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(Task, Result<(), Unfinished>), JoinError>) -> (Task, Result<(), Unfinished>) {
        let (task, result) = unless_panicked(ended);
        debug!(task = task.name(), failed = result.is_err(), "a task ended");
        self.running.retain(|running| *running != task);
        (task, result)
    }
}

impl Group {
    /// Waits for the next task that ends. `None` means that no task is left, or that a task hangs after it was told to
    /// stop. Its unfinished work is done again at the next start.
    async fn next_or_grace(&mut self) -> Option<Result<(Task, Result<(), Unfinished>), JoinError>> {
        let stop = self.stop.clone();
        let grace = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = self.tasks.join_next() => ended,
            () = grace => {
                warn!("a task did not stop in time and is abandoned");
                None
            }
        }
    }
}

fn unless_panicked(ended: Result<(Task, Result<(), Unfinished>), JoinError>) -> (Task, Result<(), Unfinished>) {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // This is no failure: only `shutdown` cancels tasks, and it is called after the last join.
        Err(_) => (Task::Pipeline, Ok(())),
    }
}

/// Waits for SIGTERM, Ctrl-C or `stop`, and cancels `stop`. Signals are caught from this call on, and not only when the
/// future runs: whoever is told later that the process is ready may stop it at once.
pub(crate) fn signals(stop: CancellationToken) -> impl Future<Output = Result<(), Failure>> + Send + 'static {
    let caught = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match caught {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => info!("SIGTERM: finishing the batch and saving the position"),
                    _ = interrupt.recv() => info!("interrupted: finishing the batch and saving the position"),
                    () = stop.cancelled() => {}
                }
            }
            _ => {
                warn!("signals cannot be caught: only SIGKILL ends this process, and that loses nothing");
                stop.cancelled().await;
            }
        }
        stop.cancel();
        Ok(())
    }
}

/// Waits for a duration. Returns false if `stop` was cancelled first.
pub(crate) async fn pause(stop: &CancellationToken, duration: Duration) -> bool {
    // The clock of tokio's timers ticks once a millisecond, so even the shortest sleep takes up to two of them.
    if duration.is_zero() {
        return !stop.is_cancelled();
    }
    tokio::select! { () = stop.cancelled() => false, () = tokio::time::sleep(duration) => true }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_pause_of_no_length_ends_at_once() {
        let stop = CancellationToken::new();
        assert_eq!(pause(&stop, Duration::ZERO).now_or_never(), Some(true));
        assert_eq!(pause(&stop, Duration::from_secs(1)).now_or_never(), None);
        stop.cancel();
        assert_eq!(pause(&stop, Duration::ZERO).now_or_never(), Some(false));
    }

    #[tokio::test]
    async fn a_write_that_is_on_its_way_is_answered_before_the_group_ends() {
        for (task, is_answered) in [(Task::Timeline, true), (Task::Canary, true), (Task::Reader, false)] {
            let mut group = Group::new(&CancellationToken::new());
            let (stop, answered) = (group.stop.clone(), Arc::new(AtomicBool::new(false)));
            let writes = Arc::clone(&answered);
            group.spawn(task, async move {
                stop.cancelled().await;
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                writes.store(true, Ordering::Release);
                Ok::<(), Failure>(())
            });
            group.spawn(Task::Pipeline, async { Ok::<(), Failure>(()) });
            group.join(Task::Pipeline).await.unwrap();
            assert_eq!(answered.load(Ordering::Acquire), is_answered, "{task:?}");
        }
    }
}
