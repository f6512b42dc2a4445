//! The finished configuration of what the service talks to beside MongoDB.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::fault::ConfigFault;
use super::values::Values;

/// `[smtp]`
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// The server with its credentials, from `smtp.url` or the file of `smtp.url_file`.
    pub url: Option<SecretString>,
    /// The sender.
    pub from: String,
    /// Certificates to trust beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long connecting and logging in may take.
    pub connect_timeout: Duration,
    /// How long one message may take.
    pub send_timeout: Duration,
    /// So many messages are sent at a time.
    pub connections: usize,
    /// The most messages per second.
    pub rate: usize,
}

/// `[mail]`
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// Where messages are written when there is no server.
    pub outbox_directory: PathBuf,
}

/// `[directory]`
#[derive(Debug, Clone)]
pub struct DirectorySettings {
    /// The address of the API, without trailing slash.
    pub base_url: Option<String>,
    /// Its token, from `directory.token` or the file of `directory.token_file`.
    pub token: Option<SecretString>,
    /// The context of every call.
    pub context: String,
    /// The reason of every call.
    pub object: String,
    /// The siret of who asks.
    pub recipient: Option<String>,
    /// How long one call may take.
    pub timeout: Duration,
    /// The most calls per second.
    pub rate: usize,
    /// An entry of the cache that is younger is taken as it is.
    pub cache_age: Duration,
    /// The longest that the API is waited for when it tells to come back later.
    pub longest_wait: Duration,
}

/// `[notices]`
#[derive(Debug, Clone)]
pub struct NoticesSettings {
    /// The incoming webhook, from `notices.webhook_url` or the file of `notices.webhook_url_file`.
    pub webhook_url: Option<SecretString>,
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
            longest_wait: values.duration("directory.longest_wait")?,
        })
    }
}
