//! Faults of a configuration, and the origins of values. A fault names the key, the origin, the reason and the allowed
//! values. A fault must never hold the value of a secret.

use std::fmt;
use std::path::PathBuf;

/// The origin of a value: its layer and its place in the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default of the table of keys.
    Default,
    /// A line of the TOML file given by `--config`.
    File {
        /// The path as given on the command line.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A flag of the command line, by name.
    Flag(&'static str),
    /// The content of a file that a `*_file` key names.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(out, "default"),
            Self::File { path, line } => write!(out, "file {}, line {line}", path.display()),
            Self::Environment(name) => write!(out, "environment {name}"),
            Self::Flag(name) => write!(out, "flag {name}"),
            Self::SecretFile(path) => write!(out, "content of {}", path.display()),
        }
    }
}

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The path of the key, such as `stream.batch_max`; `--config` for a file that cannot be read, `TOML` for a file
    /// that cannot be parsed, the flag for a flag that sets no key.
    pub key: String,
    /// The origin of the value; `None` when no layer gave a value.
    pub origin: Option<Origin>,
    /// The reason, without the value of a secret.
    pub reason: String,
    /// The allowed values or the remedy; `None` when there is nothing to say.
    pub allowed: Option<String>,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (", self.key)?;
        match &self.origin {
            Some(origin) => write!(out, "{origin}")?,
            None => write!(out, "not set")?,
        }
        write!(out, "): {}", self.reason)?;
        match &self.allowed {
            Some(allowed) => write!(out, "; {allowed}"),
            None => Ok(()),
        }
    }
}

/// All faults of a configuration. The list is never empty when it is returned as an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(out, "1 fault in the configuration")?,
            count => write!(out, "{count} faults in the configuration")?,
        }
        for fault in &self.0 {
            write!(out, "\n  - {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}
