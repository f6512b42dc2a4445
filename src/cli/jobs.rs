//! The commands `jobs list`, `jobs run` and `jobs history`, and the commands `anonymize user` and `obfuscate`, which
//! only run by hand (spec 05). The output has ids, names of fields and counts, never values of documents.

use bson::{Bson, DateTime};
use chrono_tz::Tz;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::table::table;
use super::{AnonymizeCommand, JobsCommand, ObfuscateArguments, RunJobArguments};
use crate::context::Context;
use crate::interruption::{Interruption, Unfinished};
use crate::json_output::JsonForm;
use crate::maintenance::stored_commands::{Command, CommandOutcome, count};
use crate::model::ids::UserId;
use crate::phase::state;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::service::submit::submit;
use crate::shown_time::shown;
use crate::tasks::signals;
use crate::tasks::{Group, Task};
use crate::ticker::job_context::{JobContext, LineListener};
use crate::ticker::jobs::obfuscate;
use crate::ticker::ledger::{self, RunEnd};
use crate::ticker::overview::{self, Overview};
use crate::ticker::report::{JobReport, ReportLine};
use crate::ticker::stored_run::{self, StoredLine, StoredRun};
use crate::ticker::ticker_command::JobOrder;

/// Runs a command about time-based jobs and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when the phase leaves the job nothing to do, or when the database fails for
/// good.
pub async fn run(context: Context, command: JobsCommand) -> Result<Exit, Refusal> {
    match command {
        JobsCommand::List { json } => list(&context, json).await,
        JobsCommand::Run(arguments) => run_job(&context, &arguments).await,
        JobsCommand::History { job, limit, json, ndjson } => {
            let runs = stored_run::history(&context.database, job.as_deref(), limit.into()).await?;
            print_history(&runs, context.time_zone, json, ndjson);
            Ok(Exit::Done)
        }
    }
}

/// Anonymises one user, whatever the date of the user's last action.
///
/// # Errors
/// The errors of [`run`].
pub async fn anonymize(context: Context, command: AnonymizeCommand) -> Result<Exit, Refusal> {
    let AnonymizeCommand::User { id, dry_run, json } = command;
    let (user, form) = (UserId(id), if json { Form::Json } else { Form::Text });
    if dry_run {
        Box::pin(run_here(&context, JobOrder::AnonymizeUser(user), None, form)).await
    } else {
        submit_and_print(&context, &Command::AnonymizeUser { user }, form).await
    }
}

/// Replaces the personal data in our offers by fake values.
///
/// # Errors
/// The errors of [`run`]; a [`Refusal`] in production, and on a database that `obfuscate.allowed_databases` does not
/// name.
pub async fn obfuscate(context: Context, arguments: ObfuscateArguments) -> Result<Exit, Refusal> {
    if let Some(reason) = obfuscate::refusal(&context).await? {
        return Err(Refusal::new(Exit::Findings, reason));
    }
    let form = if arguments.json { Form::Json } else { Form::Text };
    if arguments.dry_run {
        Box::pin(run_here(&context, JobOrder::Obfuscate, None, form)).await
    } else {
        submit_and_print(&context, &Command::Obfuscate, form).await
    }
}

/// The output format of lines and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Csv,
}

async fn run_job(context: &Context, arguments: &RunJobArguments) -> Result<Exit, Refusal> {
    let RunJobArguments { job, dry_run, now, json, csv } = arguments;
    let form = match (json, csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Text,
    };
    let now = match now {
        Some(now) => Some(now.resolve(context).await?),
        None => None,
    };
    if *dry_run || job.only_reads() {
        return Box::pin(run_here(context, JobOrder::Job(*job), now, form)).await;
    }
    submit_and_print(context, &Command::RunJob { job: job.name().to_owned(), now }, form).await
}

