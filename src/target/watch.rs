//! Watches the schema and the indexes of `jobs_partners` while the service runs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Target;
use crate::error::Failure;
use crate::mongo::causal::CausalDatabase;
use crate::notices::Notices;
use crate::observe::health::{Health, Role};
use crate::observe::repeated_failure::RepeatedFailure;
use crate::tasks::pause;

/// Reads the target again and again until `stop`. The leader sends a notice about each change.
pub(crate) async fn watch(
    (target, database, health): (Target, CausalDatabase, Arc<Health>),
    notices: Notices,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let mut failed = RepeatedFailure::default();
    loop {
        if !pause(&stop, target.settings.schema_check_interval).await {
            break;
        }
        match target.refresh(&database).await {
            Ok(()) => {
                if let Some(ended) = failed.end() {
                    let (failures, seconds) = (ended.failures, ended.seconds);
                    info!(failures, seconds, "the schema of the target can be read again");
                }
            }
            // The next read comes soon, and a failing database has alerts of its own.
            Err(failure) if failed.is_new(&failure) => {
                warn!(error = %failure, "the schema of the target could not be read; retrying");
            }
            Err(_) => {}
        }
        // Some of the changes were found after a refused write, between two reads of this task.
        let changes = std::mem::take(&mut *target.untold.lock().await);
        if health.role() == Role::Leader {
            changes.into_iter().for_each(|change| notices.tell(Some(change)));
        }
    }
    Ok(())
}
