//! Tells systemd that the service is ready, alive and stopping, and what its verdict is (sd_notify(3)).
//! Elsewhere than under systemd nothing is told: the variable `NOTIFY_SOCKET` is missing there.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::context::Context;
use crate::error::Failure;
use crate::status::document::judged;
use crate::status::survey::Survey;
use crate::status::verdict::verdict;
use crate::tasks::pause;

/// The longest time between two looks at the verdict.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells systemd about the service until `stop`. The watchdog is fed while every loop of the process gives signs of life,
/// as `/livez` says.
///
/// # Errors
/// None.
pub(super) async fn tell(context: Context, survey: Arc<Survey>, stop: CancellationToken) -> Result<(), Failure> {
    send(&[NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled();
    // systemd asks for a sign of life in less than half of the time of its watchdog (sd_watchdog_enabled(3)).
    let interval = watchdog.map_or(INTERVAL, |longest| (longest / 3).min(INTERVAL));
    let mut told = String::new();
    while pause(&stop, interval).await {
        let verdict = verdict(&judged(&context, &survey));
        // A line break would begin another message of the protocol.
        let status = format!("{}: {}", verdict.state.word(), verdict.cause).replace(char::is_control, " ");
        if status != told {
            send(&[NotifyState::Status(&status)]);
            told = status;
        }
        if watchdog.is_some() && context.health.dead().is_empty() {
            send(&[NotifyState::Watchdog]);
        }
    }
    send(&[NotifyState::Stopping]);
    Ok(())
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd could not be told about the service");
    }
}
