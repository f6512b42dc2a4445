//! The one table of keys: path, kind, default, meaning. The defaults, the check for unknown keys, `config show` and
//! `deploy/stream-processor.toml` come from this table. No default may stand anywhere else.

use std::time::Duration;

use super::choices::{
    Choice, Environment, LogFormat, ManagedByChoice, OnHistoryLost, OnUserDeactivated, Phase, TokenStoreKind,
};
use super::key::{ConfigKey, DAY, Fallback, HOUR, MINUTE, SECOND, Section, ValueKind, duration, secret_file};
use super::{foreign_writes, outside, throttle, ticker};

/// Every section with its keys, in the order of `deploy/stream-processor.toml`.
#[must_use]
pub fn sections() -> Vec<Section> {
    let mut sections = vec![
        top(),
        mongodb(),
        target(),
        stream(),
        tokens(),
        lease(),
        pause(),
        signals(),
        phase(),
        privacy(),
        users(),
        verify(),
        foreign_writes::section(),
        throttle::section(),
        health(),
        http(),
        log(),
    ];
    sections.extend(ticker::sections());
    sections.extend([
        outside::smtp(),
        outside::mail(),
        outside::links(),
        outside::directory(),
        outside::refresh(),
        outside::notices(),
        outside::sentry(),
        outside::traces(),
    ]);
    sections.push(obfuscate());
    sections
}

fn obfuscate() -> Section {
    Section::new(
        "obfuscate",
        "The command `obfuscate`, which replaces personal data in our offers by fake values, for good.",
        vec![ConfigKey::new(
            "obfuscate.allowed_databases",
            ValueKind::Databases,
            Fallback::List(&[]),
            "The databases on which it may run: copies, never the live database. Production always refuses it.",
        )],
    )
}

fn choice<T: Choice>(path: &str, default: &'static str, doc: &'static str) -> ConfigKey {
    ConfigKey::new(path, ValueKind::Choice(T::WORDS), Fallback::Value(default), doc)
}

fn top() -> Section {
    let environment = choice::<Environment>("environment", "development", "What kind of deployment this is.");
    Section::new("", "", vec![environment])
}

fn mongodb() -> Section {
    Section::new(
        "mongodb",
        "The database that holds `recruiters` and `jobs_partners`: a replica set, 6.0 or later.",
        vec![
            ConfigKey::new(
                "mongodb.uri",
                ValueKind::MongodbUri,
                Fallback::Required("mongodb://user:password@host:27017/?replicaSet=rs0"),
                "The connection string, with the options for TLS, SCRAM and X.509.",
            )
            .secret()
            .short("MONGODB_URI")
            .flag("--mongodb-uri"),
            secret_file("mongodb.uri_file", "A file that holds the connection string."),
            ConfigKey::new(
                "mongodb.database",
                ValueKind::Database,
                Fallback::Required("labonnealternance"),
                "The name of the database.",
            )
            .short("MONGODB_DATABASE")
            .flag("--database"),
        ],
    )
}

fn target() -> Section {
    Section::new(
        "target",
        "The values of the offers in `jobs_partners`.",
        vec![
            ConfigKey::new(
                "target.partner_label",
                ValueKind::Text,
                Fallback::Value("RECRUTEURS_LBA"),
                "The `partner_label` of our offers. Offers with another one are never touched.",
            ),
            ConfigKey::new(
                "target.public_url",
                ValueKind::BaseUrl,
                Fallback::Value("https://labonnealternance.apprentissage.beta.gouv.fr"),
                "The public site; the offers' links begin with it.",
            ),
            ConfigKey::new(
                "target.offer_type",
                ValueKind::Text,
                Fallback::Value("offres_emploi_lba"),
                "The type of offer in the links.",
            ),
            choice::<ManagedByChoice>(
                "target.managed_by_type",
                "auto",
                "The type of `managed_by` in offers; `auto` takes the one that the validator names, or most offers have.",
            ),
            duration(
                "target.schema_check_interval",
                (Duration::from_secs(1), Duration::from_mins(1)),
                "1m",
                "How often the validator and the indexes of `jobs_partners` are read.",
            ),
        ],
    )
}

fn stream() -> Section {
    Section::new(
        "stream",
        "The change stream.",
        vec![
            ConfigKey::new(
                "stream.batch_max",
                ValueKind::Count { min: 1, max: 50_000 },
                Fallback::Value("5000"),
                "The most events in one batch.",
            ),
            ConfigKey::new(
                "stream.batch_max_bytes",
                ValueKind::Count { min: 65_536, max: 67_108_864 },
                Fallback::Value("8388608"),
                "The most bytes of events in one batch.",
            ),
            duration(
                "stream.await_time",
                (Duration::from_millis(50), MINUTE),
                "1s",
                "How long the server waits for events before it answers with none.",
            ),
            duration(
                "stream.canary_interval",
                (Duration::from_millis(100), HOUR),
                "2s",
                "How often the leader writes the canary, which must come back through the stream.",
            ),
            choice::<OnHistoryLost>(
                "stream.on_history_lost",
                "resync",
                "What to do when the resume token fell off the oplog: `resync` continues from now and \
                 projects every recruiter again; `halt` stops and waits for an operator.",
            ),
        ],
    )
}

