//! The commands that the ticker carries out: a time-based job, and the two commands that run only by hand.

use super::job::TimedJob;
use super::job_context::JobContext;
use super::jobs::{anonymize_user, obfuscate};
use crate::interruption::Unfinished;
use crate::maintenance::stored_commands::Command;
use crate::model::TargetSchema;
use crate::model::ids::UserId;
use crate::observe::labels::LabelValue;
use crate::phase::Phase;

/// One run for the ticker to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobOrder {
    /// A time-based job, by its schedule or by hand.
    Job(TimedJob),
    /// The anonymisation of the user with this `_id` (4.12).
    AnonymizeUser(UserId),
    /// The replacement of personal values in our offers by fake ones (4.11).
    Obfuscate,
}

const ANONYMIZE_USER: &str = "anonymize-user";
const OBFUSCATE: &str = "obfuscate";

impl JobOrder {
    /// The names of the runs that only a command asks for.
    pub(crate) const BY_HAND: [&str; 2] = [ANONYMIZE_USER, OBFUSCATE];

    /// The run that a command asks for. The error is a sentence for the operator: this version does not know the job,
    /// or the command is for the pipeline.
    pub(crate) fn of(command: &Command) -> Result<Self, String> {
        match command {
            Command::RunJob { job, .. } => match TimedJob::named(job) {
                Some(job) => Ok(Self::Job(job)),
                None => Err(format!("the leader knows no job `{job}`: it may have another version")),
            },
            Command::AnonymizeUser { user } => Ok(Self::AnonymizeUser(*user)),
            Command::Obfuscate => Ok(Self::Obfuscate),
            Command::Backfill { .. }
            | Command::BackfillSelected { .. }
            | Command::BackfillMirror
            | Command::Repair
            | Command::Resync { .. }
            | Command::Replay(_)
            | Command::RetryDeadLetters { .. }
            | Command::DropDeadLetters { .. }
            | Command::SetPhase { .. }
            | Command::Pause { .. }
            | Command::Resume { .. }
            | Command::Stepdown { .. }
            | Command::Throttle { .. } => Err("not a command for the ticker".to_owned()),
        }
    }

    /// The name in the ledger and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Job(job) => job.name(),
            Self::AnonymizeUser(_) => ANONYMIZE_USER,
            Self::Obfuscate => OBFUSCATE,
        }
    }

    /// True where the run has work to do in this phase; the commands by hand apply in every phase.
    pub(crate) fn applies_in(self, phase: Phase) -> bool {
        match self {
            Self::Job(job) => job.applies_in(phase),
            Self::AnonymizeUser(_) | Self::Obfuscate => true,
        }
    }

    /// The sentence that says which field the run lacks, because the target's schema omits it; `None` where none lacks.
    pub(crate) fn lacks(self, schema: &TargetSchema) -> Option<String> {
        let Self::Job(job) = self else { return None };
        let field = job.needs().iter().find(|field| schema.omits(field))?;
        Some(format!("field {field} is not in the target's schema"))
    }

    /// Makes the run; see [`crate::ticker::jobs::run`].
    pub(crate) async fn run(self, job: &mut JobContext) -> Result<(), Unfinished> {
        match self {
            Self::Job(timed_job) => crate::ticker::jobs::run(timed_job, job).await,
            Self::AnonymizeUser(user) => Box::pin(anonymize_user::run(job, user)).await,
            Self::Obfuscate => Box::pin(obfuscate::run(job)).await,
        }
    }
}

impl LabelValue for JobOrder {
    fn label(self) -> &'static str {
        self.name()
    }
}
