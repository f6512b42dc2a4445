//! Pings MongoDB all the time, so that an outage is told with its cause within seconds. Commands of the service notice it
//! late: the driver selects a server for 30 s first.

use std::time::Duration;

use bson::doc;
use mongodb::options::{ReadPreference, SelectionCriteria};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::error::{Failure, describe};
use crate::tasks::pause;

/// The time between two pings.
const INTERVAL: Duration = Duration::from_secs(2);
/// The longest time for an answer. A ping takes no lock, so also a busy server answers in milliseconds.
const LONGEST: Duration = Duration::from_secs(2);

/// Pings until `stop`, and reports each outcome to the health.
///
/// # Errors
/// None.
pub(super) async fn watch(context: Context, stop: CancellationToken) -> Result<(), Failure> {
    let (admin, health) = (context.database.client().database("admin"), &context.health);
    loop {
        // Any member will do: an election is no outage, and the commands of the service tell a missing primary.
        let nearest = SelectionCriteria::ReadPreference(ReadPreference::Nearest { options: None });
        let ping = admin.run_command(doc! { "ping": 1 }).selection_criteria(nearest);
        let problem = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            answer = tokio::time::timeout(LONGEST, ping) => match answer {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(describe(&error)),
                // The driver still looks for a server. A member that refuses connections is no slow one.
                Err(_) => Some(context.primary_changes.unreached().unwrap_or_else(no_answer)),
            },
        };
        match problem {
            None => {
                if let Some(away) = health.reachability.answered() {
                    info!(seconds = away.as_secs(), "MongoDB answers again");
                }
            }
            Some(problem) => {
                if health.reachability.failed(problem.clone()) {
                    warn!(error = problem, "MongoDB does not answer; the service goes on when it answers again");
                }
            }
        }
        if !pause(&stop, INTERVAL).await {
            return Ok(());
        }
    }
}

fn no_answer() -> String {
    format!("no answer to a ping within {} s", LONGEST.as_secs())
}
