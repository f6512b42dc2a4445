//! The typed settings, made from checked values. A missing or mistyped key here means that this file and the table of
//! keys disagree, which a unit test excludes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::choices::{
    Environment, LogFormat, ManagedByChoice, OnHistoryLost, OnUserDeactivated, Phase, TokenStoreKind,
};
use super::fault::ConfigFault;
use super::foreign_writes::ForeignWritesSettings;
use super::outside_settings::{
    DirectorySettings, MailSettings, NoticesSettings, SentrySettings, SmtpSettings, TracesSettings,
};
use super::throttle::ThrottleSettings;
use super::ticker::{self, JobSettings, ReminderWindow, TickerSettings};
use super::values::{Checked, Values, disagreement};

/// All settings of the service. Secrets do not show in the `Debug` output.
#[derive(Debug, Clone)]
pub struct Settings {
    pub environment: Environment,
    pub mongodb: MongodbSettings,
    /// The values that our offers in `jobs_partners` carry.
    pub target: TargetSettings,
    pub stream: StreamSettings,
    /// The checkpoint and its history.
    pub tokens: TokensSettings,
    pub lease: LeaseSettings,
    pub pause: PauseSettings,
    pub signals: SignalsSettings,
    pub phase: PhaseSettings,
    /// Anonymisation.
    pub privacy: PrivacySettings,
    /// Reactions to changes of user accounts.
    pub users: UsersSettings,
    /// The continuous verification.
    pub verify: VerifySettings,
    /// The watch for writes of others to our offers.
    pub foreign_writes: ForeignWritesSettings,
    /// Care for a busy server.
    pub throttle: ThrottleSettings,
    /// The limits of readiness.
    pub health: HealthSettings,
    pub http: HttpSettings,
    pub log: LogSettings,
    /// The time-based jobs.
    pub ticker: TickerSettings,
    /// The mail server.
    pub smtp: SmtpSettings,
    /// The contents of e-mails.
    pub mail: MailSettings,
    /// The company directory.
    pub directory: DirectorySettings,
    /// The job `refresh-pending-establishments`.
    pub refresh: RefreshSettings,
    /// The webhook for notices to people.
    pub notices: NoticesSettings,
    /// Where `run` reports its errors, in Sentry's protocol.
    pub sentry: SentrySettings,
    pub traces: TracesSettings,
    /// The limits of the command `obfuscate`.
    pub obfuscate: ObfuscateSettings,
}

/// The settings of `[mongodb]`.
#[derive(Debug, Clone)]
pub struct MongodbSettings {
    /// The connection string, from `mongodb.uri` or the file of `mongodb.uri_file`.
    pub uri: SecretString,
    pub database: String,
}

/// The settings of `[target]`.
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// The `partner_label` of our offers. Offers with another label are never touched.
    pub partner_label: String,
    /// The URL of the public site, without trailing slash. The links of offers begin with it.
    pub public_url: String,
    /// The type of offer in the links of offers.
    pub offer_type: String,
    /// The type of `managed_by` in offers.
    pub managed_by_type: ManagedByChoice,
    /// The time between two reads of the target's schema.
    pub schema_check_interval: Duration,
}

/// The settings of `[stream]`.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// The most events in one batch.
    pub batch_max: usize,
    /// The most bytes of events in one batch.
    pub batch_max_bytes: usize,
    /// The time for which one `getMore` waits for events.
    pub await_time: Duration,
    /// The time between two canaries that the leader writes.
    pub canary_interval: Duration,
    pub on_history_lost: OnHistoryLost,
}

/// The settings of `[tokens]`.
#[derive(Debug, Clone)]
pub struct TokensSettings {
    /// The kind of store for checkpoints.
    pub store: TokenStoreKind,
    /// The folder of the file store.
    pub directory: PathBuf,
    /// The time between two copies of the checkpoint to the history.
    pub history_interval: Duration,
    /// The time for which entries of the history are kept.
    pub history_keep: Duration,
    /// The time between two saves of the resume token of an idle stream.
    pub idle_interval: Duration,
}

/// The settings of `[lease]`.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// The time for which an instance holds the lease without renewing it.
    pub duration: Duration,
}

/// The settings of `[pause]`.
#[derive(Debug, Clone)]
pub struct PauseSettings {
    /// The time after which an alert about a pause fires.
    pub limit: Duration,
}

/// The settings of `[signals]`.
#[derive(Debug, Clone)]
pub struct SignalsSettings {
    /// True when instances answer the signals of operators without a shell.
    pub enabled: bool,
}

