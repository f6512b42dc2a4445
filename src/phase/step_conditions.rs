//! The conditions for a step to the next phase (spec 04, "Transitions"; spec 03, "Open gaps"). Pure code: the facts are
//! arguments, and each condition says what was found.

use std::time::Duration;

use bson::DateTime;
use serde::Serialize;

use super::{Phase, StepDirection};
use crate::model::time::is_ahead;

/// A verification of this age or older does not count.
const VERIFICATION_AGE: Duration = Duration::from_hours(24);
/// The lag must be under this number of seconds.
const LAG: f64 = 5.0;

/// The last full verification, as `verify` stored it.
#[derive(Debug, Clone, PartialEq)]
pub struct LastVerification {
    /// The phase during the verification.
    pub phase: String,
    pub began: DateTime,
    pub ended: DateTime,
    /// The number of differences that it found.
    pub differences: i64,
    /// The number of documents that it found in `recruiters` alone, by kind; `None` where it did not count them.
    pub only_in_recruiters: Option<Vec<(String, i64)>>,
    /// The number of jobs without an offer that cannot be projected or written; `None` where it did not count them.
    pub jobs_without_offer: Option<i64>,
}

/// The facts on which the conditions of a step rest.
#[derive(Debug, Clone)]
pub struct StepFacts {
    /// The current phase.
    pub phase: Phase,
    /// The time of the step to the current phase; `None` before the first start of an instance.
    pub since: Option<DateTime>,
    /// The last full verification; `None` when there was none.
    pub verification: Option<LastVerification>,
    /// The leader's lag in seconds; `None` without a leader, or before the first reply of its stream.
    pub lag: Option<f64>,
    pub dead_letters: u64,
    /// Gaps that no resync has repaired yet.
    pub open_gaps: u64,
    /// Unfinished commands and resyncs, without the command that asks for the step.
    pub running: u64,
    /// The server's time.
    pub now: DateTime,
}

/// One condition of a step, and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// The text of the condition.
    pub condition: &'static str,
    pub met: bool,
    /// The fact that was found, and the remedy where there is one.
    pub found: String,
}

/// The conditions of the step from the phase of `facts` to `to`. A step back has no conditions.
#[must_use]
pub fn conditions(facts: &StepFacts, to: Phase) -> Vec<Condition> {
    if facts.phase.way_to(to) != Some(StepDirection::Forward) {
        return Vec::new();
    }
    let gaps = counted("no open gap", facts.open_gaps, "gaps that no resync has repaired yet");
    match to {
        Phase::Shadow | Phase::Retired => {
            let mut conditions = vec![
                verified(facts),
                in_time(facts.lag),
                counted("no dead letters", facts.dead_letters, "dead letters stand; correct their documents"),
                no_job_lacks_its_offer(facts),
                counted("no command running", facts.running, "commands or resyncs are not finished; wait for them"),
                gaps,
            ];
            conditions.extend((to == Phase::Retired).then(|| nothing_is_lost(facts)));
            conditions
        }
        Phase::Sync | Phase::DualWrite => vec![gaps],
    }
}

fn verified(facts: &StepFacts) -> Condition {
    let fault = match &facts.verification {
        None => Some("there was none; run stream-processor verify".to_owned()),
        Some(last) if !is_of_this_phase(last, facts) => {
            Some(format!("the last one was before this phase, in {}; run stream-processor verify", last.phase))
        }
        Some(last) if is_ahead(last.ended, facts.now) => Some(format!(
            "the last one ended at {}, which is in the future: a clock was ahead; run stream-processor verify",
            text(last.ended)
        )),
        Some(last) if is_old(last.ended, facts.now) => {
            Some(format!("the last one ended at {}; run stream-processor verify", text(last.ended)))
        }
        Some(last) if last.differences != 0 => Some(format!(
            "the last one found {}; run stream-processor verify to see them",
            crate::counted::counted(last.differences, "difference", "differences")
        )),
        Some(_) => None,
    };
    let found = match (&fault, &facts.verification) {
        (None, Some(last)) => format!("ended at {} and found nothing", text(last.ended)),
        (fault, _) => fault.clone().unwrap_or_default(),
    };
    Condition {
        condition: "a full verification in this phase, less than 24 h ago, that found nothing",
        met: fault.is_none(),
        found,
    }
}

