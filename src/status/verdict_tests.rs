//! Tests of the verdict: one per state, and the order between them.

use std::time::Duration;

use super::Severity::{Bad, Ok, Warn};
use super::VerdictState as State;
use super::*;
use crate::write::throttle::{Pressure, Slowed};

/// A leader that was heard a second ago.
const HEARD: LeaderCondition =
    LeaderCondition { lag: Some(0.0), heard: Some(Duration::from_secs(1)), is_silent: false, has_answered: true };

const SLOWED: Slowed = Slowed { pressure: Pressure::ReplicationLag, value: Duration::from_secs(14), stream: false };

const LED: ServiceCondition = ServiceCondition {
    phase: Phase::Sync,
    is_halted: false,
    pause: None,
    leader: Some(HEARD),
    is_position_lost: false,
    repair: RepairCondition { open_gaps: 0, resync: ResyncCondition::Absent },
    slowed: None,
    dead_letters: 0,
    differences: Some(0),
    late_writes: 0,
};

fn leader() -> VerdictFacts {
    VerdictFacts {
        role: Some(Role::Leader),
        halted: false,
        no_database: None,
        reasons: Vec::new(),
        troubles: Vec::new(),
        is_catching_up: false,
        lag: Some(0.0),
        seconds_left: None,
        service: Some(LED),
    }
}

fn with(change: impl FnOnce(&mut ServiceCondition)) -> VerdictFacts {
    let mut facts = leader();
    change(facts.service.as_mut().unwrap());
    facts
}

/// What a command knows.
fn command(change: impl FnOnce(&mut ServiceCondition)) -> VerdictFacts {
    let mut service = LED;
    change(&mut service);
    VerdictFacts::of_command(service)
}

const RESYNC: RepairCondition =
    RepairCondition { open_gaps: 2, resync: ResyncCondition::Running { percent: Some(42) } };

/// A leader that renews its lease every second or so, and has not done so for seven.
const SILENT: LeaderCondition =
    LeaderCondition { lag: None, heard: Some(Duration::from_secs(7)), is_silent: true, has_answered: true };

/// Facts, and the state, the severity, a part of the cause and the next command that follow.
type Case = (VerdictFacts, State, Severity, &'static str, Option<&'static str>);

const RESUME: Option<&str> = Some("stream-processor resume --reason TEXT");

/// A pause of ten minutes whose limit is over in so many seconds.
fn pause(seconds: u64) -> Option<PauseCondition> {
    Some(PauseCondition { lasts: Duration::from_secs(600), left: Duration::from_secs(seconds) })
}

fn of_one_instance() -> Vec<Case> {
    let texts = |text: &str| vec![text.to_owned()];
    vec![
        (leader(), State::InStep, Ok, "no damage", None),
        (VerdictFacts { role: Some(Role::Standby), lag: None, ..leader() }, State::StandingBy, Ok, "waits", None),
        (
            VerdictFacts { role: Some(Role::Starting), service: None, ..leader() },
            State::Starting,
            Warn,
            "who has the lease",
            None,
        ),
        (
            VerdictFacts { no_database: Some("no answer for 7 s".to_owned()), reasons: texts("x"), ..leader() },
            State::NoDatabase,
            Bad,
            "no answer for 7 s",
            Some("stream-processor doctor"),
        ),
        (
            VerdictFacts { halted: true, reasons: texts("the position is lost"), ..leader() },
            State::Halted,
            Bad,
            "position",
            RESUME,
        ),
        (with(|service| service.pause = pause(60)), State::Paused, Warn, "10m ago; the limit is over in 1m", RESUME),
        (with(|service| service.pause = pause(0)), State::Paused, Bad, "the limit is over", RESUME),
        (VerdictFacts { reasons: texts("dropped"), ..leader() }, State::NotReady, Bad, "dropped", None),
        (
            VerdictFacts { reasons: texts("catching up: 90 s"), is_catching_up: true, lag: Some(90.0), ..leader() },
            State::CatchingUp,
            Warn,
            "90 s",
            None,
        ),
        (VerdictFacts { lag: Some(7.0), ..leader() }, State::CatchingUp, Warn, "7 s behind", None),
    ]
}

