//! The finished configuration: plain typed values, made from values that were checked. A missing or
//! mistyped key here means that this file and the table of keys disagree, which a unit test excludes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::choices::{Environment, LogFormat, OnHistoryLost, OnUserDeactivated, Phase, TokenStoreKind};
use super::fault::ConfigFault;
use super::outside_settings::{DirectorySettings, MailSettings, NoticesSettings, SmtpSettings};
use super::ticker::{self, JobSettings, TickerSettings};
use super::values::{Checked, Values, disagreement};

/// What the service works with. Cheap to clone; secrets do not show in its `Debug`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What kind of deployment this is.
    pub environment: Environment,
    /// The database.
    pub mongodb: MongodbSettings,
    /// What our offers carry.
    pub target: TargetSettings,
    /// The change stream.
    pub stream: StreamSettings,
    /// The checkpoint and its history.
    pub tokens: TokensSettings,
    /// Which instance is active.
    pub lease: LeaseSettings,
    /// Who is the authority.
    pub phase: PhaseSettings,
    /// Anonymisation.
    pub privacy: PrivacySettings,
    /// Reactions to user accounts.
    pub users: UsersSettings,
    /// The continuous verification.
    pub verify: VerifySettings,
    /// When `/readyz` says no.
    pub health: HealthSettings,
    /// The HTTP server.
    pub http: HttpSettings,
    /// Logs.
    pub log: LogSettings,
    /// The time-based jobs.
    pub ticker: TickerSettings,
    /// The mail server.
    pub smtp: SmtpSettings,
    /// E-mail without a mail server.
    pub mail: MailSettings,
    /// The company directory.
    pub directory: DirectorySettings,
    /// Notices to people.
    pub notices: NoticesSettings,
    /// Where fake values may replace what is personal.
    pub obfuscate: ObfuscateSettings,
}

/// `[mongodb]`
#[derive(Debug, Clone)]
pub struct MongodbSettings {
    /// The connection string, from `mongodb.uri` or the file of `mongodb.uri_file`.
    pub uri: SecretString,
    /// The name of the database.
    pub database: String,
}

/// `[target]`
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// The `partner_label` of our offers.
    pub partner_label: String,
    /// The public site, without trailing slash.
    pub public_url: String,
    /// The type of offer in the links.
    pub offer_type: String,
}

/// `[stream]`
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// The most events in one batch.
    pub batch_max: usize,
    /// The most bytes of events in one batch.
    pub batch_max_bytes: usize,
    /// How long one `getMore` waits for events.
    pub await_time: Duration,
    /// How often the leader writes the canary.
    pub canary_interval: Duration,
    /// What to do when the token fell off the oplog.
    pub on_history_lost: OnHistoryLost,
}

/// `[tokens]`
#[derive(Debug, Clone)]
pub struct TokensSettings {
    /// Where checkpoints are kept.
    pub store: TokenStoreKind,
    /// The folder of the file store.
    pub directory: PathBuf,
    /// How often a checkpoint is copied to the history.
    pub history_interval: Duration,
    /// How long the history is kept.
    pub history_keep: Duration,
    /// How often the token of an idle stream is saved.
    pub idle_interval: Duration,
}

/// `[lease]`
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// How long an instance stays active without renewing.
    pub duration: Duration,
}

/// `[phase]`
#[derive(Debug, Clone)]
pub struct PhaseSettings {
    /// The phase of a database that has none yet.
    pub initial: Phase,
    /// Whether the time-based jobs keep `recruiters` as a backup in `shadow`.
    pub keep_recruiters_backup: bool,
}

/// `[privacy]`
#[derive(Debug, Clone)]
pub struct PrivacySettings {
    /// What replaces the e-mail address of an anonymised person.
    pub anonymized_email: String,
}

/// `[users]`
#[derive(Debug, Clone)]
pub struct UsersSettings {
    /// What a user's deactivation does to the offers.
    pub on_deactivated: OnUserDeactivated,
}

/// `[verify]`
#[derive(Debug, Clone)]
pub struct VerifySettings {
    /// Whether a sample of what was written is compared.
    pub continuous: bool,
    /// How often.
    pub sample_interval: Duration,
    /// So many recruiters at a time.
    pub sample_size: usize,
}

