//! Attempts at one transaction, and the cause of its failure. A fault of one document fails that document alone. A
//! fault of the database fails the run.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Directive, Failure};
use crate::interruption::Unfinished;
use crate::model::dead_letter::Reason;
use crate::retry::Delays;
use crate::tasks::pause;

/// The number of attempts at one transaction, the first one included.
const ATTEMPTS: u32 = 8;
/// `MaxTimeMSExpired`, `ExceededTimeLimit`, `TransactionExceededLifetimeLimitSeconds`.
const TOO_SLOW: [i32; 3] = [50, 262, 290];
/// `WriteConflict`
const CONTENDED: i32 = 112;

/// The attempts at one transaction that are left, with growing delays of up to two seconds between them.
#[derive(Debug)]
pub(super) struct Attempts {
    delays: Delays,
    left: u32,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { delays: Delays::up_to(Duration::from_secs(2)), left: ATTEMPTS }
    }
}

impl Attempts {
    /// Waits before the next attempt.
    ///
    /// # Errors
    /// `cause`, where it is an interruption, where another attempt would not help, or where no attempt is left.
    pub(super) async fn wait_after(&mut self, cause: Unfinished, stop: &CancellationToken) -> Result<(), Unfinished> {
        self.left -= 1;
        if self.left == 0 || !cause.failure().is_some_and(is_passing) {
            return Err(cause);
        }
        pause(stop, self.delays.next_delay()).await;
        Ok(())
    }

    /// Decides about the next attempt at a transaction about one document, and waits before it. `can_shrink` is true
    /// where the transaction can be about fewer documents.
    ///
    /// # Errors
    /// `cause`, where it is an interruption, or a failure that is not about the document and does not pass.
    pub(super) async fn next(
        &mut self,
        cause: Unfinished,
        can_shrink: bool,
        stop: &CancellationToken,
    ) -> Result<NextAttempt, Unfinished> {
        match cause.failure().and_then(DocumentFault::of) {
            Some(DocumentFault::TooSlow) if can_shrink => Ok(NextAttempt::Smaller),
            Some(fault @ DocumentFault::Refused(_)) => Ok(NextAttempt::Failed(fault, cause)),
            Some(fault) => match self.wait_after(cause, stop).await {
                Ok(()) => Ok(NextAttempt::Same),
                Err(cause) => Ok(NextAttempt::Failed(fault, cause)),
            },
            None => self.wait_after(cause, stop).await.map(|()| NextAttempt::Same),
        }
    }
}

/// The next attempt at a transaction about one document.
pub(super) enum NextAttempt {
    /// The same transaction once more.
    Same,
    /// A transaction about fewer documents.
    Smaller,
    /// None: the document has failed alone.
    Failed(DocumentFault, Unfinished),
}

fn is_passing(failure: &Failure) -> bool {
    DocumentFault::of(failure).is_none_or(DocumentFault::passes) && failure.directive() == Directive::Retry
}

/// A failure that is the fault of a document, not of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentFault {
    /// The server refuses the change for good.
    Refused(Reason),
    /// The change takes longer than the lease allows.
    TooSlow,
    /// Another process writes the document at the same time.
    Contended,
}

impl DocumentFault {
    /// The fault behind a failure; `None` where the failure does not come from a document.
    pub(super) fn of(failure: &Failure) -> Option<Self> {
        let (code, is_statement) = match failure {
            Failure::Overdue => return Some(Self::TooSlow),
            Failure::Statement(code) => (*code, true),
            Failure::Write(error) | Failure::Read(error) => (crate::error::command_code(error)?, false),
            _ => return None,
        };
        match code {
            CONTENDED => Some(Self::Contended),
            code if TOO_SLOW.contains(&code) => Some(Self::TooSlow),
            // A whole command that is refused for an unknown reason may be refused for every document.
            code => crate::error::refusal(code)
                .filter(|reason| is_statement || *reason != Reason::RefusedByServer)
                .map(Self::Refused),
        }
    }

    /// True where another attempt may help.
    pub(super) fn passes(self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// The label of the fault in the report.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Refused(reason) => reason.as_str(),
            Self::TooSlow => "too_slow",
            Self::Contended => "written_by_others",
        }
    }
}
