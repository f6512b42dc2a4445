//! The typed settings of other servers than MongoDB: the mail server, the company directory, the webhook for notices,
//! Sentry.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::fault::ConfigFault;
use super::values::{Values, disagreement};

/// The settings of `[smtp]`.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// The mail server with its credentials, from `smtp.url` or the file of `smtp.url_file`. `None`: messages go to
    /// `mail.outbox_directory`.
    pub url: Option<SecretString>,
    /// The sender of every message: an address, or a name followed by an address in angle brackets.
    pub from: String,
    /// A PEM file with certificates to trust beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// The longest time for connecting and logging in.
    pub connect_timeout: Duration,
    /// The longest time for one message.
    pub send_timeout: Duration,
    /// The number of messages that are sent at a time, each on a connection of its own.
    pub connections: usize,
    /// The most messages per second.
    pub rate: usize,
}

/// The settings of `[mail]`.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The folder for messages as `.eml` files when no mail server is configured.
    pub outbox_directory: PathBuf,
    /// The sender's identity in the footer.
    pub sender: String,
    /// The public address for answers and objections: an address, or a name followed by an address in angle brackets.
    pub contact: String,
    /// The URI of the header `List-Unsubscribe`.
    pub unsubscribe: Option<String>,
    pub links: LinksSettings,
}

/// The settings of `[mail.links]`: patterns of links, with places in braces (spec 09, "Links in e-mails").
#[derive(Debug, Clone)]
pub struct LinksSettings {
    /// The key of the tokens, from `mail.links.jwt_secret` or the file of `mail.links.jwt_secret_file`. `None`: e-mails
    /// have no link with a token.
    pub key: Option<SecretString>,
    /// The log-in page of the recruiter's space.
    pub space: String,
    /// The page that cancels an offer.
    pub cancel: String,
    /// The page that declares an offer filled.
    pub provided: String,
    /// The page that shares an offer with training centres.
    pub introduction: String,
    /// The privacy policy.
    pub privacy: String,
}

/// The settings of `[directory]`.
#[derive(Debug, Clone)]
pub struct DirectorySettings {
    /// The URL of the API, without trailing slash. `None`: only `cache_siret` is asked.
    pub base_url: Option<String>,
    /// The token of the API, from `directory.token` or the file of `directory.token_file`.
    pub token: Option<SecretString>,
    /// The context that the API wants with every call.
    pub context: String,
    /// The reason that the API wants with every call.
    pub object: String,
    /// The siret of the caller, which the API wants with every call.
    pub recipient: Option<String>,
    /// The longest time for one call.
    pub timeout: Duration,
    /// The most calls per second.
    pub rate: usize,
    /// The age below which an entry of `cache_siret` is used without a call.
    pub cache_age: Duration,
    /// The URL of the geocoding service. `None`: no point is looked up.
    pub geocoding_url: Option<String>,
    /// The longest wait that the API may ask for. A longer one ends the run of the job, and the next run goes on.
    pub longest_wait: Duration,
}

/// The settings of `[notices]`.
#[derive(Debug, Clone)]
pub struct NoticesSettings {
    /// The URL of the incoming webhook, from `notices.webhook_url` or the file of `notices.webhook_url_file`.
    pub webhook_url: Option<SecretString>,
}

/// The settings of `[sentry]`: where `run` reports its errors.
#[derive(Debug, Clone)]
pub struct SentrySettings {
    /// The DSN of the project, from `sentry.dsn` or the file of `sentry.dsn_file`. `None`: nothing is reported.
    pub dsn: Option<SecretString>,
}

/// The settings of `[traces]`: where spans are sent, and how many of the traces.
#[derive(Debug, Clone)]
pub struct TracesSettings {
    /// The URL to which traces are sent. `None`: no traces are made.
    pub endpoint: Option<String>,
    /// The headers of each call, from `traces.headers` or the file of `traces.headers_file`.
    pub headers: Option<SecretString>,
    /// One of so many traces is sent.
    pub sample_one_in: u32,
}

impl TracesSettings {
    pub(super) fn read(values: &Values<'_>) -> Result<Self, ConfigFault> {
        let one_in = "traces.sample_one_in";
        Ok(Self {
            endpoint: values.optional_text("traces.endpoint")?,
            headers: values.secret("traces.headers")?,
            sample_one_in: u32::try_from(values.count(one_in)?).map_err(|_| disagreement(one_in))?,
        })
    }

    /// The part of all traces that is sent, from 0 to 1.
    #[must_use]
    pub fn sampled(&self) -> f64 {
        f64::from(self.sample_one_in).recip()
    }
}

impl SmtpSettings {
    pub(super) fn read(values: &Values<'_>) -> Result<Self, ConfigFault> {
        Ok(Self {
            url: values.secret("smtp.url")?,
            from: values.text("smtp.from")?,
            ca_file: values.optional_text("smtp.ca_file")?.map(PathBuf::from),
            connect_timeout: values.duration("smtp.connect_timeout")?,
            send_timeout: values.duration("smtp.send_timeout")?,
            connections: values.count("smtp.connections")?,
            rate: values.count("smtp.rate")?,
        })
    }
}

impl MailSettings {
    pub(super) fn read(values: &Values<'_>) -> Result<Self, ConfigFault> {
        Ok(Self {
            outbox_directory: values.path("mail.outbox_directory")?,
            sender: values.text("mail.sender")?,
            contact: values.text("mail.contact")?,
            unsubscribe: values.optional_text("mail.unsubscribe")?,
            links: LinksSettings {
                key: values.secret("mail.links.jwt_secret")?,
                space: values.text("mail.links.space")?,
                cancel: values.text("mail.links.cancel")?,
                provided: values.text("mail.links.provided")?,
                introduction: values.text("mail.links.introduction")?,
                privacy: values.text("mail.links.privacy")?,
            },
        })
    }
}

impl DirectorySettings {
    pub(super) fn read(values: &Values<'_>) -> Result<Self, ConfigFault> {
        Ok(Self {
            base_url: values.optional_text("directory.base_url")?,
            token: values.secret("directory.token")?,
            context: values.text("directory.context")?,
            object: values.text("directory.object")?,
            recipient: values.optional_text("directory.recipient")?,
            timeout: values.duration("directory.timeout")?,
            rate: values.count("directory.rate")?,
            cache_age: values.duration("directory.cache_age")?,
            geocoding_url: values.optional_text("directory.geocoding_url")?,
            longest_wait: values.duration("directory.longest_wait")?,
        })
    }
}
