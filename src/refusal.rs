//! The end of a command: its exit code, and the message of a command that could not be done.

use std::process::ExitCode;

use resume_tokens::StoreError;

use crate::error::{Directive, Failure};
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
        let advice = unfinished.failure().map_or(AGAIN, command_advice);
        Self::new(Exit::Database, format!("{unfinished}; {advice}"))
    }
}

const AGAIN: &str = "give the command again";

/// The advice about a command that a failure ended. The service repeats by itself what failed, and such a command does not.
pub(crate) fn command_advice(failure: &Failure) -> &'static str {
    match (failure, failure.directive()) {
        (Failure::OwnDocument { .. } | Failure::Store(StoreError::Io { .. }), _) => failure.advice(),
        (_, Directive::Retry | Directive::Reopen) => AGAIN,
        (_, Directive::RetryUnready) => {
            "check the privileges and credentials of the MongoDB user, and give the command again"
        }
        (_, Directive::PassOver) => {
            "give the command again; if the failure stays, look up its code in MongoDB's manual"
        }
        (_, Directive::Resync | Directive::Stop) => failure.advice(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interruption::Interruption;

    #[test]
    fn a_command_that_ended_says_to_give_it_again_and_not_that_it_goes_on() {
        let ended: [Unfinished; 5] = [
            Failure::Overdue.into(),
            Failure::Stalled.into(),
            Failure::Reply("cursor").into(),
            Interruption::PhaseChanged.into(),
            Interruption::LeaseLost.into(),
        ];
        for unfinished in ended {
            let said = Refusal::from(unfinished).message;
            assert!(said.contains("give the command again") && !said.contains("nothing to do"), "{said}");
        }
    }
}
