//! Notices to people (spec 05): one line per job run that changed or failed something, to an incoming webhook. Nobody waits
//! for them: what cannot be handed over at once is dropped, with a word in the log. They carry counts, never a value.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::NoticesSettings;
use crate::outgoing::Caller;
use crate::retry::Delays;

/// So many lines wait at most.
const WAITING: usize = 100;
/// So long one call may take, and all that is left when the process is to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// So often a line is tried.
const ATTEMPTS: u32 = 4;

/// Takes lines.
#[derive(Debug, Clone, Default)]
pub struct Notices(Option<mpsc::Sender<String>>);

/// Hands them over.
#[derive(Debug)]
pub struct Messenger {
    lines: mpsc::Receiver<String>,
    url: SecretString,
}

/// Where lines are put, and who hands them over; nobody where no webhook is named.
#[must_use]
pub fn notices(settings: &NoticesSettings) -> (Notices, Option<Messenger>) {
    match &settings.webhook_url {
        Some(url) => {
            let (sender, lines) = mpsc::channel(WAITING);
            (Notices(Some(sender)), Some(Messenger { lines, url: url.clone() }))
        }
        None => (Notices(None), None),
    }
}

impl Notices {
    /// Puts a line, if there is one; never waits.
    pub fn tell(&self, line: Option<String>) {
        if let (Some(sender), Some(line)) = (&self.0, line)
            && sender.try_send(line).is_err()
        {
            warn!("a notice is dropped: too many wait for notices.webhook_url");
        }
    }
}

impl Messenger {
    /// Hands lines over until nobody can put one any more. After `stop`, what is left has a few seconds.
    pub async fn run(mut self, stop: CancellationToken) {
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
        tokio::select! { () = all => {}, () = too_late => warn!("the last notices are not sent any more") }
    }

    async fn hand_over(url: &SecretString, caller: &Caller, line: String) {
        let body = json!({ "text": line }).to_string();
        let mut delays = Delays::up_to(Duration::from_secs(2));
        for attempt in 1..=ATTEMPTS {
            match caller.post(url.expose_secret(), body.clone()).await {
                Ok(answer) if answer.status < 300 => return,
                // What is wrong with it will be wrong again.
                Ok(answer) if answer.status < 500 && answer.status != 429 => {
                    warn!(status = answer.status, "notices.webhook_url does not take a notice");
                    return;
                }
                Ok(answer) => info!(status = answer.status, attempt, "notices.webhook_url fails"),
                Err(error) => info!(%error, attempt, "notices.webhook_url fails"),
            }
            tokio::time::sleep(delays.next_delay()).await;
        }
        warn!("a notice could not be sent to notices.webhook_url");
    }
}
