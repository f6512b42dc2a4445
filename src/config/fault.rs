//! What can be wrong with a configuration, and where a value came from. A fault names the key, the
//! origin, the reason and what is allowed. It must never hold the value of a secret.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default of the table of keys.
    Default,
    /// A line of the TOML file given by `--config`.
    File {
        /// The path as given.
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

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The key's path, such as `stream.batch_max`; for a file that cannot be read, `--config`.
    pub key: String,
    /// Where the value came from; `None` when nothing was given.
    pub origin: Option<Origin>,
    /// What is wrong, without the value of a secret.
    pub reason: String,
    /// What would be right, where that can be said.
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

/// Everything that is wrong with a configuration; never empty when it is returned as an error.
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
