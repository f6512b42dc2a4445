//! The report of `status` as lines for a person, each with a tone, which is a colour on a terminal.

use std::time::Duration;

use bson::Document;
use chrono_tz::Tz;

use super::report::{LeaderStatus, PositionStatus, StatusReport};
use crate::counted::counted;
use crate::leader::foreign_minutes::ForeignWritesReport;
use crate::maintenance::replay::length_text;
use crate::mongo::oplog::YOUNG_OPLOG;
use crate::phase::late_writes::LateWritesReport;
use crate::shown_text::printable;
use crate::shown_time::{shown, shown_text, shown_times};
use crate::status::events::fields_text;
use crate::status::instances::InstanceStatus;
use crate::status::verdict_state::Severity;

/// The seriousness of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
}

impl Tone {
    /// The parameter of the escape sequence; `None` for the terminal's own colour.
    pub(super) fn color(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Good => Some(32),
            Self::Warn => Some(33),
            Self::Bad => Some(31),
        }
    }
}

impl From<Severity> for Tone {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Ok => Self::Good,
            Severity::Warn => Self::Warn,
            Severity::Bad => Self::Bad,
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub tone: Tone,
}

impl Line {
    pub(super) fn new(tone: Tone, name: &str, parts: &[&str]) -> Self {
        let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
        Self { text: printable(&format!("{name:<13} {}", parts.join("  "))).into_owned(), tone }
    }
}

fn plain(name: &str, parts: &[&str]) -> Line {
    Line::new(Tone::Plain, name, parts)
}

fn warn_if(is_wrong: bool) -> Tone {
    if is_wrong { Tone::Warn } else { Tone::Plain }
}

/// The lines of the report.
pub(super) fn lines(report: &StatusReport, zone: Tz) -> Vec<Line> {
    let state = report.verdict.state;
    let tone = Tone::from(report.verdict.severity);
    let mut lines = vec![Line::new(tone, "verdict", &[state.headline(), state.sentence()])];
    lines.extend(report.problems.iter().map(|problem| Line::new(tone, "", &[problem])));
    let since = report.phase_since.as_ref().map_or(String::new(), |at| format!("since {}", shown_text(at, zone)));
    lines.extend([
        plain("deployment", &[report.environment, &report.database, &report.replica_set]),
        plain("phase", &[report.phase, &since]),
        Line::new(if report.leader.is_some() { Tone::Plain } else { Tone::Bad }, "leader", &[&leader_text(report)]),
    ]);
    lines.extend(instances(&report.instances, zone));
    lines.extend(report.pause.as_ref().map(|pause| {
        let since = pause.since.as_ref().map_or(String::new(), |at| format!("since {}", shown_text(at, zone)));
        Line::new(Tone::Warn, "paused", &[&since, &format!("by {}:", pause.who), &pause.reason])
    }));
    lines.extend(position(report.position.as_ref(), zone));
    lines.extend(report.events_per_second.map(|rate| plain("rate", &[&format!("{rate:.1} events/s lately")])));
    lines.extend(report.running.iter().map(|work| plain("running", &[&work.text()])));
    let gaps = report.open_gaps.to_string();
    lines.extend((report.open_gaps > 0).then(|| Line::new(Tone::Warn, "gaps", &[&gaps, "not repaired yet"])));
    lines.extend(report.unfinished_commands.iter().map(|command| plain("command", &[command])));
    let all: u64 = report.dead_letters.values().sum();
    let reasons: Vec<String> = report.dead_letters.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    lines.push(Line::new(warn_if(all > 0), "dead letters", &[&all.to_string(), &reasons.join(", ")]));
    let omitted = report.target_fields_omitted.join(", ");
    let why = "(not in the validator of jobs_partners)";
    lines.extend((!omitted.is_empty()).then(|| Line::new(Tone::Warn, "omitted", &[&omitted, why])));
    lines.push(match &report.last_verification {
        Some(last) => {
            let differences = counted(last.differences, "difference", "differences");
            Line::new(warn_if(last.differences > 0), "verified", &[&shown_text(&last.ended, zone), &differences])
        }
        None => plain("verified", &["never"]),
    });
    let late = report.late_writes.as_ref().map(LateWritesReport::lines).unwrap_or_default();
    let names = std::iter::once("late writes").chain(std::iter::repeat(""));
    lines.extend(names.zip(&late).map(|(name, line)| plain(name, &[&shown_times(line, zone)])));
    lines.extend(report.slowed.as_ref().map(|slowed| Line::new(Tone::Warn, "throttle", &[slowed])));
    let ordered = report.ordered_max_writes_per_second.map(|most| format!("at most {most} writes/s, by an operator"));
    lines.extend(ordered.map(|ordered| Line::new(Tone::Warn, "throttle", &[&ordered])));
    let foreign = report.foreign_writes.as_ref().and_then(ForeignWritesReport::line);
    lines.extend(foreign.map(|line| plain("foreign", &[&shown_times(&line, zone)])));
    lines.extend(report.jobs.iter().map(|run| {
        let count = |name: &str, count: Option<u64>| count.map_or(String::new(), |count| format!("{count} {name}"));
        let (changed, failed) = (count("changed", run.changed), count("failed", run.failed));
        let at = run.scheduled_for.as_ref().map_or_else(|| "-".to_owned(), |at| shown_text(at, zone));
        let is_wrong = run.outcome == "failed" || run.failed.is_some_and(|failed| failed > 0);
        Line::new(warn_if(is_wrong), "job", &[&run.job, &at, &run.outcome, &changed, &failed])
    }));
    let names = std::iter::once("last events").chain(std::iter::repeat(""));
    lines.extend(names.zip(&report.events).map(|(name, event)| plain(name, &[&event_text(event, zone)])));
    lines
}

