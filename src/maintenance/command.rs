//! The commands that the leader carries out, as they are stored, and the part of a leadership that each belongs to.

use std::time::Duration;

use bson::{DateTime, Document, Timestamp, doc};
use serde::{Deserialize, Serialize};

use crate::model::ids::{RecruiterId, UserId};

/// Reads the limit of a pause: from a second to 30 days.
#[must_use]
pub(crate) fn pause_limit(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|limit| (1..=30 * 86_400).contains(&limit.as_secs()))
}

/// The greatest length of a reason, in characters.
const LONGEST_REASON: usize = 500;

/// Reads the reason of an operator.
///
/// # Errors
/// A text that says what a reason is.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    one_line(text, LONGEST_REASON)
        .ok_or_else(|| format!("not a reason: one line of {LONGEST_REASON} characters at most, and not blank"))
}

/// Reads a text that stands in lines of `status` and of lists, where a line break would forge a line. `None` for a text that
/// is blank, longer than `longest` characters, or has control characters.
pub(crate) fn one_line(text: &str, longest: usize) -> Option<String> {
    let text = text.trim_matches(' ');
    let breaks = |sign: char| sign.is_control() || matches!(sign, '\u{2028}' | '\u{2029}');
    let is_one = !text.trim().is_empty() && text.chars().count() <= longest && !text.chars().any(breaks);
    is_one.then(|| text.to_owned())
}

/// A command that an operator, or the ticker, gives to the leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Command {
    /// Touches recruiters.
    Backfill {
        /// The only recruiter to touch; `None` for all.
        recruiter: Option<RecruiterId>,
        /// True to touch active recruiters only.
        active_only: bool,
    },
    /// Touches selected recruiters. An older leader puts the command aside, and does not touch others.
    BackfillSelected {
        /// The filter, as extended JSON: a stored document has no fields with names of operators.
        filter: String,
        /// True to touch active recruiters only.
        active_only: bool,
    },
    /// Touches our offers for the mirror.
    BackfillMirror,
    /// Runs a resync, for `verify --repair`.
    Repair,
    /// Runs a resync, because an operator wants it.
    Resync {
        /// The operator's reason, for the record.
        reason: String,
    },
    /// Touches everything that changed in a span of time.
    Replay(Span),
    /// Retries dead letters.
    RetryDeadLetters {
        /// Limits the retry to the dead letters with these `_id`s; empty for all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ids: Vec<String>,
        /// Limits the retry to dead letters that are due at this time; `None` for all.
        #[serde(default)]
        due_at: Option<DateTime>,
    },
    /// Drops dead letters without a retry.
    DropDeadLetters {
        /// The `_id`s of the dead letters.
        ids: Vec<String>,
        /// The operator's reason; `None` in commands of 1.0.0.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Goes to another phase.
    SetPhase {
        /// The word of the phase, as in the configuration.
        to: String,
        /// True to override unmet conditions.
        force: bool,
        /// The operator's reason, which is stored with the step.
        reason: Option<String>,
    },
    /// Runs a time-based job now.
    RunJob {
        /// The name of the job.
        job: String,
        /// The time that the job takes for now; `None` for the time of the run.
        now: Option<DateTime>,
    },
    /// Anonymises one user.
    AnonymizeUser {
        /// The `_id` of the user.
        user: UserId,
    },
    /// Replaces personal values in our offers by fake ones.
    Obfuscate,
    /// Pauses the service.
    Pause {
        /// The operator's reason, which is stored with the pause.
        reason: String,
        /// The time after which an alert fires, in seconds.
        limit_seconds: i64,
    },
    /// Ends the pause.
    Resume {
        /// The operator's reason, for the record.
        reason: String,
    },
    /// Gives the lease back, so that a standby leads.
    Stepdown {
        /// The time for which the leader does not ask for the lease again, in seconds.
        seconds: i64,
    },
    /// Orders a ceiling of writes.
    Throttle {
        /// The most writes in a second; `None` lets the configuration decide.
        max_writes_per_second: Option<u32>,
        /// The operator's reason, which is stored with the order.
        reason: String,
    },
}

/// The part of a leadership that carries a command out. Each part carries out one command at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The pipeline, between its batches.
    Pipeline,
    /// The ticker, between the runs of its jobs.
    Ticker,
    /// The control, beside whatever the leader does.
    Control,
}

/// The stored names of the commands in the ticker's lane.
const OF_TICKER: [&str; 3] = ["run-job", "anonymize-user", "obfuscate"];
/// The stored names of the commands in the lane of the control.
const OF_CONTROL: [&str; 4] = ["pause", "resume", "stepdown", "throttle"];

impl Lane {
    /// Makes the condition on the stored name of a command that says whether the command is in this lane.
    #[must_use]
    pub(super) fn names(self) -> Document {
        match self {
            Self::Ticker => doc! { "$in": OF_TICKER.to_vec() },
            Self::Control => doc! { "$in": OF_CONTROL.to_vec() },
            // Commands with unknown names belong to the pipeline, which puts them aside.
            Self::Pipeline => {
                let others = [OF_TICKER.as_slice(), OF_CONTROL.as_slice()].concat();
                doc! { "$nin": others }
            }
        }
    }
}

impl Command {
    /// The word of the command for the log. Reasons and names of people stay out of it: they are stored with the command.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Backfill { .. } => "backfill",
            Self::BackfillSelected { .. } => "backfill-selected",
            Self::BackfillMirror => "backfill-mirror",
            Self::Repair => "repair",
            Self::Resync { .. } => "resync",
            Self::Replay(_) => "replay",
            Self::RetryDeadLetters { .. } => "retry-dead-letters",
            Self::DropDeadLetters { .. } => "drop-dead-letters",
            Self::SetPhase { .. } => "set-phase",
            Self::RunJob { .. } => "run-job",
            Self::AnonymizeUser { .. } => "anonymize-user",
            Self::Obfuscate => "obfuscate",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Stepdown { .. } => "stepdown",
            Self::Throttle { .. } => "throttle",
        }
    }

    /// Returns the part of the leadership that carries this command out.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Backfill { .. }
            | Self::BackfillSelected { .. }
            | Self::BackfillMirror
            | Self::Repair
            | Self::Resync { .. }
            | Self::Replay(_)
            | Self::RetryDeadLetters { .. }
            | Self::DropDeadLetters { .. }
            | Self::SetPhase { .. } => Lane::Pipeline,
            Self::RunJob { .. } | Self::AnonymizeUser { .. } | Self::Obfuscate => Lane::Ticker,
            Self::Pause { .. } | Self::Resume { .. } | Self::Stepdown { .. } | Self::Throttle { .. } => Lane::Control,
        }
    }
}

/// The span of the stream that a replay reads again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The cluster time of the start.
    pub from: Timestamp,
    /// The cluster time of the end; `None` for the time at which the replay begins.
    pub until: Option<Timestamp>,
    /// The only collection whose events count; `None` for all.
    pub collection: Option<String>,
}
