//! The ends of work that are no failures: the process stops, the phase changed, or the lease is lost.
//! Everything that can end so returns [`Unfinished`]. Its caller decides about the interruption first, and asks only a
//! [`Failure`] for its directive.

use std::time::Duration;

use resume_tokens::StoreError;

use crate::error::Failure;

/// The reason why work ended before it was done, although nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interruption {
    /// The process must end, and the batch or run was not done in time. It is done again at the next start.
    #[error("the process is stopping; unfinished work is done again at the next start")]
    Stopping,
    /// The phase changed during a batch or a run. The work is done again in the new phase.
    #[error("the phase was changed; unfinished work is done again in the new phase")]
    PhaseChanged,
    /// An operator paused the service. Unfinished work is done again after the pause.
    #[error("an operator paused the service; unfinished work is done again after the pause")]
    Paused,
    /// An operator told the leader to give the lease back, and not to ask for it for this time.
    #[error("an operator told the leader to step down; the next leader does unfinished work again")]
    SteppedDown(Duration),
    /// Another instance took the lease, or the lease ran out. This process may not write any more.
    #[error("the lease was lost")]
    LeaseLost,
}

/// The reason why work is not done: a failure, or an interruption.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// A read, a write or the stream failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Nothing failed, but the work may not go on.
    #[error(transparent)]
    Interrupted(#[from] Interruption),
}

impl From<StoreError> for Unfinished {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Interruption {
    /// Returns one sentence for the operator, as [`Failure::advice`] does.
    #[must_use]
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Stopping => "read the log before this line, then restart the service",
            Self::PhaseChanged => "nothing to do: this is retried until it succeeds",
            Self::Paused => "run `stream-processor resume --reason TEXT` to end the pause",
            Self::SteppedDown(_) => "nothing to do: this instance asks for the lease again after that time",
            Self::LeaseLost => "nothing to do: this instance stands by, and asks for the lease again",
        }
    }
}

impl Unfinished {
    /// Returns the failure; `None` for an interruption.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Interrupted(_) => None,
        }
    }

    /// Returns one sentence for the operator: the advice of the failure or of the interruption.
    #[must_use]
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.advice(),
            Self::Interrupted(interruption) => interruption.advice(),
        }
    }

    /// Returns a label for metrics: the code of the failure, or a name for the interruption.
    #[must_use]
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Failed(failure) => failure.code(),
            Self::Interrupted(Interruption::Stopping) => "interrupted".to_owned(),
            Self::Interrupted(Interruption::PhaseChanged) => "phase".to_owned(),
            Self::Interrupted(Interruption::Paused) => "paused".to_owned(),
            Self::Interrupted(Interruption::SteppedDown(_)) => "stepdown".to_owned(),
            Self::Interrupted(Interruption::LeaseLost) => "lease".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_has_a_label_and_no_failure() {
        let label = |interruption: Interruption| Unfinished::from(interruption).code();
        assert_eq!(label(Interruption::Stopping), "interrupted");
        assert_eq!(label(Interruption::PhaseChanged), "phase");
        assert_eq!(label(Interruption::LeaseLost), "lease");
        assert!(Unfinished::from(Interruption::LeaseLost).failure().is_none());
        assert_eq!(Unfinished::from(Failure::Stalled).code(), "stalled");
    }
}