/// One line for each instance, and one that says that there is no standby.
fn instances(instances: &[InstanceStatus], zone: Tz) -> Vec<Line> {
    let mut lines: Vec<Line> = instances.iter().map(|instance| instance_line(instance, zone)).collect();
    if !instances.is_empty() && !instances.iter().any(InstanceStatus::is_standby) {
        lines.push(plain("standby", &["none: no instance takes over if the leader ends"]));
    }
    lines
}

fn instance_line(instance: &InstanceStatus, zone: Tz) -> Line {
    let version =
        instance.version.as_ref().map_or_else(|| "version unknown".to_owned(), |own| format!("version {own}"));
    let since = instance.since.as_ref().map_or_else(String::new, |at| format!("since {}", shown_text(at, zone)));
    let seen = instance.last_seen_seconds.map_or_else(String::new, |seconds| format!("seen {seconds} s ago"));
    let tone = warn_if(instance.is_silent());
    Line::new(tone, "instance", &[&instance.name, &instance.role.replace('_', " "), &version, &since, &seen])
}

fn position(position: Option<&PositionStatus>, zone: Tz) -> Vec<Line> {
    let Some(position) = position else { return vec![plain("position", &["none yet"])] };
    let age = length_text(Duration::from_secs(position.age_seconds));
    let headroom = match (position.headroom_seconds, position.oplog_is_young) {
        _ if position.in_oplog == Some(false) => "none: the oplog no longer has the position".to_owned(),
        (Some(seconds), _) => format!("{} until it falls off the oplog", length_text(Duration::from_secs(seconds))),
        (None, Some(_)) => YOUNG_OPLOG.to_owned(),
        (None, None) => "unknown: the user may not read the oplog".to_owned(),
    };
    let at = shown_text(&position.time, zone);
    vec![
        plain("position", &[&at, &format!("{age} old, {}", counted(position.events, "event", "events"))]),
        plain("headroom", &[&headroom]),
    ]
}

fn leader_text(report: &StatusReport) -> String {
    match &report.leader {
        Some(LeaderStatus { name, term, lag_seconds, last_heard_seconds, is_silent }) => {
            let heard = last_heard_seconds.map_or_else(String::new, |seconds| format!(", last heard {seconds} s ago"));
            match lag_seconds {
                Some(lag) => format!("{name}, term {term}, {lag:.1} s behind{heard}"),
                None if *is_silent => format!("{name}, term {term}{heard}"),
                None => format!("{name}, term {term}, no answer from its stream yet{heard}"),
            }
        }
        None => "none: no instance runs".to_owned(),
    }
}

fn event_text(event: &Document, zone: Tz) -> String {
    // The time in UTC would leave no room for the event; `events` has it.
    let at = event.get_datetime("at").map(|at| shown(*at, zone)).unwrap_or_default();
    let at = at.split(' ').next().unwrap_or_default();
    format!("{at}  {}  {}", event.get_str("kind").unwrap_or_default(), fields_text(event))
}
