//! The links of e-mails: patterns of the configuration, filled with ids and a token (spec 09, "Links in e-mails"). The
//! platform takes a token for a log-in of the user that is good for the routes in `scopes` alone. Pure.

use bson::DateTime;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::config::LinksSettings;
use crate::model::ids::{JobId, UserId};

/// The time for which a token is valid, in seconds: 30 days (spec 09).
const VALID: i64 = 30 * 24 * 3600;
/// The length that a link stays below, in characters (spec 09).
const LONGEST: usize = 2083;
/// The characters of a value that cannot stand in a path or in a query.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The links of the messages of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links<'a> {
    settings: &'a LinksSettings,
    /// The URL of the public site, without trailing slash. The platform expects it as the issuer of a token.
    public_url: &'a str,
    /// The time at which the tokens are issued.
    now: DateTime,
}

/// The user for whom a token stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkUser<'a> {
    pub id: UserId,
    pub address: &'a str,
}

impl<'a> Links<'a> {
    pub(crate) fn new(settings: &'a LinksSettings, public_url: &'a str, now: DateTime) -> Self {
        Self { settings, public_url, now }
    }

    /// The log-in page of the recruiter's space.
    #[must_use]
    pub(crate) fn space(&self) -> String {
        self.site(&self.settings.space)
    }

    /// The privacy policy.
    #[must_use]
    pub(crate) fn privacy(&self) -> String {
        self.site(&self.settings.privacy)
    }

    /// The link that cancels an offer. `None` without a key, or where the link would be too long.
    #[must_use]
    pub(crate) fn cancel(&self, user: LinkUser<'_>, job: JobId) -> Option<String> {
        self.of_offer(&self.settings.cancel, user, job, ["cancel", "canceled"])
    }

    /// The link that declares an offer filled. `None` as for [`Self::cancel`].
    #[must_use]
    pub(crate) fn provided(&self, user: LinkUser<'_>, job: JobId) -> Option<String> {
        self.of_offer(&self.settings.provided, user, job, ["provided", "provided"])
    }

    /// The link that shares an offer with training centres. `None` as for [`Self::cancel`].
    #[must_use]
    pub(crate) fn introduction(&self, user: LinkUser<'_>, job: JobId, establishment: &str) -> Option<String> {
        let id = job.to_string();
        let scopes = json!([
            scope("post", "/formulaire/offre/:jobId/delegation/by-token", json!({ "jobId": id })),
            scope("get", "/formulaire/:establishment_id/by-token", json!({ "establishment_id": establishment })),
        ]);
        let establishment = utf8_percent_encode(establishment, RESERVED).to_string();
        let places = [("{job}", id.as_str()), ("{establishment_id}", establishment.as_str())];
        self.with_token(&self.settings.introduction, places, &self.token(user, &scopes)?)
    }

    fn of_offer(&self, pattern: &str, user: LinkUser<'_>, job: JobId, [put, post]: [&str; 2]) -> Option<String> {
        let id = job.to_string();
        let scopes = json!([
            scope("put", &format!("/formulaire/offre/:jobId/{put}"), json!({ "jobId": id })),
            scope("post", &format!("/v2/_private/jobs/{post}/:id"), json!({ "id": id })),
        ]);
        self.with_token(pattern, [("{job}", id.as_str())], &self.token(user, &scopes)?)
    }

    fn token(&self, user: LinkUser<'_>, scopes: &Value) -> Option<String> {
        let key = EncodingKey::from_secret(self.settings.key.as_ref()?.expose_secret().as_bytes());
        let issued = self.now.timestamp_millis().div_euclid(1000);
        let claims = json!({
            "identity": { "type": "IUser2", "_id": user.id.to_string(), "email": user.address.to_lowercase() },
            "scopes": scopes,
            "iat": issued,
            "exp": issued.saturating_add(VALID),
            "iss": self.public_url,
        });
        encode(&Header::new(Algorithm::HS256), &claims, &key).ok()
    }

    fn site(&self, pattern: &str) -> String {
        pattern.replacen("{public_url}", self.public_url, 1)
    }

    fn with_token<const N: usize>(&self, pattern: &str, places: [(&str, &str); N], token: &str) -> Option<String> {
        let mut link = self.site(pattern);
        for (place, value) in places {
            link = link.replace(place, value);
        }
        let link = if link.contains("{token}") {
            link.replace("{token}", token)
        } else {
            link.replacen("?token=", &format!("?token={token}"), 1)
        };
        (link.chars().count() < LONGEST).then_some(link)
    }
}

/// A route that a token is good for, as the platform writes it.
fn scope(method: &str, path: &str, parameters: Value) -> Value {
    json!({ "options": { "params": parameters }, "path": path, "method": method })
}

#[cfg(test)]
#[path = "email_links_tests.rs"]
mod tests;