/// The settings of `[phase]`.
#[derive(Debug, Clone)]
pub struct PhaseSettings {
    /// The phase of a database that has none yet.
    pub initial: Phase,
    /// True when the mirror keeps `recruiters` in step with `jobs_partners` in phase `shadow`.
    pub keep_recruiters_backup: bool,
}

/// The settings of `[privacy]`.
#[derive(Debug, Clone)]
pub struct PrivacySettings {
    /// The address that replaces the e-mail address of an anonymised person.
    pub anonymized_email: String,
}

/// The settings of `[users]`.
#[derive(Debug, Clone)]
pub struct UsersSettings {
    pub on_deactivated: OnUserDeactivated,
}

/// The settings of `[verify]`.
#[derive(Debug, Clone)]
pub struct VerifySettings {
    /// True when a random sample of the touched recruiters is compared with its offers.
    pub continuous: bool,
    /// The time between two samples.
    pub sample_interval: Duration,
    /// The most recruiters in one sample.
    pub sample_size: usize,
}

/// The settings of `[health]`.
#[derive(Debug, Clone)]
pub struct HealthSettings {
    /// The longest lag of a ready instance.
    pub max_lag: Duration,
    /// The longest time for which a ready instance may retry one read or write.
    pub max_retry: Duration,
}

/// The settings of `[http]`.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The address to listen at; port 0 takes a free port.
    pub listen: SocketAddr,
}

/// The settings of `[log]`.
#[derive(Debug, Clone)]
pub struct LogSettings {
    pub format: LogFormat,
    /// Directives of `EnvFilter`, from `log.level` or `RUST_LOG`.
    pub level: String,
    /// False when `NO_COLOR` is set.
    pub colors: bool,
}

/// The settings of `[refresh]`.
#[derive(Debug, Clone)]
pub struct RefreshSettings {
    /// True when establishments that the directory refuses are archived (spec 09, "Pending establishments").
    pub archive_refused: bool,
}

/// The settings of `[obfuscate]`.
#[derive(Debug, Clone)]
pub struct ObfuscateSettings {
    /// The names of the databases on which `obfuscate` is allowed: copies of the data.
    pub allowed_databases: Vec<String>,
}

impl Settings {
    /// Makes the settings. `colors` is an argument because it comes from the variable `NO_COLOR`, which is not a key.
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
                managed_by_type: values.choice("target.managed_by_type")?,
                schema_check_interval: values.duration("target.schema_check_interval")?,
            },
            stream: values.stream()?,
            tokens: values.tokens()?,
            lease: LeaseSettings { duration: values.duration("lease.duration")? },
            pause: PauseSettings { limit: values.duration("pause.limit")? },
            signals: SignalsSettings { enabled: values.boolean("signals.enabled")? },
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
            foreign_writes: ForeignWritesSettings::read(&values)?,
            throttle: ThrottleSettings::read(&values)?,
            health: HealthSettings {
                max_lag: values.duration("health.max_lag")?,
                max_retry: values.duration("health.max_retry")?,
            },
            http: HttpSettings { listen: values.address("http.listen")? },
            log: LogSettings { format: values.choice("log.format")?, level: values.text("log.level")?, colors },
            ticker: values.ticker()?,
            smtp: SmtpSettings::read(&values)?,
            mail: MailSettings::read(&values)?,
            directory: DirectorySettings::read(&values)?,
            refresh: RefreshSettings { archive_refused: values.boolean("refresh.archive_refused")? },
            notices: NoticesSettings { webhook_url: values.secret("notices.webhook_url")? },
            sentry: SentrySettings { dsn: values.secret("sentry.dsn")? },
            traces: TracesSettings::read(&values)?,
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

    fn window(&self, name: &str, path: &str) -> Result<Option<ReminderWindow>, ConfigFault> {
        if !ticker::has_window(name) {
            return Ok(None);
        }
        let end = |end: &str| self.duration(&format!("{path}.{end}"));
        Ok(Some(ReminderWindow { from: end("window_from")?, to: end("window_to")? }))
    }

    fn ticker(&self) -> Result<TickerSettings, ConfigFault> {
        let job = |name: &'static str| {
            let path = format!("ticker.jobs.{name}");
            let settings = JobSettings {
                enabled: self.boolean(&format!("{path}.enabled"))?,
                crons: self.list(&format!("{path}.cron"))?,
                catch_up: self.duration(&format!("{path}.catch_up"))?,
                window: self.window(name, &path)?,
            };
            Ok((name, settings))
        };
        Ok(TickerSettings {
            enabled: self.boolean("ticker.enabled")?,
            time_zone: self.text("ticker.time_zone")?,
            anonymizes_orphans: self.boolean(ticker::ORPHANS)?,
            jobs: ticker::job_names().map(job).collect::<Result<_, ConfigFault>>()?,
        })
    }
}