/// A dropped dead letter does not open the gate: its job still has no offer. A job of a recruiter without address is no
/// fault: it has no offer by the rules. The condition rests on the last
/// verification, because a count reads all recruiters.
fn no_job_lacks_its_offer(facts: &StepFacts) -> Condition {
    let (met, found) =
        match facts.verification.as_ref().and_then(|last| Some((last.jobs_without_offer?, text(last.ended)))) {
            None => (false, "not counted yet; run stream-processor verify".to_owned()),
            Some((0, at)) => (true, format!("counted at {at}")),
            Some((jobs, at)) => {
                let remedy = "correct their documents, whether or not their dead letters were dropped, and run \
                 stream-processor verify";
                let jobs = crate::counted::counted(jobs, "job", "jobs");
                (false, format!("{jobs} that cannot be projected or written, counted at {at}; {remedy}"))
            }
        };
    Condition { condition: "no job lacks its offer because of a fault", met, found }
}

/// The condition of spec 09, "Before `retired`". It rests on the last verification, because a count reads all
/// recruiters.
fn nothing_is_lost(facts: &StepFacts) -> Condition {
    let last = facts.verification.as_ref().filter(|last| is_of_this_phase(last, facts));
    let counted = last.and_then(|last| Some((last, last.only_in_recruiters.as_ref()?)));
    let (met, found) = match counted {
        None => (false, "not counted in this phase yet; run stream-processor verify".to_owned()),
        Some((last, counts)) => {
            let lost = counts.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}"));
            let lost: Vec<String> = lost.collect();
            let at = text(last.ended);
            if lost.is_empty() {
                (true, format!("none, counted at {at}"))
            } else {
                let lost = lost.join(", ");
                (false, format!("{lost}, counted at {at}; stream-processor verify --report FILE lists the ids"))
            }
        }
    };
    Condition { condition: "nothing exists in recruiters alone", met, found }
}

fn is_of_this_phase(last: &LastVerification, facts: &StepFacts) -> bool {
    last.phase == facts.phase.word() && facts.since.is_none_or(|since| last.began >= since)
}

fn is_old(ended: DateTime, now: DateTime) -> bool {
    let age = now.timestamp_millis().saturating_sub(ended.timestamp_millis());
    u128::try_from(age).is_ok_and(|age| age >= VERIFICATION_AGE.as_millis())
}

fn in_time(lag: Option<f64>) -> Condition {
    let found = match lag {
        Some(lag) => format!("{lag:.1} s"),
        None => "unknown: no instance leads, or its stream has not answered yet".to_owned(),
    };
    Condition { condition: "lag under 5 s", met: lag.is_some_and(|lag| lag < LAG), found }
}

fn counted(condition: &'static str, count: u64, otherwise: &str) -> Condition {
    let found = if count == 0 { "none".to_owned() } else { format!("{count} {otherwise}") };
    Condition { condition, met: count == 0, found }
}