/// Runs a dry run, or a job that only reads, in this process, beside a running instance. Each line is printed as it
/// comes.
async fn run_here(context: &Context, job_order: JobOrder, now: Option<DateTime>, form: Form) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let phase = state::load(&context.database, context.settings.phase.initial).await?.phase;
    let by_clock = context.clock.now(&context.database).await?;
    let now = now.unwrap_or(by_clock);
    let mut job = JobContext {
        context: context.clone(),
        now,
        scheduled_for: now,
        previous: ledger::previous(&context.database, job_order.name(), by_clock).await?,
        phase,
        report: JobReport::default(),
        stop: group.stop.clone(),
        write_access: None,
        listener: match form {
            Form::Text => LineListener::Prints(print_text),
            Form::Json => LineListener::Collects(Vec::new()),
            Form::Csv => LineListener::Prints(print_csv),
        },
        stuck: 0,
    };
    if !job_order.applies_in(phase) {
        let message = format!("{} has nothing to do in this phase; see `phase show`", job_order.name());
        return Err(Refusal::new(Exit::Findings, message));
    }
    if let Some(lacking) = job_order.lacks(&context.target.schema()) {
        let message = format!("skipped: {lacking}; run `stream-processor setup` to allow it");
        return Err(Refusal::new(Exit::Findings, message));
    }
    match job_order.run(&mut job).await {
        Err(Unfinished::Interrupted(Interruption::Stopping)) => return Ok(Exit::Interrupted),
        done => done?,
    }
    let end = RunEnd::of(&job.report);
    let run = StoredRun::of(&ledger::details(&end, &job.report));
    let is_dry_run = !matches!(job_order, JobOrder::Job(job) if job.only_reads());
    // The listener has already printed every line, except for JSON.
    let lines = match job.listener {
        LineListener::Collects(lines) => lines.iter().map(|line| json!(line)).collect(),
        LineListener::Prints(_) | LineListener::Nobody => Vec::new(),
    };
    summarize(&run, lines, is_dry_run, form);
    Ok(exit_of(&run))
}

/// Has the leader carry out a command that writes, and prints the result. Without a leader, this process takes the
/// lease and carries the command out.
async fn submit_and_print(context: &Context, command: &Command, form: Form) -> Result<Exit, Refusal> {
    match submit(context, command, |_| {}).await? {
        CommandOutcome { done: true, details } => {
            let run = StoredRun::of(&details);
            let lines = print_stored(&run, form);
            summarize(&run, lines, false, form);
            Ok(exit_of(&run))
        }
        refused => Err(refused.refusal()),
    }
}

