//! The verdict: the state of the service in one word, how serious it is, why, and what to do next. The page, `/readyz`,
//! `/api/status`, `status`, the metric and the log show this one verdict (docs/operations.md, "The verdict"). Pure.

use std::time::Duration;

use bson::DateTime;
use serde::Serialize;

use crate::leader::pause::StoredPause;
use crate::maintenance::replay::length_text;
use crate::observe::health::Role;
use crate::phase::Phase;

/// The lag in seconds from which the stream counts as behind. The conditions of the phases have the same bound
/// (spec 04).
const BEHIND: f64 = 5.0;

/// The state of the service, as far as one instance or command sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VerdictState {
    /// The instance has not got an answer about the lease yet.
    Starting,
    /// MongoDB does not answer.
    NoDatabase,
    /// The position of the stream is lost, and the service waits for a person.
    Halted,
    /// An operator paused the service.
    Paused,
    /// `/readyz` gives reasons why the instance is not ready.
    NotReady,
    /// The leader applies events that are older than [`BEHIND`].
    CatchingUp,
    /// The instance is ready, but a part of it fails and is retried, or the database does not answer the survey.
    Retrying,
    /// No instance leads.
    NoLeader,
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
    pub(crate) const ALL: [Self; 14] = [
        Self::Starting,
        Self::NoDatabase,
        Self::Halted,
        Self::Paused,
        Self::NotReady,
        Self::CatchingUp,
        Self::Retrying,
        Self::NoLeader,
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
            Self::Differs => "Differs",
            Self::WaitingForCorrections => "Waiting for corrections",
            Self::Shadow => "Shadow",
            Self::Retired => "Retired",
            Self::StandingBy => "Standing by",
            Self::InStep => "In step",
        }
    }

    /// The state as a sentence. It has no numbers, because a screen reader reads it aloud whenever it changes.
    #[must_use]
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Starting => "This instance has no answer about the lease yet.",
            Self::NoDatabase => "MongoDB does not answer. Nothing is lost: the service goes on when it answers again.",
            Self::Halted => "The position of the stream is lost. An operator must decide.",
            Self::Paused => "An operator paused the service. Nothing is lost: changes wait in the oplog.",
            Self::NotReady => "This instance is not ready. The reasons are below.",
            Self::CatchingUp => "The leader applies older events. Nothing is lost.",
            Self::Retrying => "Something fails and is retried. Nothing is lost.",
            Self::NoLeader => "No instance leads, so no event is applied.",
            Self::Differs => "The last full verification found offers that differ from their jobs.",
            Self::WaitingForCorrections => "Some documents cannot be projected or written. A person must correct them.",
            Self::Shadow => "Applications write the offers. The stream compares them with the recruiters.",
            Self::Retired => "The stream of recruiters is closed. The time-based jobs go on.",
            Self::StandingBy => "This instance waits for the lease. It leads when no other instance does.",
            Self::InStep => "The leader has applied every event, and no damage is known.",
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

/// How long a pause lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PauseCondition {
    /// The time since the beginning of the pause.
    pub lasts: Duration,
    /// The time until the limit; zero when it is over.
    pub left: Duration,
}

impl PauseCondition {
    /// The condition of a stored pause at this time of the server.
    #[must_use]
    pub(crate) fn of(pause: &StoredPause, now: DateTime) -> Self {
        let between = |from: DateTime, to: DateTime| {
            Duration::from_millis(u64::try_from(to.timestamp_millis() - from.timestamp_millis()).unwrap_or_default())
        };
        Self { lasts: between(pause.since, now), left: between(now, pause.limit_at) }
    }
}

/// What the database says about the service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceCondition {
    pub phase: Phase,
    /// True while the leader is halted.
    pub is_halted: bool,
    /// `None` while the service is not paused.
    pub pause: Option<PauseCondition>,
    /// True while an instance holds the lease.
    pub is_led: bool,
    /// The lag of the leader in seconds; `None` while unknown.
    pub leader_lag: Option<f64>,
    pub dead_letters: u64,
    /// The differences that the last full verification found; `None` when there was none.
    pub differences: Option<i64>,
    /// Writes to `recruiters` since the step to `retired`.
    pub late_writes: u64,
}

