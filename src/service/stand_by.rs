//! Competes for the lease, and leads while this instance holds the lease.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::context::Context;
use crate::error::Directive;
use crate::interruption::{Interruption, Unfinished};
use crate::leader::control::Decision;
use crate::leader::pause::StoredPause;
use crate::leader::{during_pause, halt, lead};
use crate::lease::{self, Lease, leadership_name};
use crate::observe::health::{HealthPart, Role};
use crate::observe::repeated_failure::RepeatedFailure;
use crate::retry::Delays;
use crate::status::time::text;
use crate::tasks;
use bson::DateTime;

/// Competes for the lease, leads, and competes again when the leadership ends, until `stop`.
pub(crate) async fn lead_in_turn(context: Context, stop: CancellationToken) -> Result<(), Unfinished> {
    let mut leaderships = 0_u64;
    while let Some(lease) = wait_for_lease(&context, leaderships, &stop).await {
        leaderships += 1;
        let (term, began) = (lease.term, clock::instant());
        info!(term, "this instance leads");
        context.metrics.lease_term.set(lease.term);
        context.health.set_role(Role::Leader);
        context.health.leads_until(lease.validity.until);
        let mut lease = lease;
        let outcome = lead_until_end(&context, &mut lease, &stop).await;
        if matches!(outcome, Err(Unfinished::Interrupted(Interruption::LeaseLost))) {
            lead::tell_lost(&context.health, clock::instant());
        }
        context.health.set_role(Role::Standby);
        if let Err(failure) = lease.release().await {
            warn!(error = %failure, "the lease could not be released; it expires by itself");
        }
        let (seconds, position) = (began.elapsed().as_secs(), last_position(&context));
        info!(term, seconds, position = position.as_deref(), "this instance leads no longer");
        match outcome {
            Ok(()) | Err(Unfinished::Interrupted(Interruption::LeaseLost)) => {}
            Err(Unfinished::Interrupted(Interruption::SteppedDown(duration))) => {
                let seconds = duration.as_secs();
                info!(
                    seconds,
                    "an operator told this instance to step down; it asks for the lease again after this time"
                );
                context.health.set_stepped_down(true);
                tasks::pause(&stop, duration).await;
                context.health.set_stepped_down(false);
            }
            Err(unfinished) => {
                tracing::error!(error = %unfinished, advice = unfinished.advice(), "the leadership failed");
                context.health.trouble(HealthPart::Lease, &unfinished, unfinished.advice(), true);
                // The pause is long enough for another instance to take the lease, and short enough for a single
                // instance.
                tasks::pause(&stop, Duration::from_secs(2)).await;
            }
        }
    }
    Ok(())
}

/// The cluster time of the last checkpoint that this process saved (RFC 3339); `None` before the first one.
#[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
fn last_position(context: &Context) -> Option<String> {
    let seconds = context.metrics.checkpoint_timestamp.get();
    (seconds > 0.0).then(|| text(DateTime::from_millis(seconds as i64 * 1_000)))
}

/// Leads, unless the service is paused. After a pause or a halt, leads again with the same lease, as a person decided.
async fn lead_until_end(context: &Context, lease: &mut Lease, stop: &CancellationToken) -> Result<(), Unfinished> {
    let mut resume = None;
    loop {
        if StoredPause::read(&context.database).await?.is_some() {
            match during_pause::until_resumed(context, lease, stop).await? {
                Some(Decision::Stepdown(duration)) => return Err(Interruption::SteppedDown(duration).into()),
                Some(_) => {}
                None => return Ok(()),
            }
        }
        let outcome = lead::lead(context, lease.clone(), resume.take(), stop).await;
        match outcome {
            // The loop begins again with the stored pause.
            Err(Unfinished::Interrupted(Interruption::Paused)) if !stop.is_cancelled() => {}
            Err(Unfinished::Failed(failure)) if context.health.halted() && failure.directive() == Directive::Resync => {
                resume = halt::until_resumed(context, lease, &failure, stop).await?;
                if resume.is_none() {
                    return Ok(());
                }
            }
            outcome => return outcome,
        }
    }
}

/// Stands by until this instance gets the lease; `None` when `stop` comes first. `leaderships` is the number of those
/// before.
async fn wait_for_lease(context: &Context, leaderships: u64, stop: &CancellationToken) -> Option<Lease> {
    let holder = leadership_name(&context.deployment.instance, leaderships);
    let duration = context.settings.lease.duration;
    let mut delays = Delays::up_to(Duration::from_secs(5));
    let mut before: Option<(String, Instant)> = None;
    let mut failed = RepeatedFailure::default();
    loop {
        if stop.is_cancelled() {
            return None;
        }
        let acquired = match Lease::acquire(&context.database, &holder, duration).await {
            Ok(Some(mut lease)) => lead::raise_term(context, &mut lease).await.map(|()| Some(lease)),
            other => other.map_err(Unfinished::from),
        };
        let delay = match acquired {
            Ok(Some(lease)) => {
                tell_end(&mut failed);
                if let Some((from, since)) = before {
                    info!(from, seconds = since.elapsed().as_secs(), "the lease is taken over from another instance");
                }
                return Some(lease);
            }
            Ok(None) => {
                if before.is_none()
                    && let Ok(Some(leader)) = lease::current(&context.database).await
                {
                    info!(leader = leader.name, term = leader.term, "another instance leads; standing by");
                    before = Some((leader.name, clock::instant()));
                }
                if context.health.role() == Role::Starting {
                    context.health.set_role(Role::Standby);
                }
                context.health.works(HealthPart::Lease);
                tell_end(&mut failed);
                delays.reset();
                // A standby must take over within a second after a clean stop of the leader.
                (duration / 5).min(Duration::from_millis(500))
            }
            Err(unfinished) => {
                context.health.trouble(HealthPart::Lease, &unfinished, unfinished.advice(), false);
                if failed.is_new(&unfinished) {
                    let advice = unfinished.advice();
                    warn!(error = %unfinished, advice, "the lease could not be requested; retrying");
                }
                delays.next_delay()
            }
        };
        if !tasks::pause(stop, delay).await {
            return None;
        }
    }
}

fn tell_end(failed: &mut RepeatedFailure) {
    if let Some(ended) = failed.end() {
        info!(failures = ended.failures, seconds = ended.seconds, "the lease can be requested again");
    }
}
