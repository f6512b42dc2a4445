//! The types of the table of keys: a key has a kind of value, a default, a meaning, and the ways in which it may be
//! given. Reads no file and no variable.

use std::time::Duration;

/// The prefix of the environment variables that set keys. In their names, `__` stands for the dot of a path.
pub(super) const ENVIRONMENT_PREFIX: &str = "STREAM_PROCESSOR__";

/// The kind of value that a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Any text that is not empty.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number from `min` to `max`.
    Count { min: u64, max: u64 },
    /// A duration from `min` to `max`, written `10s`, `24h`.
    Duration { min: Duration, max: Duration },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A file or folder, relative to the working directory.
    Path,
    /// An IP address with a port.
    Address,
    /// A URL with one of these schemes.
    Url(&'static [&'static str]),
    /// The URL of a mail server: `smtp://` or `smtps://`, with `tls` as the only option.
    SmtpUrl,
    /// An http(s) URL to which paths are appended: no query, no user, no trailing slash kept.
    BaseUrl,
    /// The URL of a service that is given addresses: https, or http to this machine; no query, no user.
    ServiceUrl,
    /// The DSN of a project in Sentry.
    SentryDsn,
    /// HTTP headers in the spelling of OpenTelemetry: `name=value` with a percent-encoded value, separated by commas.
    Headers,
    /// A MongoDB connection string. Only its beginning is checked here; the driver checks the rest when it connects.
    MongodbUri,
    /// The name of a MongoDB database on which a change stream can be opened.
    Database,
    /// The pattern of a link, which names each of these places once.
    Link(&'static [&'static str]),
    /// The URI of a way to unsubscribe: `https` or `mailto`.
    Unsubscription,
    /// A key for signatures, of at least `min` bytes.
    SigningKey { min: usize },
    /// An e-mail address, or a name followed by an address in angle brackets.
    Email,
    /// A list of database names.
    Databases,
    /// One cron expression, or a list of cron expressions.
    Crons,
    /// The name of a time zone in the IANA database.
    TimeZone,
    /// Directives of `tracing-subscriber`'s `EnvFilter`.
    LogFilter,
}

impl ValueKind {
    /// A description of the allowed values, for the end of a sentence.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Text => "a text that is not empty".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Duration { min, max } => {
                format!("a duration (`10s`, `24h`) from {} to {}", written(min), written(max))
            }
            Self::Choice(words) => format!("one of {}", quoted(words, "")),
            Self::Path => "a path, relative to the working directory".to_owned(),
            Self::Address => "an IP address with a port, such as `127.0.0.1:9464`".to_owned(),
            Self::Url(schemes) => format!("a URL that begins with {}", quoted(schemes, "://")),
            Self::SmtpUrl => {
                "a URL that begins with `smtp://` or `smtps://`; after `smtp://`, `?tls=required` or `?tls=opportunistic`"
                    .to_owned()
            }
            Self::BaseUrl => "a URL that begins with `http://` or `https://`, without query or user".to_owned(),
            Self::ServiceUrl => {
                "a URL that begins with `https://`, or with `http://` for this machine, without query or user".to_owned()
            }
            Self::SentryDsn => "a DSN of Sentry such as `https://key@sentry.example.com/1`".to_owned(),
            Self::Headers => "headers such as `authorization=Bearer%20token,x-team=name`".to_owned(),
            Self::MongodbUri => "a connection string that begins with `mongodb://` or `mongodb+srv://`".to_owned(),
            Self::Database => "the name of a database, not `admin`, `local` or `config`".to_owned(),
            Self::Link(places) => {
                let named = if places.is_empty() { String::new() } else { format!(" and names {}", named(places)) };
                format!("a URL that begins with `{{public_url}}/`, `https://` or `http://`{named}")
            }
            Self::Unsubscription => "a URI that begins with `https://` or `mailto:`".to_owned(),
            Self::SigningKey { min } => format!("a text of at least {min} bytes"),
            Self::Email => "an e-mail address such as `someone@example.com`".to_owned(),
            Self::Databases => "a list of names of databases (one variable: separated by `;`)".to_owned(),
            Self::Crons => "a cron expression or a list of them (one variable: separated by `;`)".to_owned(),
            Self::TimeZone => "a name of the IANA database, such as `Europe/Paris`".to_owned(),
            Self::LogFilter => "a level (error, warn, info, debug, trace) or `RUST_LOG` directives".to_owned(),
        }
    }
}

