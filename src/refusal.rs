//! How a command ends: its exit code, and why it could not be done.

use std::process::ExitCode;

use crate::error::Failure;

/// How a command ended (spec 06).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It found something, or refused.
    Findings = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// MongoDB cannot be reached or cannot be used.
    Database = 3,
    /// Interrupted before it was done.
    Interrupted = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not be done, in a sentence with what to do, and how the process ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The exit code.
    pub exit: Exit,
    /// What failed, on what, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The process's end.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        self.exit.into()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(Exit::Database, format!("{failure}; {}", failure.advice()))
    }
}
