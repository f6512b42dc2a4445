//! The client of the API Entreprise, version 3: `insee/sirene/etablissements/diffusibles/{siret}`.

use secrecy::SecretString;
use url::Url;

use super::client::{Client, Reading};
use super::establishment::{DirectoryReply, EstablishmentState};
use super::{Directory, DirectoryTrouble};
use crate::config::DirectorySettings;
use crate::outgoing::Answer;

/// A client of the API, with its settings.
#[derive(Debug)]
pub(crate) struct Api {
    base: Url,
    token: Option<SecretString>,
    client: Client,
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
        let client = Client::new(settings).map_err(|error| format!("directory.base_url: {error}"))?;
        Ok(Some(Self { base, token: settings.token.clone(), client }))
    }
}

impl Directory for Api {
    async fn look_up(&self, siret: &str) -> Result<Option<EstablishmentState>, DirectoryTrouble> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{siret}", self.base.path()));
        self.client.ask(&url, self.token.as_ref(), reading).await.map(Some)
    }
}

fn reading(answer: &Answer) -> Reading<EstablishmentState> {
    match answer.status {
        200 => match serde_json::from_slice::<DirectoryReply>(&answer.body).ok().and_then(|reply| reply.found()) {
            Some(found) => Reading::Known(found),
            None => Reading::Unreadable,
        },
        // 422: the digits of the siret show that no such siret exists.
        404 | 422 => Reading::Known(EstablishmentState::Unknown),
        451 => Reading::Known(EstablishmentState::Unpublished),
        _ => Reading::Refused,
    }
}