/// The facts on which the verdict rests.
#[derive(Debug, Clone)]
pub(crate) struct VerdictFacts {
    /// The role of this instance; `None` for a command.
    pub role: Option<Role>,
    pub halted: bool,
    /// Why MongoDB does not answer; `None` while it does.
    pub no_database: Option<String>,
    /// The reasons against readiness, each with advice.
    pub reasons: Vec<String>,
    /// Troubles that are retried, each with advice.
    pub troubles: Vec<String>,
    pub is_catching_up: bool,
    /// The lag of this instance in seconds; `None` while unknown.
    pub lag: Option<f64>,
    /// The time in seconds until the lag is gone, by its last minutes; `None` while unknown.
    pub seconds_left: Option<f64>,
    /// `None` before the first answer of the database.
    pub service: Option<ServiceCondition>,
}

impl VerdictFacts {
    /// The facts of a command, which knows only what the database says.
    #[must_use]
    pub(crate) fn of_command(service: ServiceCondition) -> Self {
        Self {
            role: None,
            halted: false,
            no_database: None,
            reasons: Vec::new(),
            troubles: Vec::new(),
            is_catching_up: false,
            lag: None,
            seconds_left: None,
            service: Some(service),
        }
    }
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub state: VerdictState,
    pub severity: Severity,
    /// The reason in words, with numbers.
    pub cause: String,
    /// The next command; null where nothing is to do.
    pub next: Option<&'static str>,
    /// The time in seconds until the leader has caught up; null where that is not the matter, or unknown.
    pub seconds_left: Option<f64>,
}

/// A state that holds, with its reason.
#[derive(Debug)]
struct Finding {
    state: VerdictState,
    severity: Severity,
    cause: String,
    next: Option<&'static str>,
}

/// Makes the verdict. Of several states that hold, the first one of the list in [`findings`] is the verdict.
#[must_use]
pub(crate) fn verdict(facts: &VerdictFacts) -> Verdict {
    let Finding { state, severity, cause, next } = findings(facts).swap_remove(0);
    let seconds_left = facts.seconds_left.filter(|_| state == VerdictState::CatchingUp);
    Verdict { state, severity, cause, next, seconds_left }
}

/// Everything that is wrong, the verdict's cause first; empty where nothing is.
#[must_use]
pub(crate) fn problems(facts: &VerdictFacts) -> Vec<String> {
    let wrong = findings(facts).into_iter().filter(|finding| finding.severity > Severity::Ok);
    let mut problems: Vec<String> = wrong
        .map(|finding| match finding.next {
            Some(next) => format!("{}; next: {next}", finding.cause),
            None => finding.cause,
        })
        .collect();
    for other in facts.reasons.iter().chain(&facts.troubles) {
        if !problems.iter().any(|problem| problem == other) {
            problems.push(other.clone());
        }
    }
    problems
}

