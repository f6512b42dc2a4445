//! The command `status` (spec 06). It shows the state of the whole service on one screen, read from the database.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use bson::{DateTime, doc};
use resume_tokens::{Checkpoint, HistoryEntry};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::arguments::StatusArguments;
use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::leader::halt::StoredHalt;
use crate::leader::lead::store;
use crate::lease;
use crate::maintenance::replay::{length_text, time_text};
use crate::maintenance::resync::StoredResync;
use crate::maintenance::stored_commands::{self, UnfinishedCommand};
use crate::model::names::GAPS;
use crate::model::names::gap_state::OPEN;
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::Oplog;
use crate::mongo::reads::collection;
use crate::phase::late_writes::{LateWrites, LateWritesReport};
use crate::phase::state;
use crate::phase::stored_verification::StoredVerification;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::source::cursor::operation_time;
use crate::status::verdict::{ServiceCondition, Verdict, VerdictFacts, problems, verdict};
use crate::tasks::signals;
use crate::tasks::{Group, Task};
use crate::ticker::stored_run::{self, StoredRun};
use crate::write::stored_dead_letter;

/// The time between two reports of `--watch`.
const PAUSE: Duration = Duration::from_secs(2);
/// The escape sequence that clears a terminal and goes to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Runs the command and prints the report on standard output, once or with `--watch` until Ctrl-C.
///
/// # Errors
/// A [`Refusal`] when the database cannot be read. `--watch` logs such a failure and goes on.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn status(context: Context, arguments: StatusArguments) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let clears = std::io::stdout().is_terminal() && !arguments.json;
    loop {
        match StatusReport::read(&context).await {
            Ok(status) => match (arguments.json, arguments.watch) {
                (true, true) => println!("{}", serde_json::json!(status)),
                (true, false) => println!("{:#}", serde_json::json!(status)),
                (false, true) if clears => println!("{CLEAR}{}", status.text()),
                (false, _) => println!("{}", status.text()),
            },
            // `--watch` goes on during an outage, so that its end is seen too.
            Err(failure) if arguments.watch => warn!(error = %failure, "the status could not be read; retrying"),
            Err(failure) => return Err(failure.into()),
        }
        if !arguments.watch {
            return Ok(Exit::Done);
        }
        tokio::select! {
            // Ctrl-C is the usual end of `--watch`, so the exit code says success.
            () = group.stop.cancelled() => return Ok(Exit::Done),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

#[derive(Debug, Serialize)]
struct StatusReport {
    verdict: Verdict,
    /// What is wrong, the cause of the verdict first.
    problems: Vec<String>,
    environment: &'static str,
    database: String,
    replica_set: String,
    phase: &'static str,
    phase_since: Option<String>,
    leader: Option<LeaderStatus>,
    position: Option<PositionStatus>,
    /// The mean rate of the last minutes, from the history of checkpoints.
    events_per_second: Option<f64>,
    oplog_window_seconds: Option<u64>,
    resync: Option<String>,
    open_gaps: u64,
    unfinished_commands: Vec<String>,
    dead_letters: BTreeMap<String, u64>,
    /// The fields that offers are written without.
    target_fields_omitted: Vec<&'static str>,
    last_verification: Option<VerificationStatus>,
    /// Writes to `recruiters` since the step to `retired`.
    late_writes: Option<LateWritesReport>,
    jobs: Vec<JobRun>,
}

#[derive(Debug, Serialize)]
struct LeaderStatus {
    name: String,
    term: i64,
    lag_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct PositionStatus {
    id: String,
    time: String,
    age_seconds: u64,
    headroom_seconds: Option<u64>,
    events: i64,
}

#[derive(Debug, Serialize)]
struct VerificationStatus {
    ended: String,
    differences: i64,
}

/// The last ended run of one time-based job.
#[derive(Debug, Serialize)]
struct JobRun {
    job: String,
    scheduled_for: Option<String>,
    outcome: String,
    changed: Option<u64>,
    failed: Option<u64>,
}

impl StatusReport {
    async fn read(context: &Context) -> Result<Self, Failure> {
        let (database, deployment) = (&context.database, &context.deployment);
        let phase = state::load(database, context.settings.phase.initial).await?;
        let (oplog, now) = (Oplog::measure(database).await?, operation_time(database).await?);
        // A checkpoint that cannot be read counts as none here; `doctor` tells the reason.
        let checkpoint = with_deadline(store(context).load()).await.ok().flatten();
        let position = checkpoint.as_ref().map(|checkpoint| {
            let time = checkpoint.cluster_time;
            PositionStatus {
                id: checkpoint.history_id(),
                time: time_text(time),
                age_seconds: u64::from(now.time.saturating_sub(time.time)),
                headroom_seconds: oplog.map(|oplog| oplog.headroom(time).as_secs()),
                events: checkpoint.events,
            }
        });
        let history = with_deadline(store(context).history(10)).await?;
        let leader = lease::current(database).await?;
        let is_led = leader.is_some();
        let gaps = with_deadline(collection(database, GAPS).count_documents(doc! { "state": OPEN })).await;
        let dead_letters = stored_dead_letter::count_by_reason(database).await?;
        let verification = with_deadline(StoredVerification::read(database)).await.map_err(Failure::Read)?;
        let late_writes = LateWrites::read(database, &phase).await?.map(|late| late.report());
        let judged = VerdictFacts::of_command(ServiceCondition {
            phase: phase.phase,
            is_halted: StoredHalt::read(database).await?.is_some(),
            is_led: leader.is_some(),
            leader_lag: leader.as_ref().and_then(|leader| leader.lag),
            dead_letters: dead_letters.values().sum(),
            differences: verification.as_ref().and_then(|last| last.differences),
            late_writes: late_writes.as_ref().map_or(0, |late| u64::try_from(late.total).unwrap_or_default()),
        });
        Ok(Self {
            verdict: verdict(&judged),
            problems: problems(&judged),
            environment: deployment.environment,
            database: deployment.database.clone(),
            replica_set: deployment.replica_set.clone(),
            phase: phase.phase.word(),
            phase_since: phase.since.and_then(date),
            leader: leader.map(|leader| LeaderStatus { name: leader.name, term: leader.term, lag_seconds: leader.lag }),
            position,
            // Without a leader nothing is read now, whatever the history of checkpoints says.
            events_per_second: checkpoint.filter(|_| is_led).and_then(|checkpoint| rate(&checkpoint, &history)),
            oplog_window_seconds: oplog.map(|oplog| oplog.window().as_secs()),
            resync: StoredResync::read(database)
                .await?
                .map(|resync| resync.stage.unwrap_or_else(|| "begun".to_owned())),
            open_gaps: gaps.map_err(Failure::Read)?,
            unfinished_commands: unfinished(context).await?,
            dead_letters,
            target_fields_omitted: context.target.schema().omitted().to_vec(),
            last_verification: verification.and_then(|last| {
                Some(VerificationStatus { ended: date(last.ended?)?, differences: last.differences? })
            }),
            late_writes,
            jobs: jobs(context).await?,
        })
    }

    fn text(&self) -> String {
        let problems = self.problems.iter().map(|problem| row("", &[problem]));
        let mut lines = vec![row("verdict", &[self.verdict.state.headline(), self.verdict.state.sentence()])];
        lines.extend(problems);
        lines.extend([
            row("deployment", &[self.environment, &self.database, &self.replica_set]),
            row("phase", &[self.phase, &self.phase_since.as_ref().map_or(String::new(), |at| format!("since {at}"))]),
            row("leader", &[&self.leader_text()]),
        ]);
        match &self.position {
            Some(position) => {
                let age = length_text(Duration::from_secs(position.age_seconds));
                lines.push(row("position", &[&position.time, &format!("{age} old, {} events", position.events)]));
                let headroom = position.headroom_seconds.map_or_else(
                    || "unknown: the user may not read the oplog".to_owned(),
                    |seconds| format!("{} until it falls off the oplog", length_text(Duration::from_secs(seconds))),
                );
                lines.push(row("headroom", &[&headroom]));
            }
            None => lines.push(row("position", &["none yet"])),
        }
        lines.extend(self.events_per_second.map(|rate| row("rate", &[&format!("{rate:.1} events/s lately")])));
        lines.extend(self.resync.as_ref().map(|stage| row("resync", &["running:", stage])));
        lines.extend((self.open_gaps > 0).then(|| row("gaps", &[&self.open_gaps.to_string(), "not repaired yet"])));
        lines.extend(self.unfinished_commands.iter().map(|command| row("command", &[command])));
        let all: u64 = self.dead_letters.values().sum();
        let reasons: Vec<String> =
            self.dead_letters.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        lines.push(row("dead letters", &[&all.to_string(), &reasons.join(", ")]));
        let omitted = self.target_fields_omitted.join(", ");
        lines.extend(
            (!omitted.is_empty()).then(|| row("omitted", &[&omitted, "(not in the validator of jobs_partners)"])),
        );
        lines.push(match &self.last_verification {
            Some(last) => row("verified", &[&last.ended, &format!("{} differences", last.differences)]),
            None => row("verified", &["never"]),
        });
        let late = self.late_writes.as_ref().map(LateWritesReport::lines).unwrap_or_default();
        let names = std::iter::once("late writes").chain(std::iter::repeat(""));
        lines.extend(names.zip(&late).map(|(name, line)| row(name, &[line])));
        lines.extend(self.jobs.iter().map(|run| {
            let count = |name: &str, count: Option<u64>| count.map_or(String::new(), |count| format!("{count} {name}"));
            let (changed, failed) = (count("changed", run.changed), count("failed", run.failed));
            row("job", &[&run.job, run.scheduled_for.as_deref().unwrap_or("-"), &run.outcome, &changed, &failed])
        }));
        lines.join("\n")
    }

    fn leader_text(&self) -> String {
        match &self.leader {
            Some(LeaderStatus { name, term, lag_seconds: Some(lag) }) => {
                format!("{name}, term {term}, {lag:.1} s behind")
            }
            Some(LeaderStatus { name, term, lag_seconds: None }) => {
                format!("{name}, term {term}, no answer from its stream yet")
            }
            None => "none: no instance runs".to_owned(),
        }
    }
}

fn row(name: &str, parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    format!("{name:<13} {}", parts.join("  "))
}

/// The mean number of events per second between the oldest entry of `history` and the checkpoint. `None` when there is
/// no entry, no time in between, or a lower count of events in the checkpoint than in the entry.
#[expect(clippy::cast_precision_loss, reason = "events and milliseconds of minutes")]
fn rate(checkpoint: &Checkpoint, history: &[HistoryEntry]) -> Option<f64> {
    let oldest = &history.last()?.checkpoint;
    let millis = checkpoint.updated_at.timestamp_millis() - oldest.updated_at.timestamp_millis();
    let events = checkpoint.events.checked_sub(oldest.events).filter(|events| *events >= 0)?;
    (millis > 0).then(|| events as f64 * 1_000.0 / millis as f64)
}

async fn unfinished(context: &Context) -> Result<Vec<String>, Failure> {
    let commands = stored_commands::unfinished(&context.database).await?;
    let text = |UnfinishedCommand { name, state, requested_at }: &UnfinishedCommand| {
        let asked = requested_at.timestamp_millis();
        let seconds = u64::try_from(clock::now().timestamp_millis() - asked).unwrap_or_default() / 1_000;
        format!("{name}  {state}, submitted {} ago", length_text(Duration::from_secs(seconds)))
    };
    Ok(commands.iter().map(text).collect())
}

async fn jobs(context: &Context) -> Result<Vec<JobRun>, Failure> {
    let runs = stored_run::last_ended(&context.database).await?;
    let run = |run: StoredRun| {
        Some(JobRun {
            job: Some(run.job).filter(|job| !job.is_empty())?,
            scheduled_for: run.scheduled_for.and_then(date),
            outcome: run.outcome?,
            changed: run.changed,
            failed: run.failed,
        })
    };
    Ok(runs.into_iter().filter_map(run).collect())
}

fn date(date: DateTime) -> Option<String> {
    date.try_to_rfc3339_string().ok()
}
