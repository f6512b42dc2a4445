//! Values that were checked against the table of keys, and typed access to them for the settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::choices::Choice;
use super::fault::{ConfigFault, Origin};

/// A value that fits the kind of its key.
#[derive(Debug)]
pub(super) enum CheckedValue {
    Text(String),
    Secret(SecretString),
    Boolean(bool),
    Count(u64),
    Duration(Duration),
    Address(SocketAddr),
    List(Vec<String>),
}

/// A valid value with its origin.
#[derive(Debug)]
pub(super) struct Accepted {
    pub value: CheckedValue,
    /// The value for `config show`, masked when the key is a secret.
    pub shown: serde_json::Value,
    pub origin: Origin,
}

/// All values by the path of the key. A key without a value has no entry.
pub(super) type Checked = BTreeMap<String, Accepted>;

/// Typed access to the values. A value of another type than the setting has is a bug in the table of keys; each method
/// returns a fault then.
pub(super) struct Values<'a>(pub(super) &'a Checked);

impl<'a> Values<'a> {
    pub(super) fn get(&self, path: &str) -> Option<&'a CheckedValue> {
        self.0.get(path).map(|accepted| &accepted.value)
    }

    pub(super) fn optional_text(&self, path: &str) -> Result<Option<String>, ConfigFault> {
        match self.get(path) {
            Some(CheckedValue::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(disagreement(path)),
            None => Ok(None),
        }
    }

    pub(super) fn text(&self, path: &str) -> Result<String, ConfigFault> {
        self.optional_text(path)?.ok_or_else(|| disagreement(path))
    }

    pub(super) fn path(&self, path: &str) -> Result<PathBuf, ConfigFault> {
        self.text(path).map(PathBuf::from)
    }

    pub(super) fn choice<T: Choice>(&self, path: &str) -> Result<T, ConfigFault> {
        T::from_word(&self.text(path)?).ok_or_else(|| disagreement(path))
    }

    pub(super) fn secret(&self, path: &str) -> Result<Option<SecretString>, ConfigFault> {
        match self.get(path) {
            Some(CheckedValue::Secret(secret)) => Ok(Some(secret.clone())),
            Some(_) => Err(disagreement(path)),
            None => Ok(None),
        }
    }

    pub(super) fn boolean(&self, path: &str) -> Result<bool, ConfigFault> {
        match self.get(path) {
            Some(CheckedValue::Boolean(value)) => Ok(*value),
            _ => Err(disagreement(path)),
        }
    }

    pub(super) fn count(&self, path: &str) -> Result<usize, ConfigFault> {
        match self.get(path) {
            Some(CheckedValue::Count(value)) => usize::try_from(*value).map_err(|_| disagreement(path)),
            _ => Err(disagreement(path)),
        }
    }

    pub(super) fn duration(&self, path: &str) -> Result<Duration, ConfigFault> {
        match self.get(path) {
            Some(CheckedValue::Duration(value)) => Ok(*value),
            _ => Err(disagreement(path)),
        }
    }

    pub(super) fn address(&self, path: &str) -> Result<SocketAddr, ConfigFault> {
        match self.get(path) {
            Some(CheckedValue::Address(value)) => Ok(*value),
            _ => Err(disagreement(path)),
        }
    }

    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, ConfigFault> {
        match self.get(path) {
            Some(CheckedValue::List(items)) => Ok(items.clone()),
            _ => Err(disagreement(path)),
        }
    }
}

pub(super) fn disagreement(path: &str) -> ConfigFault {
    ConfigFault {
        key: path.to_owned(),
        origin: None,
        reason: "the table of keys and the settings disagree on it: this is a bug".to_owned(),
        allowed: None,
    }
}
