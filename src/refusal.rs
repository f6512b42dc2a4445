//! The end of a command: its exit code, and the message of a command that could not be done.

use std::process::ExitCode;

use crate::error::Failure;
use crate::interruption::Unfinished;

/// The exit code of a command (spec 06).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command was done.
    Done = 0,
    /// The command found something, or was refused.
    Findings = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// MongoDB cannot be reached or cannot be used.
    Database = 3,
    /// The command was interrupted before it was done.
    Interrupted = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The reason why a command could not be done, for the user, with the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub exit: Exit,
    /// One sentence that says what failed, on what, and what to do.
    pub message: String,
}

impl Refusal {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    #[must_use]
    pub fn code(&self) -> ExitCode {
        self.exit.into()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Unfinished::from(failure).into()
    }
}

impl From<Unfinished> for Refusal {
    fn from(unfinished: Unfinished) -> Self {
        Self::new(Exit::Database, format!("{unfinished}; {}", unfinished.advice()))
    }
}
