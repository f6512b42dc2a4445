//! Notices (spec 05): one line per run of a time-based job that changed or failed something, and per event that is worth
//! one (`KINDS` of `model::timeline`), sent to an incoming webhook. Nobody waits for a notice: a line that cannot be queued at once is dropped, with a warning in the log. A
//! notice carries counts, never a value of a document.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::NoticesSettings;
use crate::outgoing::Caller;
use crate::retry::Delays;

/// The capacity of the queue, in lines.
const WAITING: usize = 100;
/// The time limit of one call. The lines that are left when the process ends have this time together.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of attempts to send one line.
const ATTEMPTS: u32 = 4;

/// What tells the deployment and the process of a notice from others.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub environment: &'static str,
    /// Database, replica set, instance and version in words.
    pub place: String,
}

/// The entrance of the queue; `None` without a webhook, and lines are then discarded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notices(Option<(mpsc::Sender<String>, Origin)>);

/// The sender of the queued lines to the webhook.
#[derive(Debug)]
pub(crate) struct Messenger {
    lines: mpsc::Receiver<String>,
    url: SecretString,
}

/// Creates both ends of the queue. Without a configured webhook there is no messenger, and lines are discarded.
#[must_use]
pub(crate) fn notices(settings: &NoticesSettings, origin: Origin) -> (Notices, Option<Messenger>) {
    match &settings.webhook_url {
        Some(url) => {
            let (sender, lines) = mpsc::channel(WAITING);
            (Notices(Some((sender, origin))), Some(Messenger { lines, url: url.clone() }))
        }
        None => (Notices(None), None),
    }
}

impl Notices {
    /// Queues a line with its origin, without waiting. A line that finds the queue full is dropped.
    pub(crate) fn tell(&self, line: Option<String>) {
        if let (Some((sender, Origin { environment, place })), Some(line)) = (&self.0, line)
            && sender.try_send(format!("[{environment}] {line} ({place})")).is_err()
        {
            warn!("a notice is dropped: the queue for notices.webhook_url is full");
        }
    }
}

impl Messenger {
    /// Sends lines until every [`Notices`] is dropped. After `stop`, the lines that are left have five seconds.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let Ok(caller) = Caller::new(PATIENCE) else {
            warn!("notices cannot be sent: TLS cannot be set up");
            return;
        };
        let all = async {
            while let Some(line) = self.lines.recv().await {
                Self::hand_over(&self.url, &caller, line).await;
            }
        };
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! { () = all => {}, () = too_late => warn!("the process ends; the last notices are not sent") }
    }

    async fn hand_over(url: &SecretString, caller: &Caller, line: String) {
        let body = json!({ "text": line }).to_string();
        let mut delays = Delays::up_to(Duration::from_secs(2));
        for attempt in 1..=ATTEMPTS {
            match caller.post(url.expose_secret(), body.clone()).await {
                Ok(answer) if answer.status < 300 => return,
                // Another 4xx means that the webhook will refuse the same line again.
                Ok(answer) if answer.status < 500 && answer.status != 429 => {
                    warn!(status = answer.status, "notices.webhook_url refused a notice; it is dropped");
                    return;
                }
                Ok(answer) => info!(status = answer.status, attempt, "notices.webhook_url did not accept a notice"),
                Err(error) => info!(%error, attempt, "notices.webhook_url did not accept a notice"),
            }
            tokio::time::sleep(delays.next_delay()).await;
        }
        warn!("every attempt to send a notice failed; it is dropped");
    }
}