fn of_the_service() -> Vec<Case> {
    let texts = |text: &str| vec![text.to_owned()];
    vec![
        (VerdictFacts { troubles: texts("a read failed"), ..leader() }, State::Retrying, Warn, "a read", None),
        (
            with(|service| service.differences = Some(990)),
            State::Differs,
            Warn,
            "990 differences",
            Some("stream-processor verify"),
        ),
        (
            with(|service| service.dead_letters = 34),
            State::WaitingForCorrections,
            Warn,
            "34 dead letters",
            Some("stream-processor dead-letters list"),
        ),
        (with(|service| service.phase = Phase::Shadow), State::Shadow, Ok, "no difference", None),
        (with(|service| service.phase = Phase::Retired), State::Retired, Ok, "closed", None),
        (
            with(|service| (service.phase, service.late_writes) = (Phase::Retired, 3)),
            State::Retired,
            Warn,
            "3 writes",
            Some("stream-processor phase show"),
        ),
        (
            VerdictFacts { role: None, lag: None, ..with(|service| service.leader = None) },
            State::NoLeader,
            Bad,
            "no instance leads",
            Some("stream-processor run"),
        ),
        (
            with(|service| service.repair = RESYNC),
            State::Resyncing,
            Warn,
            "2 open gaps of the stream, and a resync runs (42 % of the recruiters)",
            Some("stream-processor status --watch"),
        ),
        (
            command(|service| service.leader = Some(SILENT)),
            State::LeaderSilent,
            Warn,
            "last heard 7 s ago",
            Some("stream-processor status --watch"),
        ),
        (with(|service| service.slowed = Some(SLOWED)), State::Slowed, Warn, "slowed: replication lag 14 s", None),
    ]
}

#[test]
fn each_state_is_told_with_its_severity_cause_and_next_command() {
    let cases = of_one_instance().into_iter().chain(of_the_service());
    let mut seen = Vec::new();
    for (facts, state, severity, cause, next) in cases {
        let found = verdict(&facts);
        assert_eq!((found.state, found.severity, found.next), (state, severity, next), "{found:?}");
        assert!(found.cause.contains(cause), "{found:?}");
        assert_ne!(found.cause, state.sentence(), "the page shows both");
        assert_eq!(problem_texts(&facts).is_empty(), severity == Ok, "{found:?}");
        seen.push(state);
    }
    assert!(VerdictState::ALL.iter().all(|state| seen.contains(state)), "each state has a case");
}

#[test]
fn an_instance_that_starts_tells_its_reason_once() {
    let reasons = vec![STARTING.to_owned()];
    let starting = VerdictFacts { role: Some(Role::Starting), service: None, reasons, ..leader() };
    assert_eq!(verdict(&starting).state, VerdictState::Starting);
    assert_eq!(problem_texts(&starting), starting.reasons);
    // A failure that lasts is a reason of its own, and leads to the runbook.
    let failing =
        VerdictFacts { reasons: vec!["the lease cannot be read".to_owned(), STARTING.to_owned()], ..starting };
    let links: Vec<_> =
        problems(&failing).into_iter().map(|problem| (problem.text, problem.runbook.is_some())).collect();
    assert_eq!(links, [(STARTING.to_owned(), false), ("the lease cannot be read".to_owned(), true)]);
}

#[test]
fn damage_is_told_on_a_standby_and_beside_a_greater_trouble() {
    let damaged = with(|service| (service.differences, service.dead_letters) = (Some(2), 1));
    let standby = VerdictFacts { role: Some(Role::Standby), lag: None, ..damaged.clone() };
    assert_eq!(verdict(&standby).state, VerdictState::Differs);
    let troubled = VerdictFacts { troubles: vec!["a write failed".to_owned()], ..damaged };
    assert_eq!(verdict(&troubled).state, VerdictState::Retrying);
    assert_eq!(problem_texts(&troubled).len(), 3);
}

