//! Notices to people (spec 05): one line per job run that changed or failed something, to an incoming webhook. Nobody waits
//! for them: what cannot be handed over at once is dropped, with a word in the log. They carry counts, never a value.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::NoticesSettings;
use crate::error::Failure;
use crate::outgoing::Caller;
use crate::retry::Delays;
use crate::ticker::report::Report;

/// So many lines wait at most.
const WAITING: usize = 100;
/// So long one call may take, and what is left at the end of the process.
const PATIENCE: Duration = Duration::from_secs(5);
/// So often a line is tried.
const ATTEMPTS: u32 = 4;

/// Takes lines.
#[derive(Debug, Clone)]
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
    /// Hands lines over until nobody can put one any more; after `stop`, only those that go quickly.
    ///
    /// # Errors
    /// Never: notices fail nothing.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Failure> {
        let Ok(caller) = Caller::new(PATIENCE) else {
            warn!("notices cannot be sent: TLS cannot be set up");
            stop.cancelled().await;
            return Ok(());
        };
        loop {
            let line = tokio::select! {
                biased;
                line = self.lines.recv() => line,
                () = stop.cancelled() => None,
            };
            let Some(line) = line else { break };
            tokio::select! {
                () = self.hand_over(&caller, line) => {}
                () = async { stop.cancelled().await; tokio::time::sleep(PATIENCE).await } => break,
            }
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn hand_over(&self, caller: &Caller, line: String) {
        let body = json!({ "text": line }).to_string();
        let mut delays = Delays::up_to(Duration::from_secs(2));
        for attempt in 1..=ATTEMPTS {
            match caller.post(self.url.expose_secret(), body.clone()).await {
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

/// The line about a run; `None` when it changed and failed nothing. `environment` tells deployments apart.
#[must_use]
pub fn line(environment: &str, job: &str, report: &Report, failed: Option<&Failure>) -> Option<String> {
    let has_failed = report.failed > 0 || report.gave_up.is_some() || failed.is_some();
    if report.changed == 0 && !has_failed {
        return None;
    }
    let mut line = format!(
        "[{environment}] {job}: {} matched, {} changed, {} failed",
        report.matched, report.changed, report.failed
    );
    for (reason, count) in &report.skipped {
        line.push_str(&format!(", {count} {reason}"));
    }
    if let Some(why) = report.gave_up {
        line.push_str(&format!("; ended early: {why}"));
    }
    if let Some(failure) = failed {
        line.push_str(&format!("; {failure}"));
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_changed_and_failed_nothing_is_not_worth_a_line() {
        let mut report = Report { matched: 5, ..Report::default() };
        report.skip("no_user", 5);
        assert_eq!(line("production", "cancel-expired-offers", &report, None), None);
    }

    #[test]
    fn a_line_has_counts_and_words_only() {
        let mut report = Report { matched: 7, changed: 3, failed: 1, ..Report::default() };
        report.skip("no_user", 2);
        let told = line("staging", "remind-expiring-offers-j7", &report, None).unwrap();
        let wanted = "[staging] remind-expiring-offers-j7: 7 matched, 3 changed, 1 failed, 2 no_user";
        assert_eq!(told, wanted);
        report.gave_up = Some("mail_server");
        let told = line("staging", "remind-expiring-offers-j7", &report, Some(&Failure::LeaseLost)).unwrap();
        assert!(told.starts_with(wanted) && told.contains("ended early: mail_server; the lease"), "{told}");
    }
}
