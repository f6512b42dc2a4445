//! Follows the phase of the database while this instance leads (spec 04: "a running instance follows a change within
//! seconds without a restart").

use std::sync::Arc;
use std::time::Duration;

use mongodb::Database;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::error::Failure;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::phase::Phase;
use crate::phase::state::{self, Current};
use crate::tasks::pause;

/// The interval at which the phase is read.
const INTERVAL: Duration = Duration::from_millis(500);

/// The phase and its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    pub phase: Phase,
    /// See [`Current::revision`].
    pub revision: i64,
}

/// The phase that the parts of the leader share.
pub(crate) type KnownPhase = Arc<watch::Sender<Followed>>;

#[must_use]
pub(crate) fn known(current: &Current) -> KnownPhase {
    Arc::new(watch::Sender::new(Followed { phase: current.phase, revision: current.revision }))
}

/// Records a phase that was read or set. An older phase is ignored: it was read before the newer phase was set.
pub(crate) fn note(known: &KnownPhase, current: &Current) {
    let read = Followed { phase: current.phase, revision: current.revision };
    known.send_if_modified(|followed| {
        let is_newer = current.contradicted || read.revision > followed.revision;
        let changes = is_newer && read.phase != followed.phase;
        if is_newer {
            *followed = read;
        }
        changes
    });
}

/// Reads the phase at intervals, until `stop`.
///
/// # Errors
/// None. While the phase cannot be read, the last known phase stays.
pub(crate) async fn follow(
    database: Database,
    initial: Phase,
    known: KnownPhase,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let mut told = false;
    let mut failed = RepeatedFailure::default();
    while pause(&stop, INTERVAL).await {
        match state::load(&database, initial).await {
            Ok(current) => {
                if current.contradicted && !told {
                    error!("the document of the phase and the tombstone of `retired` disagree: no offer is written");
                }
                told = current.contradicted;
                if let Some(ended) = failed.end() {
                    info!(failures = ended.failures, seconds = ended.seconds, "the phase can be read again");
                }
                note(&known, &current);
            }
            Err(failure) if failed.is_new(&failure) => {
                warn!(error = %failure, advice = failure.advice(), "the phase could not be read; retrying");
            }
            Err(_) => {}
        }
    }
    Ok(())
}