fn exit_of(run: &StoredRun) -> Exit {
    match run.outcome.as_deref() {
        Some("done") if run.failed.unwrap_or_default() == 0 => Exit::Done,
        _ => Exit::Findings,
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print_text(line: &ReportLine) {
    println!("{}  {}  {}", line.id, line.what, line.fields.join(", "));
}

/// Prints a line as comma-separated values. Ids, words and names of fields need no quotes.
#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print_csv(line: &ReportLine) {
    println!("{},{},{}", line.id, line.what, line.fields.join(" "));
}

/// Prints the lines that the ledger kept, and returns those that belong into the JSON document.
#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print_stored(run: &StoredRun, form: Form) -> Vec<Value> {
    let mut lines = Vec::new();
    for StoredLine { id, what, fields } in run.report_lines() {
        match form {
            Form::Text => println!("{id}  {what}  {}", fields.join(", ")),
            Form::Json => lines.push(json!({ "id": id, "what": what, "fields": fields })),
            Form::Csv => println!("{id},{what},{}", fields.join(" ")),
        }
    }
    lines
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn summarize(run: &StoredRun, lines: Vec<Value>, is_dry_run: bool, form: Form) {
    let [matched, changed, failed] = counts(run);
    let outcome = run.outcome.as_deref().unwrap_or_default();
    match form {
        Form::Json => {
            let skipped: Value = Bson::Document(run.skipped.clone()).into_relaxed_extjson();
            let changed_as: Value = Bson::Document(run.changed_as.clone()).into_relaxed_extjson();
            JsonForm::JobsRun.print(json!({
                "outcome": outcome, "dry_run": is_dry_run, "matched": matched, "changed": changed,
                "changed_as": changed_as, "failed": failed, "skipped": skipped, "lines": lines, "line_count": run.told,
                "error": run.error,
            }));
        }
        Form::Csv => {}
        Form::Text => {
            let would = if is_dry_run { "would be " } else { "" };
            println!("{outcome}: {matched} matched, {changed} {would}changed, {failed} failed");
            run.changed_as.keys().for_each(|kind| println!("  changed, {kind}: {}", count(&run.changed_as, kind)));
            run.skipped.keys().for_each(|reason| println!("  skipped, {reason}: {}", count(&run.skipped, reason)));
            run.error.iter().for_each(|error| println!("  {error}"));
        }
    }
}

/// The selected, changed and failed documents of a run.
fn counts(run: &StoredRun) -> [u64; 3] {
    [run.matched, run.changed, run.failed].map(Option::unwrap_or_default)
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn list(context: &Context, as_json: bool) -> Result<Exit, Refusal> {
    let jobs =
        overview::overview(&context.database, &context.settings.ticker, context.clock.now(&context.database).await?)
            .await?;
    if as_json {
        let jobs: Vec<Value> = jobs.iter().map(as_value).collect();
        JsonForm::JobsList.print(json!({ "jobs": jobs }));
        return Ok(Exit::Done);
    }
    let at = |time: Option<DateTime>| time.map_or_else(String::new, |time| shown(time, context.time_zone));
    let row = |job: &Overview| {
        let next = match job.next {
            Some(next) => shown(next, context.time_zone),
            None if job.enabled => "by hand only".to_owned(),
            None => "off".to_owned(),
        };
        let (last, result) = match (&job.running, &job.last) {
            (Some(run), _) => (at(run.started), "running".to_owned()),
            (None, Some(run)) => (at(run.scheduled_for), how(run)),
            (None, None) => (String::new(), "never run".to_owned()),
        };
        [job.job.to_string(), job.crons.join("; "), next, last, result]
    };
    let rows: Vec<[String; 5]> = jobs.iter().map(row).collect();
    table(["JOB", "SCHEDULE", "NEXT", "LAST", "RESULT"], &rows).iter().for_each(|line| println!("{line}"));
    if let Some(off) = jobs.iter().find(|job| !job.enabled) {
        println!("a job that is off runs by hand only; to turn it on, set ticker.jobs.{}.enabled = true", off.job);
    }
    Ok(Exit::Done)
}

fn as_value(job: &Overview) -> Value {
    json!({
        "job": job.job, "enabled": job.enabled, "cron": job.crons, "next": job.next.and_then(written),
        "last": job.last.as_ref().map(run_as_value), "running": job.running.as_ref().map(run_as_value),
    })
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print_history(runs: &[StoredRun], zone: Tz, as_json: bool, as_ndjson: bool) {
    if as_ndjson {
        runs.iter().for_each(|run| println!("{}", run_as_value(run)));
    } else if as_json {
        JsonForm::JobsHistory.print(json!({ "runs": runs.iter().map(run_as_value).collect::<Vec<Value>>() }));
    } else if runs.is_empty() {
        println!("no runs");
    } else {
        let row = |run: &StoredRun| {
            let time = run.scheduled_for.map_or_else(String::new, |time| shown(time, zone));
            let by = if run.by_hand { "by hand" } else { "schedule" };
            [time, run.job.clone(), by.to_owned(), how(run)]
        };
        let rows: Vec<[String; 4]> = runs.iter().map(row).collect();
        table(["TIME", "JOB", "BY", "RESULT"], &rows).iter().for_each(|line| println!("{line}"));
    }
}

fn how(run: &StoredRun) -> String {
    let outcome = run.outcome.as_deref().unwrap_or("not ended");
    let error = run.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    match run.started {
        Some(_) => {
            let [matched, changed, failed] = counts(run);
            format!("{outcome} ({matched} matched, {changed} changed, {failed} failed){error}")
        }
        None if run.occurrences > 1 => format!("{outcome} {} times{error}", run.occurrences),
        None => format!("{outcome}{error}"),
    }
}

fn run_as_value(run: &StoredRun) -> Value {
    let [matched, changed, failed] = counts(run);
    let lines = Bson::Array(run.lines.clone()).into_relaxed_extjson();
    json!({
        "job": run.job, "scheduled_for": run.scheduled_for.and_then(written), "by_hand": run.by_hand,
        "started": run.started.and_then(written), "finished": run.finished.and_then(written), "outcome": run.outcome,
        "matched": matched, "changed": changed, "failed": failed,
        "changed_as": Bson::Document(run.changed_as.clone()).into_relaxed_extjson(), "occurrences": run.occurrences,
        "skipped": Bson::Document(run.skipped.clone()).into_relaxed_extjson(), "error": run.error, "lines": lines,
    })
}

fn written(time: DateTime) -> Option<String> {
    time.try_to_rfc3339_string().ok()
}