/// A duration as a person writes it in the TOML file, such as `90s` or `14d`.
pub(super) fn written(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 {
        return humantime::format_duration(duration).to_string();
    }
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds != 0 && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// The places of a link, in a sentence. `?token=` also says where the token belongs.
fn named(places: &[&str]) -> String {
    let places = places.iter().map(|place| match *place {
        "token" => "`{token}` (or has `?token=`)".to_owned(),
        place => format!("`{{{place}}}`"),
    });
    places.collect::<Vec<_>>().join(", ")
}

fn quoted(words: &[&str], suffix: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}{suffix}`")).collect();
    words.join(", ")
}

/// The value of a key that no layer sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This default, in the form of an environment variable.
    Value(&'static str),
    /// This list as the default.
    List(&'static [&'static str]),
    /// No value: the key is optional. The text is an example.
    Unset(&'static str),
    /// No value is a fault: the key is required. The text is an example.
    Required(&'static str),
}

/// One row of the table of keys.
#[derive(Debug, Clone)]
pub struct ConfigKey {
    /// The path, such as `stream.batch_max`.
    pub path: String,
    pub kind: ValueKind,
    pub fallback: Fallback,
    /// The meaning, for the commented TOML file; empty when the text of the section explains the key.
    pub doc: &'static str,
    /// True when the value is masked wherever it is shown, and may come from the file named by `<path>_file`.
    pub secret: bool,
    /// A second environment variable with a short name, such as `MONGODB_URI`. The prefixed variable wins.
    pub short: Option<&'static str>,
    /// The command-line flag that sets the key, such as `--listen`.
    pub flag: Option<&'static str>,
}

impl ConfigKey {
    /// Makes a key that is no secret and has no short variable and no flag.
    pub(super) fn new(path: impl Into<String>, kind: ValueKind, fallback: Fallback, doc: &'static str) -> Self {
        let path = path.into();
        Self { path, kind, fallback, doc, secret: false, short: None, flag: None }
    }

    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(super) fn short(self, name: &'static str) -> Self {
        Self { short: Some(name), ..self }
    }

    pub(super) fn flag(self, name: &'static str) -> Self {
        Self { flag: Some(name), ..self }
    }

    /// The last part of the path, which is the name of the key within its TOML table.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit_once('.').map_or(self.path.as_str(), |(_, name)| name)
    }

    /// The environment variable, such as `STREAM_PROCESSOR__STREAM__BATCH_MAX`.
    #[must_use]
    pub fn variable(&self) -> String {
        let name = self.path.to_uppercase().replace('.', "__").replace('-', "_");
        format!("{ENVIRONMENT_PREFIX}{name}")
    }

    /// The path of the key that names a file with this secret.
    #[must_use]
    pub fn file_path(&self) -> String {
        format!("{}_file", self.path)
    }
}

/// The keys of one TOML table, in the order of the documentation.
#[derive(Debug, Clone)]
pub struct Section {
    /// The path of the TOML table; empty for the keys at the top of the file.
    pub path: String,
    /// The subject of the section, for the commented TOML file.
    pub doc: &'static str,
    pub keys: Vec<ConfigKey>,
}

impl Section {
    pub(super) fn new(path: impl Into<String>, doc: &'static str, keys: Vec<ConfigKey>) -> Self {
        Self { path: path.into(), doc, keys }
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

pub(super) fn duration(
    path: &str,
    bounds: (Duration, Duration),
    default: &'static str,
    doc: &'static str,
) -> ConfigKey {
    let (min, max) = bounds;
    ConfigKey::new(path, ValueKind::Duration { min, max }, Fallback::Value(default), doc)
}

pub(super) fn secret_file(path: &str, doc: &'static str) -> ConfigKey {
    ConfigKey::new(path, ValueKind::Path, Fallback::Unset("/run/secrets/name"), doc)
}
