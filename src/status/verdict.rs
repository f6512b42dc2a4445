//! The verdict: the state of the service in one word, how serious it is, why, and what to do next. The page, `/readyz`,
//! `/api/status`, `status`, the metric and the log show this one verdict (docs/operations.md, "The verdict"). Pure.

use serde::Serialize;

use super::conditions::{LeaderCondition, PauseCondition, ServiceCondition};
use super::verdict_state::{Severity, VerdictState};
use crate::counted::counted;
use crate::maintenance::repairs::{RepairCondition, ResyncCondition};
use crate::maintenance::replay::length_text;
use crate::observe::health::Role;
use crate::observe::readiness::STARTING;
use crate::phase::Phase;

/// The lag in seconds from which the stream counts as behind. The conditions of the phases have the same bound
/// (spec 04).
const BEHIND: f64 = 5.0;
/// The command that shows how far a repair or a take-over is.
const WATCH: &str = "stream-processor status --watch";
/// The command that starts an instance.
const RUN: &str = "stream-processor run";

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

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The cause, with the next command.
    pub text: String,
    /// The section of the runbook; `None` where there is nothing to do.
    pub runbook: Option<&'static str>,
}

/// Everything that is wrong, the verdict's cause first; empty where nothing is.
#[must_use]
pub(crate) fn problems(facts: &VerdictFacts) -> Vec<Problem> {
    let wrong = findings(facts).into_iter().filter(|finding| finding.severity > Severity::Ok);
    let mut problems: Vec<Problem> = Vec::new();
    // The same cause may make several states hold, and it may be one of the reasons.
    let is_told = |problems: &[Problem], cause: &str| problems.iter().any(|problem| problem.text.starts_with(cause));
    for Finding { state, cause, next, .. } in wrong {
        if !is_told(&problems, &cause) {
            let text = next.map_or_else(|| cause.clone(), |next| format!("{cause}; next: {next}"));
            problems.push(Problem { text, runbook: state.runbook() });
        }
    }
    for other in facts.reasons.iter().chain(&facts.troubles) {
        if !is_told(&problems, other) {
            problems.push(Problem { text: other.clone(), runbook: VerdictState::NotReady.runbook() });
        }
    }
    problems
}

/// The texts of [`problems`].
#[must_use]
pub(crate) fn problem_texts(facts: &VerdictFacts) -> Vec<String> {
    problems(facts).into_iter().map(|problem| problem.text).collect()
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
        // The page shows the sentence of the state above its causes, so a cause must say more.
        let cause = facts.troubles.first().map_or(STARTING, String::as_str).to_owned();
        find(State::Starting, Severity::Warn, cause, None);
    }
    let lag = facts.lag.or_else(|| facts.service?.leader?.lag);
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
        role => {
            if role == Some(Role::Leader) && !knows_its_service(facts.service.as_ref()) {
                let cause = "this instance leads, and has not read the state of the service since".to_owned();
                find(State::Starting, Severity::Warn, cause, None);
            }
            find(State::InStep, Severity::Ok, in_step(facts), None);
        }
    }
    findings
}

/// False while what a leader read about the service may be older than its leadership, and may lack its first resync: the
/// lease tells a lag only after the stream was opened.
fn knows_its_service(service: Option<&ServiceCondition>) -> bool {
    service.is_some_and(|service| {
        service.is_halted || service.pause.is_some() || service.leader.is_some_and(|leader| leader.has_answered)
    })
}

/// The cause of [`VerdictState::InStep`]. A command knows the leader by its last sign only.
fn in_step(facts: &VerdictFacts) -> String {
    match facts.service.and_then(|service| service.leader?.heard).filter(|_| facts.role.is_none()) {
        Some(heard) => {
            let seconds = heard.as_secs();
            format!("when the leader was last heard, {seconds} s ago, every event was applied; no damage is known")
        }
        None => "every event is applied, and no damage is known".to_owned(),
    }
}

fn of_service(
    service: &ServiceCondition,
    role: Option<Role>,
    find: &mut impl FnMut(VerdictState, Severity, String, Option<&'static str>),
) {
    use VerdictState as State;
    if service.leader.is_none() && role != Some(Role::Leader) {
        let (severity, cause, next) = match role {
            // A standby takes a free lease in less than a second, so it does not stay so.
            Some(_) => (Severity::Warn, "no instance leads at this moment", None),
            None if service.is_position_lost => {
                let cause = "no instance leads, and the oplog no longer has the position of the stream";
                (Severity::Bad, cause, Some(RUN))
            }
            None => (Severity::Bad, "no instance leads", Some(RUN)),
        };
        find(State::NoLeader, severity, cause.to_owned(), next);
    }
    // An instance knows the leader by more than its lease: it leads, or takes over.
    if let Some(cause) = service.leader.filter(|_| role.is_none() && reads(service)).and_then(silence) {
        find(State::LeaderSilent, Severity::Warn, cause, Some(WATCH));
    }
    if let Some((cause, next)) = of_repair(service.repair) {
        find(State::Resyncing, Severity::Warn, cause, Some(next));
    }
    if let Some(slowed) = service.slowed.filter(|_| service.leader.is_some()) {
        find(State::Slowed, Severity::Warn, slowed.text(), None);
    }
    let differences = service.differences.filter(|differences| *differences != 0 && service.phase != Phase::Retired);
    if let Some(differences) = differences {
        let cause = format!("the last full verification found {}", counted(differences, "difference", "differences"));
        find(State::Differs, Severity::Warn, cause, Some("stream-processor verify"));
    }
    if service.dead_letters > 0 {
        let cause = format!(
            "{} until the documents are corrected",
            counted(service.dead_letters, "dead letter waits", "dead letters wait")
        );
        find(State::WaitingForCorrections, Severity::Warn, cause, Some("stream-processor dead-letters list"));
    }
    match service.phase {
        Phase::Retired if service.late_writes > 0 => {
            let cause =
                format!("{} to recruiters since the step to retired", counted(service.late_writes, "write", "writes"));
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

/// True while a leader should read the stream.
fn reads(service: &ServiceCondition) -> bool {
    !service.is_halted && service.pause.is_none()
}

/// Why nobody but the leader knows what it has applied; `None` where its lease tells it.
fn silence(leader: LeaderCondition) -> Option<String> {
    match leader.heard {
        Some(heard) if leader.is_silent => {
            Some(format!("the leader was last heard {} s ago: what it has applied since is not known", heard.as_secs()))
        }
        _ => (!leader.has_answered).then(|| "the stream of the leader has not answered yet".to_owned()),
    }
}

/// Why offers may be old, and the next command; `None` when nothing is to be repaired.
fn of_repair(repair: RepairCondition) -> Option<(String, &'static str)> {
    let resync = match repair.resync {
        ResyncCondition::Running { percent: Some(percent) } => {
            Some(format!("a resync runs ({percent} % of the recruiters)"))
        }
        ResyncCondition::Running { percent: None } => Some("a resync runs".to_owned()),
        ResyncCondition::Requested => Some("a resync is requested".to_owned()),
        ResyncCondition::Absent => None,
    };
    let gaps = (repair.open_gaps > 0).then(|| format!("{} open gaps of the stream", repair.open_gaps));
    let next = if resync.is_some() { WATCH } else { "stream-processor resync --reason TEXT" };
    let what = match (gaps, resync) {
        (None, None) => return None,
        (Some(gaps), Some(resync)) => format!("{gaps}, and {resync}"),
        (Some(gaps), None) => format!("{gaps}, and no resync runs"),
        (None, Some(resync)) => resync,
    };
    Some((format!("{what}: offers may be old until a resync has ended"), next))
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
