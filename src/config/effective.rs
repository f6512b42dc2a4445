//! How values are shown, in `config show` and in faults. The only place that decides what of a secret
//! may be seen: nothing, except a connection string without its credentials.

use serde::Serialize;

use super::key::{ConfigKey, Section, ValueKind, written};
use super::layers::Raw;
use super::values::{Checked, CheckedValue};

const MASK: &str = "***";

/// One key of the effective configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The key's path.
    pub key: String,
    /// The value, masked if it is a secret; null when it is not set.
    pub value: serde_json::Value,
    /// Where it came from.
    pub source: String,
}

/// All keys in the order of the table.
pub fn list(checked: &Checked, sections: &[Section]) -> Vec<Effective> {
    let keys = sections.iter().flat_map(|section| &section.keys);
    keys.map(|key| {
        let accepted = checked.get(&key.path);
        Effective {
            key: key.path.clone(),
            value: accepted.map_or(serde_json::Value::Null, |accepted| accepted.shown.clone()),
            source: accepted.map_or_else(|| "not set".to_owned(), |accepted| accepted.origin.to_string()),
        }
    })
    .collect()
}

/// A value that fits its key, as it may be shown. Durations stay as they were written.
pub fn shown(key: &ConfigKey, raw: &Raw, value: &CheckedValue) -> serde_json::Value {
    match (value, raw) {
        (CheckedValue::Text(text), _) if key.kind == ValueKind::MongodbUri => without_credentials(text).into(),
        _ if key.secret => MASK.into(),
        (CheckedValue::Boolean(value), _) => (*value).into(),
        (CheckedValue::Count(value), _) => (*value).into(),
        (CheckedValue::Address(value), _) => value.to_string().into(),
        (CheckedValue::List(items), _) => items.clone().into(),
        (CheckedValue::Text(text), _) => without_credentials(text).into(),
        (CheckedValue::Duration(_), Raw::Word(text) | Raw::Text(text)) => text.trim().into(),
        (CheckedValue::Duration(value), _) => written(*value).into(),
        (CheckedValue::Secret(_), _) => MASK.into(),
    }
}

/// A reason with the faulty value before it, unless the key is a secret. A secret may have been put
/// under the wrong key, so what looks like credentials in a URL is masked under any key.
pub fn with_value(key: &ConfigKey, raw: &Raw, reason: &str) -> String {
    if key.secret {
        return reason.to_owned();
    }
    match raw {
        Raw::Word(text) | Raw::Text(text) if !text.trim().is_empty() => {
            format!("`{}` {reason}", without_credentials(text))
        }
        Raw::Integer(number) => format!("`{number}` {reason}"),
        Raw::Boolean(value) => format!("`{value}` {reason}"),
        Raw::Word(_) | Raw::Text(_) | Raw::List(_) | Raw::Other(_) => reason.to_owned(),
    }
}

/// A URI with its user info, and the options that carry secrets, replaced by `***`. What cannot be
/// told apart for sure is masked too.
pub fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // A password with an unescaped `@`, `/` or `?` still ends before the last `@`.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let (address, query) = match rest.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (rest, None),
    };
    let hosts = address.split_once('/').map_or(address, |(hosts, _)| hosts);
    let address = if hosts.split(',').all(is_host) { address } else { MASK };
    let query = query.map_or_else(String::new, |query| {
        let options: Vec<String> = query.split('&').map(without_secret_option).collect();
        format!("?{}", options.join("&"))
    });
    format!("{scheme}://{user}{address}{query}")
}

/// `user:password` where somebody forgot the host looks like a host whose port is no number.
fn is_host(host: &str) -> bool {
    match host.rsplit_once(':') {
        Some((name, port)) if name.ends_with(']') || !name.contains(':') => {
            port.bytes().all(|byte| byte.is_ascii_digit())
        }
        Some(_) => host.starts_with('[') && host.ends_with(']'),
        None => true,
    }
}

/// Such as `tlsCertificateKeyFilePassword`, `proxyPassword`, `authMechanismProperties`.
fn without_secret_option(option: &str) -> String {
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    let lower = name.to_lowercase();
    if ["password", "properties", "token", "secret"].iter().any(|word| lower.contains(word)) {
        format!("{name}={MASK}")
    } else {
        option.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_in_a_connection_string_is_masked() {
        for (uri, expected) in [
            ("mongodb://127.0.0.1:27017/?directConnection=true", "mongodb://127.0.0.1:27017/?directConnection=true"),
            ("mongodb://[::1]:27017,[::2]/db", "mongodb://[::1]:27017,[::2]/db"),
            ("mongodb://a:p@ss@host/db", "mongodb://***@host/db"),
            ("mongodb://a:p/?w@host/db", "mongodb://***@host/db"),
            ("mongodb://a:secret", "mongodb://***"),
            (
                "mongodb+srv://a:b@host/?authMechanismProperties=AWS_SESSION_TOKEN:x",
                "mongodb+srv://***@host/?authMechanismProperties=***",
            ),
        ] {
            assert_eq!(without_credentials(uri), expected);
        }
    }
}