fn tokens() -> Section {
    Section::new(
        "tokens",
        "The checkpoint (a resume token) and its history.",
        vec![
            choice::<TokenStoreKind>(
                "tokens.store",
                "mongodb",
                "Where the checkpoint and its history are kept: in the database, or as files outside it.",
            ),
            ConfigKey::new(
                "tokens.directory",
                ValueKind::Path,
                Fallback::Value("resume_tokens/data"),
                "The folder of the store `files`.",
            ),
            duration(
                "tokens.history_interval",
                (SECOND, DAY),
                "60s",
                "How often a checkpoint is copied to the history.",
            ),
            duration(
                "tokens.history_keep",
                (HOUR, DAY.saturating_mul(365)),
                "14d",
                "How long the history is kept; a replay can start from any token in it.",
            ),
            duration(
                "tokens.idle_interval",
                (SECOND, HOUR),
                "5s",
                "How often the token is saved while no event comes, so that it does not age.",
            ),
        ],
    )
}

fn lease() -> Section {
    let term = duration(
        "lease.duration",
        (SECOND, HOUR),
        "10s",
        "How long a lease lasts without renewal. A standby waits this long.",
    );
    Section::new("lease", "Which instance leads.", vec![term])
}

fn pause() -> Section {
    let limit = duration(
        "pause.limit",
        (MINUTE, DAY.saturating_mul(30)),
        "1h",
        "How long a pause may last before an alert fires, unless `pause --limit` says otherwise.",
    );
    Section::new("pause", "The command `pause`, which stops the service for a while.", vec![limit])
}

fn signals() -> Section {
    let enabled = ConfigKey::new(
        "signals.enabled",
        ValueKind::Boolean,
        Fallback::Value("false"),
        "Instances answer the signals in `stream_processor_signals`, for operators without a shell. Whoever may insert there \
         may then pause the service, and run replays, resyncs and time-based jobs.",
    );
    Section::new("signals", "Commands as documents in the database.", vec![enabled])
}

fn phase() -> Section {
    let initial = choice::<Phase>(
        "phase.initial",
        "sync",
        "The phase of a database without a phase. Later the database stores the phase.",
    );
    let backup = ConfigKey::new(
        "phase.keep_recruiters_backup",
        ValueKind::Boolean,
        Fallback::Value("true"),
        "In phase `shadow`, the mirror keeps `recruiters` in step with `jobs_partners`.",
    );
    Section::new("phase", "The authority: `recruiters` or `jobs_partners`.", vec![initial, backup])
}

fn privacy() -> Section {
    let email = ConfigKey::new(
        "privacy.anonymized_email",
        ValueKind::Email,
        Fallback::Value("anonymized@example.com"),
        "The replacement for the e-mail address of an anonymised person.",
    );
    Section::new("privacy", "Anonymisation.", vec![email])
}

fn users() -> Section {
    let deactivated = choice::<OnUserDeactivated>(
        "users.on_deactivated",
        "ignore",
        "What happens to the offers of a user whose last status is `DESACTIVE`: `ignore`, nothing; \
         `cancel-offers`, they are cancelled, and stay so until the user has another status. After a \
         change of this key, `verify --repair` brings all offers to it. It is counted in any case.",
    );
    Section::new("users", "Reactions to user accounts.", vec![deactivated])
}

fn verify() -> Section {
    Section::new(
        "verify",
        "The continuous verification: in phases `dual-write` and `shadow`, a random sample of the recruiters \
         that were touched is compared with its offers a few seconds later.",
        vec![
            ConfigKey::new(
                "verify.continuous",
                ValueKind::Boolean,
                Fallback::Value("true"),
                "Off: only `verify` compares.",
            ),
            duration("verify.sample_interval", (SECOND, HOUR), "10s", "How often a sample is compared."),
            ConfigKey::new(
                "verify.sample_size",
                ValueKind::Count { min: 1, max: 1_000 },
                Fallback::Value("50"),
                "The most recruiters of one sample.",
            ),
        ],
    )
}

fn health() -> Section {
    Section::new(
        "health",
        "When `/readyz` says no.",
        vec![
            duration("health.max_lag", (SECOND, DAY), "60s", "Not ready when the lag is longer."),
            duration(
                "health.max_retry",
                (SECOND, DAY),
                "30s",
                "Not ready when one read or write has been retried for longer.",
            ),
        ],
    )
}

fn http() -> Section {
    let listen = ConfigKey::new(
        "http.listen",
        ValueKind::Address,
        Fallback::Value("127.0.0.1:9464"),
        "Where `/metrics`, the probes and the status page are served.",
    )
    .flag("--listen");
    Section::new("http", "The HTTP server (read-only).", vec![listen])
}

/// The level that stands where nobody chose one.
pub const DEFAULT_LEVEL: &str = "info";

fn log() -> Section {
    Section::new(
        "log",
        "Logs, on the standard error.",
        vec![
            choice::<LogFormat>("log.format", "auto", "`auto`: JSON for `run` outside a terminal, pretty otherwise."),
            ConfigKey::new(
                "log.level",
                ValueKind::LogFilter,
                Fallback::Value(DEFAULT_LEVEL),
                "A level, or directives such as `info,stream_processor::leader=debug`. With `info`, a command other than \
                 `run` logs warnings only.",
            )
            .short("RUST_LOG"),
        ],
    )
}