/// All states that hold, the most urgent first. The last one always holds.
fn findings(facts: &VerdictFacts) -> Vec<Finding> {
    use VerdictState as State;
    let mut findings = Vec::new();
    let mut find = |state: State, severity: Severity, cause: String, next: Option<&'static str>| {
        findings.push(Finding { state, severity, cause, next });
    };
    if let Some(cause) = &facts.no_database {
        find(State::NoDatabase, Severity::Bad, cause.clone(), Some("stream-processor doctor"));
    }
    if facts.halted || facts.service.is_some_and(|service| service.is_halted) {
        let cause = facts.reasons.first().cloned().unwrap_or_else(|| "the position of the stream is lost".to_owned());
        find(State::Halted, Severity::Bad, cause, Some("stream-processor resume --reason TEXT"));
    }
    if let Some(PauseCondition { lasts, left }) = facts.service.and_then(|service| service.pause) {
        let (lasts, left) = (length_text(lasts), (!left.is_zero()).then(|| length_text(left)));
        let (severity, limit) = match left {
            Some(left) => (Severity::Warn, format!("the limit is over in {left}")),
            None => (Severity::Bad, "the limit is over".to_owned()),
        };
        let cause = format!("an operator paused the service {lasts} ago; {limit}");
        find(State::Paused, severity, cause, Some("stream-processor resume --reason TEXT"));
    }
    if facts.role == Some(Role::Starting) {
        let cause = facts.troubles.first().cloned().unwrap_or_else(|| State::Starting.sentence().to_owned());
        find(State::Starting, Severity::Warn, cause, None);
    }
    let lag = facts.lag.or_else(|| facts.service.and_then(|service| service.leader_lag));
    match facts.reasons.first() {
        Some(reason) if facts.is_catching_up => find(State::CatchingUp, Severity::Warn, reason.clone(), None),
        Some(reason) => find(State::NotReady, Severity::Bad, reason.clone(), None),
        None => {}
    }
    if let Some(trouble) = facts.troubles.first() {
        find(State::Retrying, Severity::Warn, trouble.clone(), None);
    }
    if facts.reasons.is_empty()
        && let Some(lag) = lag.filter(|lag| *lag >= BEHIND)
    {
        find(State::CatchingUp, Severity::Warn, format!("the leader is {lag:.0} s behind"), None);
    }
    if let Some(service) = &facts.service {
        of_service(service, facts.role, &mut find);
    }
    match facts.role {
        Some(Role::Standby) => {
            find(State::StandingBy, Severity::Ok, "this instance waits for the lease".to_owned(), None)
        }
        _ => find(State::InStep, Severity::Ok, "every event is applied, and no damage is known".to_owned(), None),
    }
    findings
}

fn of_service(
    service: &ServiceCondition,
    role: Option<Role>,
    find: &mut impl FnMut(VerdictState, Severity, String, Option<&'static str>),
) {
    use VerdictState as State;
    if !service.is_led && role != Some(Role::Leader) {
        let (severity, cause) = match role {
            // A standby takes a free lease in less than a second, so it does not stay so.
            Some(_) => (Severity::Warn, "no instance leads at this moment"),
            None => (Severity::Bad, "no instance leads: start one with stream-processor run"),
        };
        find(State::NoLeader, severity, cause.to_owned(), None);
    }
    let differences = service.differences.filter(|differences| *differences != 0 && service.phase != Phase::Retired);
    if let Some(differences) = differences {
        let cause = format!("the last full verification found {differences} differences");
        find(State::Differs, Severity::Warn, cause, Some("stream-processor verify"));
    }
    if service.dead_letters > 0 {
        let cause = format!("{} dead letters wait for a correction of their documents", service.dead_letters);
        find(State::WaitingForCorrections, Severity::Warn, cause, Some("stream-processor dead-letters list"));
    }
    match service.phase {
        Phase::Retired if service.late_writes > 0 => {
            let cause = format!("{} writes to recruiters since the step to retired", service.late_writes);
            find(State::Retired, Severity::Warn, cause, Some("stream-processor phase show"));
        }
        Phase::Retired => {
            let cause = "the stream of recruiters is closed, and nothing was written there since".to_owned();
            find(State::Retired, Severity::Ok, cause, None);
        }
        Phase::Shadow => {
            let cause = match service.differences {
                Some(_) => "the last full verification found no difference".to_owned(),
                None => "no full verification ran yet".to_owned(),
            };
            find(State::Shadow, Severity::Ok, cause, None);
        }
        Phase::Sync | Phase::DualWrite => {}
    }
}

/// The time in seconds until the lag is gone, if it shrinks on as in the last minute of `lags`. `interval` is the number
/// of seconds between two values. `None` while the lag does not shrink.
#[must_use]
pub(crate) fn time_left(lags: &[Option<f64>], interval: u64) -> Option<f64> {
    let minute = usize::try_from(60 / interval.max(1)).unwrap_or(1);
    let last = lags.last().copied().flatten()?;
    let known: Vec<f64> = lags.iter().rev().take(minute + 1).map_while(|lag| *lag).collect();
    let first = known.last().copied().filter(|_| known.len() > 1)?;
    #[expect(clippy::cast_precision_loss, reason = "a minute in seconds")]
    let seconds = (known.len() - 1) as f64 * interval as f64;
    let shrinks = (first - last) / seconds;
    (shrinks > 0.0).then(|| (last / shrinks).ceil())
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
