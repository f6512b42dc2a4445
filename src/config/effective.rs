//! Masks the values of keys for `config show` and for faults. Only this file decides which part of a secret is shown:
//! nothing, or, for the connection string of MongoDB, the string without its credentials.

use serde::Serialize;

use super::key::{ConfigKey, Section, ValueKind, written};
use super::layers::Raw;
use super::values::{Checked, CheckedValue};

const MASK: &str = "***";

/// One key of the effective configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The path of the key, such as `stream.batch_max`.
    pub key: String,
    /// The value, masked when the key is a secret; null when the key has no value.
    pub value: serde_json::Value,
    /// The origin of the value as text, such as `default`; `not set` when the key has no value.
    pub source: String,
}

/// All keys in the order of the table.
pub(super) fn list(checked: &Checked, sections: &[Section]) -> Vec<Effective> {
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

/// The form in which a valid value may be shown. A duration stays as it was written.
pub(super) fn shown(key: &ConfigKey, raw: &Raw, value: &CheckedValue) -> serde_json::Value {
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

/// The reason of a fault with the faulty value before it; without the value when the key is a secret. A secret may
/// stand under the wrong key, so credentials in a URL are masked under any key.
pub(super) fn with_value(key: &ConfigKey, raw: &Raw, reason: &str) -> String {
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

/// A URI in which `***` replaces the user info and the values of options that carry secrets. Hosts that may contain a
/// secret are masked too.
pub(super) fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // The last `@` ends the password, even when the password has an unescaped `@`, `/` or `?`.
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
        let is_of_mongodb = scheme.starts_with("mongodb");
        let options: Vec<String> =
            query.split('&').map(|option| without_secret_option(option, is_of_mongodb)).collect();
        format!("?{}", options.join("&"))
    });
    format!("{scheme}://{user}{address}{query}")
}

/// True for a host with or without a numeric port. `user:password` without a host looks like a host whose port is no
/// number, so it is not a host.
fn is_host(host: &str) -> bool {
    match host.rsplit_once(':') {
        Some((name, port)) if name.ends_with(']') || !name.contains(':') => {
            port.bytes().all(|byte| byte.is_ascii_digit())
        }
        Some(_) => host.starts_with('[') && host.ends_with(']'),
        None => true,
    }
}

/// Masks the value of an option that carries a secret, such as `tlsCertificateKeyFilePassword`, `proxyPassword` or
/// `authMechanismProperties`. Other addresses name their secrets as they like, so there every value is masked that is
/// no placeholder.
fn without_secret_option(option: &str, is_of_mongodb: bool) -> String {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let lower = name.to_lowercase();
    let is_placeholder = value.is_empty() || value.starts_with('{') && value.ends_with('}');
    let names_secret = || ["password", "properties", "token", "secret"].iter().any(|word| lower.contains(word));
    let is_secret = if is_of_mongodb { names_secret() } else { !is_placeholder };
    if is_secret { format!("{name}={MASK}") } else { option.to_owned() }
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
            ("https://host/cancel?key=linksecret&token={token}", "https://host/cancel?key=***&token={token}"),
            (
                "mongodb+srv://a:b@host/?authMechanismProperties=AWS_SESSION_TOKEN:x",
                "mongodb+srv://***@host/?authMechanismProperties=***",
            ),
        ] {
            assert_eq!(without_credentials(uri), expected);
        }
    }
}
