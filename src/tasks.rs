//! Every task of the service is spawned here, under a name, and what its end means is said here: the
//! first one that ends, ends all of its group (spec 07, "Every task is spawned in one place").

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::error::Failure;

/// How long a task that was told to stop may take.
const GRACE: Duration = Duration::from_secs(8);

/// The tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Serves HTTP until the process ends.
    Http,
    /// Turns SIGTERM and Ctrl-C into the process's cancellation.
    Signals,
    /// Asks the database what the status page shows, until the process ends.
    Survey,
    /// Follows the phase of the database.
    Phase,
    /// Writes the canary.
    Canary,
    /// Renews the lease; its end is the end of the leadership.
    Lease,
    /// Reads the change stream; its end ends the pipeline.
    Reader,
    /// Runs the time-based jobs, until the leadership ends.
    Ticker,
    /// Compares a sample of what was written, until the leadership ends.
    Verification,
    /// Applies what the reader hands on; its end is the end of the leadership.
    Pipeline,
}

/// Tasks that live and end together.
#[derive(Debug)]
pub(crate) struct Group {
    tasks: JoinSet<(Task, Result<(), Failure>)>,
    /// Cancelled when the first task ends, or from outside.
    pub stop: CancellationToken,
}

impl Group {
    /// A group that `parent` can stop.
    #[must_use]
    pub(crate) fn new(parent: &CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop: parent.child_token() }
    }

    /// Starts a task.
    #[expect(clippy::disallowed_methods, reason = "the one place that may: see clippy.toml")]
    pub(crate) fn spawn(&mut self, task: Task, work: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        self.tasks.spawn(async move { (task, work.await) });
    }

    /// Waits for the first task to end, stops the others, and waits for `last`: the one whose orderly
    /// end matters. The rest is dropped. Gives back the first failure.
    ///
    /// # Errors
    /// The first failure of a task.
    pub(crate) async fn join(mut self, last: Task) -> Result<(), Failure> {
        let mut outcome = Ok(());
        while let Some(ended) = self.next_or_grace().await {
            let (task, result) = unless_panicked(ended);
            debug!(?task, failed = result.is_err(), "task ended");
            outcome = outcome.and(result);
            self.stop.cancel();
            if task == last {
                break;
            }
        }
        self.tasks.shutdown().await;
        outcome
    }
}

impl Group {
    /// The next task that ends; `None` when there is none, or when one hangs although it was told to
    /// stop: what it had not finished is done again at the next start.
    async fn next_or_grace(&mut self) -> Option<Result<(Task, Result<(), Failure>), JoinError>> {
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

fn unless_panicked(ended: Result<(Task, Result<(), Failure>), JoinError>) -> (Task, Result<(), Failure>) {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only `shutdown` cancels tasks, and it is called after the last join.
        Err(_) => (Task::Pipeline, Ok(())),
    }
}

/// Turns SIGTERM and Ctrl-C into the cancellation of `stop`, and returns.
pub(crate) async fn signals(stop: CancellationToken) -> Result<(), Failure> {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM: finishing the batch and saving the position"),
                _ = interrupt.recv() => info!("interrupted: finishing the batch and saving the position"),
                () = stop.cancelled() => {}
            }
        }
        _ => {
            warn!("signals cannot be caught: the process can only be killed, which loses nothing");
            stop.cancelled().await;
        }
    }
    stop.cancel();
    Ok(())
}

/// Waits; `false` when `stop` came first.
pub(crate) async fn pause(stop: &CancellationToken, duration: Duration) -> bool {
    tokio::select! { () = stop.cancelled() => false, () = tokio::time::sleep(duration) => true }
}