#[test]
fn differences_of_an_earlier_phase_say_nothing_in_retired() {
    let retired = with(|service| (service.phase, service.differences) = (Phase::Retired, Some(9)));
    assert_eq!(verdict(&retired).severity, Severity::Ok);
}

#[test]
fn the_time_left_follows_from_the_last_minute_of_the_lag() {
    let shrinking: Vec<Option<f64>> = (0..=12).map(|step| Some(240.0 - f64::from(step) * 10.0)).collect();
    assert_eq!(time_left(&shrinking, 5), Some(60.0));
    assert_eq!(time_left(&[Some(5.0), Some(5.0)], 5), None, "it does not shrink");
    assert_eq!(time_left(&[None, Some(5.0)], 5), None);
    assert_eq!(time_left(&[Some(9.0), None], 5), None);
    assert_eq!(time_left(&[], 5), None);
}

#[test]
fn nothing_is_green_while_a_gap_is_open_or_a_resync_runs_or_waits() {
    let resyncs = [
        ResyncCondition::Requested,
        ResyncCondition::Running { percent: None },
        ResyncCondition::Running { percent: Some(0) },
    ];
    let cases = resyncs.map(|resync| RepairCondition { open_gaps: 0, resync });
    for repair in cases.into_iter().chain([RepairCondition { open_gaps: 1, resync: ResyncCondition::Absent }]) {
        let standby = VerdictFacts { role: Some(Role::Standby), lag: None, ..with(|service| service.repair = repair) };
        for facts in [with(|service| service.repair = repair), standby, command(|service| service.repair = repair)] {
            let found = verdict(&facts);
            assert_eq!((found.state, found.severity), (State::Resyncing, Warn), "{found:?}");
            assert!(found.cause.contains("offers may be old") && found.next.is_some(), "{found:?}");
        }
    }
}

#[test]
fn a_leader_is_green_only_by_facts_of_its_own_leadership() {
    for facts in [
        VerdictFacts { service: None, ..leader() },
        with(|service| service.leader = None),
        with(|service| service.leader = Some(LeaderCondition { lag: None, has_answered: false, ..HEARD })),
    ] {
        assert_eq!((verdict(&facts).state, verdict(&facts).severity), (State::Starting, Warn), "{facts:?}");
    }
}

#[test]
fn a_command_knows_the_leader_by_its_last_sign_only() {
    let heard = verdict(&command(|_| {}));
    assert_eq!(heard.state, State::InStep);
    assert!(heard.cause.contains("last heard, 1 s ago"), "{heard:?}");
    for leader in [SILENT, LeaderCondition { lag: None, has_answered: false, ..HEARD }] {
        let found = verdict(&command(|service| service.leader = Some(leader)));
        assert_eq!((found.state, found.severity), (State::LeaderSilent, Warn), "{found:?}");
        let halted = command(|service| (service.leader, service.is_halted) = (Some(leader), true));
        assert_eq!(problem_texts(&halted).len(), 1, "a halted leader reads no stream: {:?}", problem_texts(&halted));
    }
}

#[test]
fn a_lost_position_without_a_leader_is_told_with_the_next_command() {
    let found = verdict(&command(|service| (service.leader, service.is_position_lost) = (None, true)));
    assert_eq!((found.state, found.next), (State::NoLeader, Some("stream-processor run")));
    assert!(found.cause.contains("no longer has the position"), "{found:?}");
}

#[test]
fn work_that_nobody_does_is_not_slowed_and_the_reason_has_a_unit() {
    let unled = ServiceCondition { slowed: Some(SLOWED), leader: None, ..LED };
    let found = problems(&VerdictFacts::of_command(unled));
    assert!(!found.iter().any(|problem| problem.text.contains("slowed")), "{found:?}");
    let faster = Slowed { pressure: Pressure::WriteLatency, value: Duration::from_millis(700), stream: true };
    assert_eq!(faster.text(), "slowed, the stream too: write latency 700 ms");
}
