//! What the ticker can be asked to do: a job, or what is only ever done by hand.

use bson::oid::ObjectId;

use super::job::TimedJob;
use super::job_context::JobContext;
use super::jobs::{anonymize_user, obfuscate};
use crate::error::Failure;
use crate::maintenance::queue::Command;
use crate::phase::Phase;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOrder {
    /// A job.
    Job(TimedJob),
    /// The anonymisation of one user (4.12).
    AnonymizeUser(ObjectId),
    /// Fake values in place of what is personal (4.11).
    Obfuscate,
}

impl JobOrder {
    /// What an order asks for, or why it cannot be done.
    pub fn of(order: &Command) -> Result<Self, String> {
        match order {
            Command::RunJob { job, .. } => match TimedJob::named(job) {
                Some(job) => Ok(Self::Job(job)),
                None => Err(format!("the instance that leads knows no job `{job}`: it may be of another version")),
            },
            Command::AnonymizeUser { user } => Ok(Self::AnonymizeUser(*user)),
            Command::Obfuscate => Ok(Self::Obfuscate),
            Command::Backfill { .. }
            | Command::Repair
            | Command::Replay(_)
            | Command::RetryDeadLetters { .. }
            | Command::DropDeadLetters { .. }
            | Command::SetPhase { .. } => Err("not an order for the ticker".to_owned()),
        }
    }

    /// Its name in the history and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Job(job) => job.name(),
            Self::AnonymizeUser(_) => "anonymize-user",
            Self::Obfuscate => "obfuscate",
        }
    }

    /// Whether it has anything to do in this phase.
    pub fn applies_in(self, phase: Phase) -> bool {
        match self {
            Self::Job(job) => job.applies_in(phase),
            Self::AnonymizeUser(_) | Self::Obfuscate => true,
        }
    }

    /// Does it, see [`super::jobs::run`].
    pub async fn run(self, work: &mut JobContext) -> Result<(), Failure> {
        match self {
            Self::Job(job) => super::jobs::run(job, work).await,
            Self::AnonymizeUser(user) => Box::pin(anonymize_user::run(work, user)).await,
            Self::Obfuscate => Box::pin(obfuscate::run(work)).await,
        }
    }
}