fn text(date: DateTime) -> String {
    date.try_to_rfc3339_string().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn facts() -> StepFacts {
        StepFacts {
            phase: Phase::DualWrite,
            since: Some(DateTime::from_millis(100 * HOUR)),
            verification: Some(LastVerification {
                phase: "dual-write".to_owned(),
                began: DateTime::from_millis(110 * HOUR),
                ended: DateTime::from_millis(111 * HOUR),
                differences: 0,
                only_in_recruiters: Some(vec![("recruiters_without_jobs".to_owned(), 0)]),
                jobs_without_offer: Some(0),
            }),
            lag: Some(0.0),
            dead_letters: 0,
            open_gaps: 0,
            running: 0,
            now: DateTime::from_millis(120 * HOUR),
        }
    }

    fn unmet(facts: &StepFacts, to: Phase) -> Vec<&'static str> {
        conditions(facts, to).into_iter().filter(|one| !one.met).map(|one| one.condition).collect()
    }

    #[test]
    fn all_is_well_with_a_verification_no_lag_no_dead_letters_no_command_and_no_gap() {
        assert_eq!(conditions(&facts(), Phase::Shadow).len(), 6);
        assert!(unmet(&facts(), Phase::Shadow).is_empty());
    }

    #[test]
    fn each_condition_that_is_not_met_is_named_alone() {
        let last = facts().verification.unwrap();
        let verification = |last: Option<LastVerification>| StepFacts { verification: last, ..facts() };
        let cases = [
            (verification(Some(LastVerification { phase: "sync".to_owned(), ..last.clone() })), "verification"),
            (verification(Some(LastVerification { differences: 1, ..last.clone() })), "verification"),
            (
                verification(Some(LastVerification { began: DateTime::from_millis(99 * HOUR), ..last.clone() })),
                "verification",
            ),
            (verification(Some(LastVerification { jobs_without_offer: Some(2), ..last.clone() })), "no job lacks"),
            (verification(Some(LastVerification { jobs_without_offer: None, ..last })), "no job lacks"),
            (StepFacts { now: DateTime::from_millis(135 * HOUR), ..facts() }, "verification"),
            (StepFacts { now: DateTime::from_millis(110 * HOUR), ..facts() }, "verification"),
            (StepFacts { lag: Some(5.0), ..facts() }, "lag"),
            (StepFacts { lag: None, ..facts() }, "lag"),
            (StepFacts { dead_letters: 1, ..facts() }, "dead letters"),
            (StepFacts { open_gaps: 1, ..facts() }, "gap"),
            (StepFacts { running: 1, ..facts() }, "command"),
        ];
        for (facts, word) in cases {
            let unmet = unmet(&facts, Phase::Shadow);
            assert!(matches!(unmet.as_slice(), [one] if one.contains(word)), "{word}: {unmet:?}");
        }
        assert_eq!(unmet(&verification(None), Phase::Shadow).len(), 2);
    }

    #[test]
    fn what_exists_in_recruiters_alone_keeps_from_retired_and_from_no_other_phase() {
        let last = facts().verification.unwrap();
        let with = |counts: Option<Vec<(String, i64)>>, phase: &str| StepFacts {
            phase: Phase::Shadow,
            verification: Some(LastVerification {
                only_in_recruiters: counts,
                phase: phase.to_owned(),
                ..last.clone()
            }),
            ..facts()
        };
        let lost = vec![("free_texts".to_owned(), 2), ("jobs_without_offer".to_owned(), 0)];
        assert!(unmet(&with(last.only_in_recruiters.clone(), "shadow"), Phase::Retired).is_empty());
        for facts in [with(Some(lost.clone()), "shadow"), with(None, "shadow")] {
            assert_eq!(unmet(&facts, Phase::Retired), ["nothing exists in recruiters alone"]);
        }
        let found = conditions(&with(Some(lost.clone()), "shadow"), Phase::Retired).pop().unwrap().found;
        assert!(found.starts_with("2 free_texts, counted at ") && !found.contains("jobs_without_offer"), "{found}");
        assert_eq!(unmet(&with(last.only_in_recruiters.clone(), "dual-write"), Phase::Retired).len(), 2);
        let before = StepFacts { phase: Phase::DualWrite, ..with(Some(lost), "dual-write") };
        assert!(unmet(&before, Phase::Shadow).is_empty());
    }

    #[test]
    fn only_a_gap_keeps_from_dual_write_and_nothing_from_a_step_back() {
        let bad =
            StepFacts { phase: Phase::Sync, verification: None, lag: None, dead_letters: 9, open_gaps: 1, ..facts() };
        assert_eq!(unmet(&bad, Phase::DualWrite), ["no open gap"]);
        assert!(conditions(&StepFacts { phase: Phase::Shadow, ..bad }, Phase::DualWrite).is_empty());
    }
}