/// `[health]`
#[derive(Debug, Clone)]
pub struct HealthSettings {
    /// Not ready when the lag is longer.
    pub max_lag: Duration,
    /// Not ready when one read or write has been retried for longer.
    pub max_retry: Duration,
}

/// `[http]`
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// How log lines look.
    pub format: LogFormat,
    /// Directives of `EnvFilter`, from `log.level` or `RUST_LOG`.
    pub level: String,
    /// False when `NO_COLOR` is set.
    pub colors: bool,
}

/// `[obfuscate]`
#[derive(Debug, Clone)]
pub struct ObfuscateSettings {
    /// The names of the databases that hold copies.
    pub allowed_databases: Vec<String>,
}

impl Settings {
    /// `colors` is false when `NO_COLOR` is set, which is no key.
    pub(super) fn from_checked(checked: &Checked, colors: bool) -> Result<Self, ConfigFault> {
        let values = Values(checked);
        Ok(Self {
            environment: values.choice("environment")?,
            mongodb: MongodbSettings {
                uri: values.secret("mongodb.uri")?.ok_or_else(|| disagreement("mongodb.uri"))?,
                database: values.text("mongodb.database")?,
            },
            target: TargetSettings {
                partner_label: values.text("target.partner_label")?,
                public_url: values.text("target.public_url")?,
                offer_type: values.text("target.offer_type")?,
            },
            stream: values.stream()?,
            tokens: values.tokens()?,
            lease: LeaseSettings { duration: values.duration("lease.duration")? },
            phase: PhaseSettings {
                initial: values.choice("phase.initial")?,
                keep_recruiters_backup: values.boolean("phase.keep_recruiters_backup")?,
            },
            privacy: PrivacySettings { anonymized_email: values.text("privacy.anonymized_email")? },
            users: UsersSettings { on_deactivated: values.choice("users.on_deactivated")? },
            verify: VerifySettings {
                continuous: values.boolean("verify.continuous")?,
                sample_interval: values.duration("verify.sample_interval")?,
                sample_size: values.count("verify.sample_size")?,
            },
            health: HealthSettings {
                max_lag: values.duration("health.max_lag")?,
                max_retry: values.duration("health.max_retry")?,
            },
            http: HttpSettings { listen: values.address("http.listen")? },
            log: LogSettings { format: values.choice("log.format")?, level: values.text("log.level")?, colors },
            ticker: values.ticker()?,
            smtp: SmtpSettings::read(&values)?,
            mail: MailSettings { outbox_directory: values.path("mail.outbox_directory")? },
            directory: DirectorySettings::read(&values)?,
            notices: NoticesSettings { webhook_url: values.secret("notices.webhook_url")? },
            obfuscate: ObfuscateSettings { allowed_databases: values.list("obfuscate.allowed_databases")? },
        })
    }
}

impl Values<'_> {
    fn stream(&self) -> Result<StreamSettings, ConfigFault> {
        Ok(StreamSettings {
            batch_max: self.count("stream.batch_max")?,
            batch_max_bytes: self.count("stream.batch_max_bytes")?,
            await_time: self.duration("stream.await_time")?,
            canary_interval: self.duration("stream.canary_interval")?,
            on_history_lost: self.choice("stream.on_history_lost")?,
        })
    }

    fn tokens(&self) -> Result<TokensSettings, ConfigFault> {
        Ok(TokensSettings {
            store: self.choice("tokens.store")?,
            directory: self.path("tokens.directory")?,
            history_interval: self.duration("tokens.history_interval")?,
            history_keep: self.duration("tokens.history_keep")?,
            idle_interval: self.duration("tokens.idle_interval")?,
        })
    }

    fn ticker(&self) -> Result<TickerSettings, ConfigFault> {
        let job = |name: &'static str| {
            let path = format!("ticker.jobs.{name}");
            let settings = JobSettings {
                enabled: self.boolean(&format!("{path}.enabled"))?,
                crons: self.list(&format!("{path}.cron"))?,
                catch_up: self.duration(&format!("{path}.catch_up"))?,
            };
            Ok((name, settings))
        };
        Ok(TickerSettings {
            enabled: self.boolean("ticker.enabled")?,
            time_zone: self.text("ticker.time_zone")?,
            jobs: ticker::job_names().map(job).collect::<Result<_, ConfigFault>>()?,
        })
    }
}
