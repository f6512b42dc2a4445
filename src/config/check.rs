//! Checks every key of the table against its kind and collects all faults: impossible values, missing required keys,
//! secrets given twice. Reads the files that hold secrets. The typed settings are made later, in `settings.rs`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use sentry_core::types::Dsn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::{Host, Url};

use super::effective;
use super::email_links;
use super::fault::{ConfigFault, ConfigFaults, Origin};
use super::headers;
use super::key::{ConfigKey, Fallback, Section, ValueKind};
use super::layers::{LayerEntry, Layers, Raw, nearest};
use super::values::{Accepted, Checked, CheckedValue};
use crate::schedule;

/// The levels of the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Checks all keys. `faults` are the faults of the layers; the faults of the check are added to them.
pub(super) fn check(
    mut layers: Layers,
    sections: &[Section],
    mut faults: Vec<ConfigFault>,
) -> Result<Checked, ConfigFaults> {
    let mut checked = Checked::new();
    for key in sections.iter().flat_map(|section| &section.keys) {
        match one(key, &mut layers) {
            Ok(Some(accepted)) => {
                checked.insert(key.path.clone(), accepted);
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    faults.extend(jobs_without_cron(&checked));
    faults.extend(empty_windows(&checked));
    if faults.is_empty() { Ok(checked) } else { Err(ConfigFaults(faults)) }
}

fn one(key: &ConfigKey, layers: &mut Layers) -> Result<Option<Accepted>, ConfigFault> {
    let entry = match layers.entries.remove(&key.path) {
        Some(entry) => Some(entry),
        None => fallback(key),
    };
    let file = layers.entries.get(&key.file_path()).filter(|_| key.secret);
    let entry = match file {
        Some(file) => secret_from_file(key, entry, file)?,
        None => entry,
    };
    match (entry, key.fallback) {
        (Some(entry), _) => accept(key, entry).map(Some),
        (None, Fallback::Required(_)) if file.is_none() && !layers.incomplete => Err(missing(key)),
        (None, _) => Ok(None),
    }
}

fn fallback(key: &ConfigKey) -> Option<LayerEntry> {
    let raw = match key.fallback {
        Fallback::Value(text) => Raw::Word(text.to_owned()),
        Fallback::List(items) => Raw::List(items.iter().map(|item| Raw::Text((*item).to_owned())).collect()),
        Fallback::Unset(_) | Fallback::Required(_) => return None,
    };
    Some(LayerEntry { raw, origin: Origin::Default })
}

fn missing(key: &ConfigKey) -> ConfigFault {
    let short = key.short.map_or_else(|| key.variable(), str::to_owned);
    let mut ways = vec![format!("`{}` in the file", key.path)];
    ways.extend(key.secret.then(|| format!("`{}`", key.file_path())));
    ways.extend(key.flag.map(|flag| format!("the flag {flag}")));
    let ways = ways.join(", ");
    ConfigFault {
        key: key.path.clone(),
        origin: None,
        reason: "is required".to_owned(),
        allowed: Some(format!("set {ways} or the variable {short}; allowed: {}", key.kind.allowed())),
    }
}

/// Reads a secret from the file that a `*_file` key names. The content is trimmed, because editors end a file with a
/// newline. `None` when the value of the `*_file` key is no path: the check of that key reports the fault.
fn secret_from_file(
    key: &ConfigKey,
    direct: Option<LayerEntry>,
    file: &LayerEntry,
) -> Result<Option<LayerEntry>, ConfigFault> {
    let fault =
        |reason: String| ConfigFault { key: key.file_path(), origin: Some(file.origin.clone()), reason, allowed: None };
    if let Some(direct) = direct {
        return Err(fault(format!("`{}` is given too ({}): give one of them", key.path, direct.origin)));
    }
    let Ok(path) = text(&file.raw).map(PathBuf::from) else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(content) => {
            Ok(Some(LayerEntry { raw: Raw::Word(content.trim().to_owned()), origin: Origin::SecretFile(path) }))
        }
        Err(error) => Err(fault(format!("cannot read {}: {error}", path.display()))),
    }
}

fn accept(key: &ConfigKey, entry: LayerEntry) -> Result<Accepted, ConfigFault> {
    let LayerEntry { raw, origin } = entry;
    let value = parse(&raw, key.kind).map_err(|reason| ConfigFault {
        key: key.path.clone(),
        origin: Some(origin.clone()),
        reason: effective::with_value(key, &raw, &reason),
        allowed: Some(format!("allowed: {}", key.kind.allowed())),
    })?;
    let shown = effective::shown(key, &raw, &value);
    let value = match value {
        CheckedValue::Text(text) if key.secret => CheckedValue::Secret(SecretString::from(text)),
        other => other,
    };
    Ok(Accepted { value, shown, origin })
}

/// Parses a value. The error is the reason of the fault and does not repeat the value, which may be a secret.
fn parse(raw: &Raw, kind: ValueKind) -> Result<CheckedValue, String> {
    match kind {
        ValueKind::Boolean => boolean(raw).map(CheckedValue::Boolean),
        ValueKind::Count { min, max } => count(raw, min, max).map(CheckedValue::Count),
        ValueKind::Crons => crons(raw).map(CheckedValue::List),
        ValueKind::Databases => {
            list(raw)?.into_iter().map(|name| database(&name)).collect::<Result<_, _>>().map(CheckedValue::List)
        }
        ValueKind::Duration { min, max } => duration(text(raw)?, min, max).map(CheckedValue::Duration),
        ValueKind::Address => match text(raw)?.parse() {
            Ok(address) => Ok(CheckedValue::Address(address)),
            Err(_) => Err("is not an address with a port".to_owned()),
        },
        ValueKind::Text | ValueKind::Path => Ok(CheckedValue::Text(text(raw)?.to_owned())),
        ValueKind::Choice(words) => known_word(text(raw)?, words).map(CheckedValue::Text),
        ValueKind::Url(schemes) => url(text(raw)?, schemes).map(CheckedValue::Text),
        ValueKind::SmtpUrl => smtp_url(text(raw)?).map(CheckedValue::Text),
        ValueKind::BaseUrl => base_url(text(raw)?).map(CheckedValue::Text),
        ValueKind::ServiceUrl => service_url(text(raw)?).map(CheckedValue::Text),
        ValueKind::SentryDsn => sentry_dsn(text(raw)?).map(CheckedValue::Text),
        ValueKind::Headers => trace_headers(text(raw)?).map(CheckedValue::Text),
        ValueKind::MongodbUri => mongodb_uri(text(raw)?).map(CheckedValue::Text),
        ValueKind::Database => database(text(raw)?).map(CheckedValue::Text),
        ValueKind::Link(places) => email_links::pattern(text(raw)?, places).map(CheckedValue::Text),
        ValueKind::Unsubscription => email_links::unsubscription(text(raw)?).map(CheckedValue::Text),
        ValueKind::SigningKey { min } => email_links::signing_key(text(raw)?, min).map(CheckedValue::Text),
        ValueKind::Email => email(text(raw)?).map(CheckedValue::Text),
        ValueKind::TimeZone => time_zone(text(raw)?).map(CheckedValue::Text),
        ValueKind::LogFilter => log_filter(text(raw)?).map(CheckedValue::Text),
    }
}

fn text(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::Word(text) | Raw::Text(text) if text.trim().is_empty() => Err("is empty".to_owned()),
        Raw::Word(text) | Raw::Text(text) => Ok(text),
        Raw::Integer(_) => Err("is a number, not a text in quotes".to_owned()),
        Raw::Boolean(_) => Err("is true or false, not a text in quotes".to_owned()),
        Raw::List(_) => Err("is a list, not a text in quotes".to_owned()),
        Raw::Other(what) => Err(format!("is {what}, not a text in quotes")),
    }
}

fn boolean(raw: &Raw) -> Result<bool, String> {
    match raw {
        Raw::Boolean(value) => Ok(*value),
        Raw::Word(word) => word.parse().map_err(|_| "is neither true nor false".to_owned()),
        _ => Err("is neither true nor false".to_owned()),
    }
}

fn count(raw: &Raw, min: u64, max: u64) -> Result<u64, String> {
    let number: i128 = match raw {
        Raw::Integer(number) => i128::from(*number),
        Raw::Word(word) => word.trim().parse().map_err(|_| "is not a whole number".to_owned())?,
        _ => return Err("is not a whole number".to_owned()),
    };
    match u64::try_from(number) {
        Ok(number) if number > max => Err("is too large".to_owned()),
        Ok(number) if number >= min => Ok(number),
        Err(_) if number > 0 => Err("is too large".to_owned()),
        _ => Err("is too small".to_owned()),
    }
}

fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    match humantime::parse_duration(text.trim()) {
        Ok(duration) if duration < min => Err("is too short".to_owned()),
        Ok(duration) if duration > max => Err("is too long".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("is not a duration".to_owned()),
    }
}

fn list(raw: &Raw) -> Result<Vec<String>, String> {
    let items: Vec<&str> = match raw {
        Raw::Word(word) => word.split(';').collect(),
        Raw::List(items) => items.iter().map(text).collect::<Result<_, _>>()?,
        one => vec![text(one)?],
    };
    Ok(items.iter().map(|item| item.trim().to_owned()).collect())
}

fn crons(raw: &Raw) -> Result<Vec<String>, String> {
    let items = list(raw)?;
    if items.iter().any(String::is_empty) {
        return Err("has an empty cron expression".to_owned());
    }
    // An expression is valid or not in every time zone alike, so any zone will do here.
    schedule::Schedule::parse(&items, chrono_tz::UTC).map_err(|error| error.to_string())?;
    Ok(items)
}

fn time_zone(text: &str) -> Result<String, String> {
    match schedule::zone(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("is not the name of a time zone".to_owned()),
    }
}

fn known_word(text: &str, words: &[&str]) -> Result<String, String> {
    if words.contains(&text) { Ok(text.to_owned()) } else { Err("is not an allowed value".to_owned()) }
}

fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
    if !schemes.contains(&url.scheme()) {
        return Err("has a wrong scheme".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    Ok(text.to_owned())
}

/// Accepts the URLs that `mail::transport` understands.
fn smtp_url(text: &str) -> Result<String, String> {
    let text = url(text, &["smtp", "smtps"])?;
    let parsed = Url::parse(&text).map_err(|error| format!("is not a URL ({error})"))?;
    for (option, value) in parsed.query_pairs() {
        match (parsed.scheme(), &*option, &*value) {
            ("smtp", "tls", "required" | "opportunistic") | ("smtps", "tls", "required") => {}
            (_, "tls", _) => return Err("has an unknown value of `tls`".to_owned()),
            _ => return Err("has an option that is not `tls`".to_owned()),
        }
    }
    if parsed.username().is_empty() != parsed.password().is_none() {
        return Err("has a user without a password, or a password without a user".to_owned());
    }
    Ok(text)
}

fn base_url(text: &str) -> Result<String, String> {
    let text = url(text, &["http", "https"])?;
    if text.contains(['?', '#', '@']) {
        return Err("has a query, a fragment or a user".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The path is kept as it is: to some services, a slash at its end matters.
fn service_url(text: &str) -> Result<String, String> {
    base_url(text)?;
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || is_local {
        Ok(text.to_owned())
    } else {
        Err("sends addresses over the network without encryption".to_owned())
    }
}

fn sentry_dsn(text: &str) -> Result<String, String> {
    match text.trim().parse::<Dsn>() {
        Ok(_) => Ok(text.trim().to_owned()),
        // Its reasons never quote the DSN.
        Err(error) => Err(format!("is no DSN ({error})")),
    }
}

fn trace_headers(text: &str) -> Result<String, String> {
    headers::parse(text).map(|_| text.to_owned())
}

fn mongodb_uri(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("mongodb://").or_else(|| text.strip_prefix("mongodb+srv://"));
    match rest {
        None => Err("has a wrong scheme".to_owned()),
        Some("") => Err("names no host".to_owned()),
        Some(_) => Ok(text.to_owned()),
    }
}

/// Accepts the database names that MongoDB allows
/// (<https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions>), except the three system databases, on
/// which no change stream can be opened.
fn database(text: &str) -> Result<String, String> {
    if matches!(text, "admin" | "local" | "config") {
        return Err("cannot be watched by a change stream".to_owned());
    }
    if text.len() > 63 {
        return Err("is longer than 63 bytes".to_owned());
    }
    if text.contains(['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0']) {
        return Err("has a character that no database name may have".to_owned());
    }
    Ok(text.to_owned())
}

fn email(text: &str) -> Result<String, String> {
    let bracketed = text.trim().strip_suffix('>').and_then(|text| text.split_once('<'));
    let address = bracketed.map_or(text, |(_, address)| address);
    let right = address
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if right && !address.contains(char::is_whitespace) {
        Ok(text.to_owned())
    } else {
        Err("is not an e-mail address".to_owned())
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    // The parser takes a word that is no level for the name of a module, and then silences everything else.
    let lone = |directive: &&str| !directive.is_empty() && !directive.contains(['=', '[']);
    for word in text.split(',').map(str::trim).filter(lone) {
        if word.parse::<LevelFilter>().is_err() {
            let near = nearest(&word.to_lowercase(), LEVELS.map(str::to_owned).into_iter());
            let advice = near.unwrap_or_else(|| format!("a module needs a level: `{word}=debug`"));
            return Err(format!("has `{word}`, which is no level; {advice}"));
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("cannot be parsed ({error})")),
    }
}

fn jobs_without_cron(checked: &Checked) -> Vec<ConfigFault> {
    let on = checked.iter().filter_map(|(path, accepted)| match accepted.value {
        CheckedValue::Boolean(true) => path.strip_suffix(".enabled").map(|job| (job, &accepted.origin)),
        _ => None,
    });
    on.filter_map(|(job, origin)| match checked.get(&format!("{job}.cron"))?.value {
        CheckedValue::List(ref crons) if crons.is_empty() => Some(ConfigFault {
            key: format!("{job}.enabled"),
            origin: Some(origin.clone()),
            reason: "the job is enabled but has no cron expression".to_owned(),
            allowed: Some(format!("set `{job}.cron`, or leave it off and run it by hand")),
        }),
        _ => None,
    })
    .collect()
}

/// The reminders whose window ends before it begins.
fn empty_windows(checked: &Checked) -> Vec<ConfigFault> {
    let ends = checked.iter().filter_map(|(path, accepted)| match accepted.value {
        CheckedValue::Duration(to) => path.strip_suffix(".window_to").map(|job| (job, to, &accepted.origin)),
        _ => None,
    });
    ends.filter_map(|(job, to, origin)| match checked.get(&format!("{job}.window_from"))?.value {
        CheckedValue::Duration(from) if from >= to => Some(ConfigFault {
            key: format!("{job}.window_to"),
            origin: Some(origin.clone()),
            reason: "the window of the reminder ends before it begins".to_owned(),
            allowed: Some(format!("allowed: a duration that is longer than `{job}.window_from`")),
        }),
        _ => None,
    })
    .collect()
}
