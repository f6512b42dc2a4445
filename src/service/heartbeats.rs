//! Writes the signs of life of this instance, see [`crate::instances`]. Nothing waits for them, and the instance works
//! without them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::instances::{self, INTERVAL};
use crate::observe::health::{Health, Role};
use crate::observe::repeated_failure::RepeatedFailure;
use crate::tasks::pause;

/// The time between two looks at the role, so that a new role is told at once.
const LOOK: Duration = Duration::from_millis(250);
/// The longest time that the end of the process waits for the farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Writes a sign every five seconds, and whenever the role changes, until `stop`.
///
/// # Errors
/// None: a failure is logged, and the next sign follows.
pub(super) async fn write(context: Context, stop: CancellationToken) -> Result<(), Failure> {
    let mut failed = RepeatedFailure::default();
    let mut last = None;
    loop {
        let role = role(&context.health);
        let is_new = last.is_none_or(|(told, _)| told != role);
        if is_new || last.is_some_and(|(_, at): (_, std::time::Instant)| at.elapsed() >= INTERVAL) {
            last = Some((role, clock::instant()));
            let signed = tokio::select! { () = stop.cancelled() => return Ok(()), signed = sign(&context, role, is_new) => signed };
            match signed {
                Ok(()) => {
                    if let Some(ended) = failed.end() {
                        let (failures, seconds) = (ended.failures, ended.seconds);
                        info!(failures, seconds, "the signs of life of this instance can be written again");
                    }
                }
                // An outage is told elsewhere.
                Err(failure) if context.health.reachability.problem().is_none() && failed.is_new(&failure) => {
                    warn!(error = %failure, "the sign of life of this instance could not be written; retrying");
                }
                Err(_) => {}
            }
        }
        if !pause(&stop, LOOK).await {
            return Ok(());
        }
    }
}

/// Deletes the sign of this instance, which ends. A failure is no matter: others see that the instance is silent.
pub(super) async fn end(context: &Context) {
    let _ = instances::forget(&context.database, &context.deployment.instance, FAREWELL).await;
}

async fn sign(context: &Context, role: &str, is_new: bool) -> Result<(), Failure> {
    instances::sign(&context.database, &context.deployment.instance, role).await?;
    if is_new { instances::forget_old(&context.database).await } else { Ok(()) }
}

fn role(health: &Health) -> &'static str {
    match health.role() {
        Role::Leader => "leader",
        _ if health.has_stepped_down() => "stepped_down",
        Role::Standby => "standby",
        Role::Starting => "starting",
    }
}
