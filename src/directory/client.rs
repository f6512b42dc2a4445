//! A paced client of a service over HTTP. Failures that may pass are retried, and the client waits as long as the service
//! asks for (429, 503, `Retry-After`).

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::DirectoryTrouble;
use crate::config::DirectorySettings;
use crate::outgoing::{Answer, Caller, NoAnswer, Pace};
use crate::retry::Delays;

/// The number of attempts at one call.
const ATTEMPTS: u32 = 4;
/// The delay after a reply that asks to wait and gives no `Retry-After`.
const USUAL_WAIT: Duration = Duration::from_secs(5);

/// The client, with its limits.
#[derive(Debug)]
pub(super) struct Client {
    caller: Caller,
    pace: Pace,
    longest_wait: Duration,
}

/// The reading of one answer by the service that knows its form.
pub(super) enum Reading<T> {
    Known(T),
    /// The answer should have a known form and has another one.
    Unreadable,
    /// The status code says that there is no answer; its meaning is the same for all services.
    Refused,
}

/// The meaning of one answer.
enum Meaning<T> {
    Known(T),
    /// The service asks to wait for this time.
    Wait(Duration),
    /// A failure that may pass: another attempt is made.
    Again(DirectoryTrouble),
    /// A failure that another attempt does not cure.
    Never(DirectoryTrouble),
}

impl Client {
    /// Makes a client with the time limit and the pace of `[directory]`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(settings: &DirectorySettings) -> Result<Self, rustls::Error> {
        let caller = Caller::new(settings.timeout)?;
        Ok(Self { caller, pace: Pace::per_second(settings.rate), longest_wait: settings.longest_wait })
    }

    /// Sends a GET, in several attempts where a failure may pass, and reads its answer.
    ///
    /// # Errors
    /// [`DirectoryTrouble`], that of the last attempt.
    pub(super) async fn ask<T>(
        &self,
        url: &Url,
        token: Option<&SecretString>,
        read: impl Fn(&Answer) -> Reading<T> + Sync,
    ) -> Result<T, DirectoryTrouble> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let mut trouble = DirectoryTrouble::Down("unreachable");
        for attempt in 1..=ATTEMPTS {
            self.pace.wait().await;
            let meaning = match self.caller.get(url.as_str(), token).await {
                Ok(answer) => meaning(&answer, read(&answer)),
                Err(NoAnswer::Unreachable) => Meaning::Again(DirectoryTrouble::Down("unreachable")),
                Err(NoAnswer::Silent) => Meaning::Again(DirectoryTrouble::Down("silent")),
                Err(NoAnswer::TooLong) => Meaning::Never(DirectoryTrouble::Unreadable("too_long")),
                Err(NoAnswer::Unsendable) => Meaning::Never(DirectoryTrouble::Down("unsendable")),
            };
            let wait = match meaning {
                Meaning::Known(found) => return Ok(found),
                Meaning::Never(trouble) => return Err(trouble),
                Meaning::Wait(wait) if wait > self.longest_wait => return Err(DirectoryTrouble::Later(wait)),
                Meaning::Wait(wait) => {
                    trouble = DirectoryTrouble::Later(wait);
                    wait
                }
                Meaning::Again(why) => {
                    trouble = why;
                    delays.next_delay()
                }
            };
            if attempt < ATTEMPTS {
                tokio::time::sleep(wait).await;
            }
        }
        Err(trouble)
    }
}

fn meaning<T>(answer: &Answer, reading: Reading<T>) -> Meaning<T> {
    match (reading, answer.status) {
        (Reading::Known(found), _) => Meaning::Known(found),
        (Reading::Unreadable, _) => Meaning::Again(DirectoryTrouble::Unreadable("unreadable")),
        (Reading::Refused, 401 | 403) => Meaning::Never(DirectoryTrouble::Down("not_allowed")),
        (Reading::Refused, 429) => Meaning::Wait(answer.retry_after().unwrap_or(USUAL_WAIT)),
        (Reading::Refused, 503) if answer.retry_after().is_some() => {
            Meaning::Wait(answer.retry_after().unwrap_or(USUAL_WAIT))
        }
        (Reading::Refused, 500..=599) => Meaning::Again(DirectoryTrouble::Unreadable("failing")),
        (Reading::Refused, _) => Meaning::Never(DirectoryTrouble::Unreadable("unexpected")),
    }
}
