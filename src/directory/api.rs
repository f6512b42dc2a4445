//! A client of the API Entreprise, version 3: `insee/sirene/etablissements/diffusibles/{siret}`. The client keeps to a
//! pace, and waits as long as the API asks for (429, `Retry-After`). Failures that may pass are retried.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::establishment::{DirectoryReply, EstablishmentState};
use super::{Directory, DirectoryTrouble};
use crate::config::DirectorySettings;
use crate::outgoing::{Answer, Caller, NoAnswer, Pace};
use crate::retry::Delays;

/// The number of attempts to look up one establishment.
const ATTEMPTS: u32 = 4;
/// The delay after a reply that asks to wait and gives no `Retry-After`.
const USUAL_WAIT: Duration = Duration::from_secs(5);

/// A client of the API, with its settings.
#[derive(Debug)]
pub(crate) struct Api {
    base: Url,
    token: Option<SecretString>,
    caller: Caller,
    pace: Pace,
    longest_wait: Duration,
}

/// The meaning of one answer of the API.
enum Meaning {
    Known(EstablishmentState),
    /// The API asks to wait for this time.
    Wait(Duration),
    /// A failure that may pass: another attempt is made.
    Again(DirectoryTrouble),
    /// A failure that another attempt does not cure.
    Never(DirectoryTrouble),
}

impl Api {
    /// A client; `None` without `directory.base_url`.
    ///
    /// # Errors
    /// A sentence that names the faulty setting.
    pub(crate) fn new(settings: &DirectorySettings) -> Result<Option<Self>, String> {
        let Some(base) = &settings.base_url else { return Ok(None) };
        let base = format!("{base}/insee/sirene/etablissements/diffusibles/");
        let mut base = Url::parse(&base).map_err(|error| format!("directory.base_url: {error}"))?;
        base.query_pairs_mut()
            .append_pair("context", &settings.context)
            .append_pair("object", &settings.object)
            .extend_pairs(settings.recipient.iter().map(|recipient| ("recipient", recipient)));
        let caller = Caller::new(settings.timeout).map_err(|error| format!("directory.base_url: {error}"))?;
        let pace = Pace::per_second(settings.rate);
        let (token, longest_wait) = (settings.token.clone(), settings.longest_wait);
        Ok(Some(Self { base, token, caller, pace, longest_wait }))
    }

    async fn request(&self, siret: &str) -> Meaning {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{siret}", self.base.path()));
        self.pace.wait().await;
        match self.caller.get(url.as_str(), self.token.as_ref()).await {
            Ok(answer) => meaning(&answer),
            Err(NoAnswer::Unreachable) => Meaning::Again(DirectoryTrouble::Down("unreachable")),
            Err(NoAnswer::Silent) => Meaning::Again(DirectoryTrouble::Down("silent")),
            Err(NoAnswer::TooLong) => Meaning::Never(DirectoryTrouble::Unreadable("too_long")),
            Err(NoAnswer::Unsendable) => Meaning::Never(DirectoryTrouble::Down("unsendable")),
        }
    }
}

impl Directory for Api {
    async fn look_up(&self, siret: &str) -> Result<Option<EstablishmentState>, DirectoryTrouble> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let mut trouble = DirectoryTrouble::Down("unreachable");
        for attempt in 1..=ATTEMPTS {
            let wait = match self.request(siret).await {
                Meaning::Known(found) => return Ok(Some(found)),
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

fn meaning(answer: &Answer) -> Meaning {
    match answer.status {
        200 => match serde_json::from_slice::<DirectoryReply>(&answer.body).ok().and_then(|reply| reply.found()) {
            Some(found) => Meaning::Known(found),
            None => Meaning::Again(DirectoryTrouble::Unreadable("unreadable")),
        },
        // 422: the digits of the siret show that no such siret exists.
        404 | 422 => Meaning::Known(EstablishmentState::Unknown),
        451 => Meaning::Known(EstablishmentState::Unpublished),
        401 | 403 => Meaning::Never(DirectoryTrouble::Down("not_allowed")),
        429 => Meaning::Wait(answer.retry_after.unwrap_or(USUAL_WAIT)),
        503 if answer.retry_after.is_some() => Meaning::Wait(answer.retry_after.unwrap_or(USUAL_WAIT)),
        500..=599 => Meaning::Again(DirectoryTrouble::Unreadable("failing")),
        _ => Meaning::Never(DirectoryTrouble::Unreadable("unexpected")),
    }
}
