//! What the holder of the lease does during a pause: it keeps the lease, reads nothing and writes nothing, and no
//! time-based job runs. The command `resume` ends the pause.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::control::{Control, Decision, LeaderState};
use super::lead;
use crate::context::Context;
use crate::interruption::Unfinished;
use crate::lease::Lease;
use crate::mongo::server_clock::server_time;
use crate::tasks::pause;
use crate::write::recorder::recorder;
use crate::write::throttle::Throttle;
use crate::write::transaction::Fence;

/// The time between two looks whether the server has given up every unanswered command.
const ANSWERS: Duration = Duration::from_millis(100);

/// Keeps the lease until a person ends the pause or tells the leader to step down; `None` when the process stops.
///
/// # Errors
/// As [`lead::renew`].
pub(crate) async fn until_resumed(
    context: &Context,
    lease: &mut Lease,
    stop: &CancellationToken,
) -> Result<Option<Decision>, Unfinished> {
    // The leadership that ended renewed a lease of its own. Its term ends too, so its late transactions fail.
    lease.renew(None).await?;
    lease.raise(lease.term + 1).await?;
    context.metrics.lease_term.set(lease.term);
    let health = &context.health;
    health.set_paused(true);
    health.leads_until(lease.validity.until);
    info!(term = lease.term, next = "stream-processor resume --reason TEXT", "paused: nothing is read or written");
    let (renewed, validity) = watch::channel(lease.validity);
    let (timeline, recorder) = recorder();
    let writer = lease.writer(&context.database, validity.clone()).with_notices(&context.notices);
    // The pause is confirmed only when nothing of the ended leadership can change anything any more.
    let ending = async {
        Fence::take_over(writer.clone(), lease.term).await?;
        while server_time(&context.database).await?.timestamp_millis() < lease.unanswered_until() {
            if !pause(stop, ANSWERS).await {
                break;
            }
        }
        Ok::<(), Unfinished>(())
    };
    let control = Control {
        writer: writer.clone().with_timeline(timeline),
        term: lease.term,
        instance: context.deployment.instance.clone(),
        throttle: Throttle::of(&context.settings.throttle, None),
        state: LeaderState::Paused,
    };
    let ended = CancellationToken::new();
    let decided = async {
        let decided = tokio::select! {
            ended = lead::renew(lease.clone(), renewed, health.clone(), stop.clone()) => ended.map(|()| None),
            decided = async { ending.await?; Ok(control.decided(stop).await) } => decided,
        };
        ended.cancel();
        decided
    };
    let (decided, ()) = tokio::join!(decided, recorder.run(writer.clone(), ended.clone()));
    lease.validity = *validity.borrow();
    health.set_paused(false);
    let decided = decided?;
    if decided == Some(Decision::Resume) {
        info!(term = lease.term, "the pause is over");
    }
    Ok(decided)
}
