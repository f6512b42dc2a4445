//! The words of the verdict: its states and its severities. Pure.

use serde::Serialize;

/// The state of the service, as far as one instance or command sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VerdictState {
    /// The instance has no answer about the lease, or about the service that it leads, yet.
    Starting,
    /// MongoDB does not answer.
    NoDatabase,
    /// The position of the stream is lost, and the service waits for a person.
    Halted,
    /// An operator paused the service.
    Paused,
    /// `/readyz` gives reasons why the instance is not ready.
    NotReady,
    /// The leader applies events that are older than 5 s.
    CatchingUp,
    /// The instance is ready, but a part of it fails and is retried, or the database does not answer the survey.
    Retrying,
    /// No instance leads.
    NoLeader,
    /// The leader, or its stream, has given no sign when one was due. Only a command says so.
    LeaderSilent,
    /// A resync runs or waits, or a span of the stream was not read and is not repaired yet.
    Resyncing,
    /// The server is under pressure, so the work beside the stream is slowed.
    Slowed,
    /// The last full verification found differences in a phase in which there must be none.
    Differs,
    /// Dead letters wait for a correction of their documents.
    WaitingForCorrections,
    /// The phase is `shadow`: the stream compares, and applications write the offers.
    Shadow,
    /// The phase is `retired`: the stream of `recruiters` is closed.
    Retired,
    /// Another instance leads, and nothing is wrong.
    StandingBy,
    /// The instance leads, is up to date, and knows of no damage.
    InStep,
}

impl VerdictState {
    pub(crate) const ALL: [Self; 17] = [
        Self::Starting,
        Self::NoDatabase,
        Self::Halted,
        Self::Paused,
        Self::NotReady,
        Self::CatchingUp,
        Self::Retrying,
        Self::NoLeader,
        Self::LeaderSilent,
        Self::Resyncing,
        Self::Slowed,
        Self::Differs,
        Self::WaitingForCorrections,
        Self::Shadow,
        Self::Retired,
        Self::StandingBy,
        Self::InStep,
    ];

    /// The word in JSON, in the metric and in the log.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NoDatabase => "no_database",
            Self::Halted => "halted",
            Self::Paused => "paused",
            Self::NotReady => "not_ready",
            Self::CatchingUp => "catching_up",
            Self::Retrying => "retrying",
            Self::NoLeader => "no_leader",
            Self::LeaderSilent => "leader_silent",
            Self::Resyncing => "resyncing",
            Self::Slowed => "slowed",
            Self::Differs => "differs",
            Self::WaitingForCorrections => "waiting_for_corrections",
            Self::Shadow => "shadow",
            Self::Retired => "retired",
            Self::StandingBy => "standing_by",
            Self::InStep => "in_step",
        }
    }

    /// The headline of the page and of `status`.
    #[must_use]
    pub(crate) fn headline(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::NoDatabase => "No database",
            Self::Halted => "Halted",
            Self::Paused => "Paused",
            Self::NotReady => "Not ready",
            Self::CatchingUp => "Catching up",
            Self::Retrying => "Retrying",
            Self::NoLeader => "No leader",
            Self::LeaderSilent => "Leader silent",
            Self::Resyncing => "Resyncing",
            Self::Slowed => "Slowed",
            Self::Differs => "Differs",
            Self::WaitingForCorrections => "Waiting for corrections",
            Self::Shadow => "Shadow",
            Self::Retired => "Retired",
            Self::StandingBy => "Standing by",
            Self::InStep => "In step",
        }
    }

    /// The section of the runbook about the state; `None` where there is nothing to do.
    #[must_use]
    pub(crate) fn runbook(self) -> Option<&'static str> {
        Some(match self {
            Self::NoDatabase | Self::Halted | Self::NotReady | Self::Retrying => "StreamProcessorNotReady",
            Self::Paused => "StreamProcessorPaused",
            Self::CatchingUp => "StreamProcessorLag",
            Self::NoLeader | Self::LeaderSilent => "StreamProcessorNoLeader",
            Self::Resyncing => "StreamProcessorResyncHappened",
            Self::Slowed => "StreamProcessorSlowed",
            Self::Differs => "StreamProcessorDivergence",
            Self::WaitingForCorrections => "StreamProcessorDeadLetters",
            Self::Retired => "StreamProcessorLateSourceWrites",
            Self::Starting | Self::Shadow | Self::StandingBy | Self::InStep => return None,
        })
    }

    /// The state as a sentence. It has no numbers, because a screen reader reads it aloud whenever it changes.
    #[must_use]
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Starting => "This instance does not know the state of the service yet.",
            Self::NoDatabase => "MongoDB does not answer. Nothing is lost: the service goes on when it answers again.",
            Self::Halted => "The position of the stream is lost. An operator must decide.",
            Self::Paused => "An operator paused the service. Nothing is lost: changes wait in the oplog.",
            Self::NotReady => "This instance is not ready. The reasons are below.",
            Self::CatchingUp => "The leader applies older events. Nothing is lost.",
            Self::Retrying => "Something fails and is retried. Nothing is lost.",
            Self::NoLeader => "No instance leads, so no event is applied.",
            Self::LeaderSilent => "The leader or its stream gives no sign. What it has applied is not known.",
            Self::Resyncing => "Offers may be old until a resync has ended. The stream goes on beside it.",
            Self::Slowed => "The server is under pressure, so work beside the stream is slowed. Nothing is lost.",
            Self::Differs => "The last full verification found offers that differ from their jobs.",
            Self::WaitingForCorrections => "Some documents cannot be projected or written. A person must correct them.",
            Self::Shadow => "Applications write the offers. The stream compares them with the recruiters.",
            Self::Retired => "The stream of recruiters is closed. The time-based jobs go on.",
            Self::StandingBy => "This instance waits for the lease. It leads when no other instance does.",
            Self::InStep => "At its last sign, the leader had applied every event, and no damage is known.",
        }
    }
}

/// The seriousness of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Nothing to do.
    Ok,
    /// A person should look in working hours.
    Warn,
    /// A person must look now.
    Bad,
}

impl Severity {
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}
