//! The commands `phase show`, `phase set` and `phase history`. `phase show` answers whether the next step is allowed,
//! and at the end whether the service may be switched off (spec 04).

use bson::DateTime;
use chrono_tz::Tz;
use clap::Subcommand;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::table::table;
use super::{phase_certificate, values};
use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::maintenance::stored_commands::{Command, CommandOutcome};
use crate::mongo::server_clock::server_time;
use crate::phase::late_writes::{LateWrites, LateWritesReport};
use crate::phase::state::{self, Current, RecordedStep};
use crate::phase::step_conditions::{Condition, conditions};
use crate::phase::{Phase, StepDirection};
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::service::submit::submit;
use crate::shown_time::{shown, shown_times};
use crate::verify;
use crate::verify::only_in_recruiters::OnlyInRecruiters;

/// The commands under `phase`.
#[derive(Debug, Subcommand)]
pub enum PhaseCommand {
    /// Print the phase, since when, what it means, and the conditions for the next one.
    #[command(after_help = "Example:\n  stream-processor phase show --json")]
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make one step forward or back: sync, dual-write, shadow, retired.
    ///
    /// The step is refused while a condition is not met; the answer names each condition. A step back from shadow or
    /// retired compares everything first.
    #[command(after_help = "Example:\n  stream-processor phase set dual-write")]
    Set {
        /// The phase to enter.
        #[arg(value_name = "PHASE", value_parser = values::phase)]
        phase: Phase,
        /// Override unmet conditions; the history records them.
        #[arg(long, requires = "reason")]
        force: bool,
        /// The reason, for the history.
        #[arg(long, value_name = "TEXT", value_parser = values::reason)]
        reason: Option<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Certify whether `recruiters` may be removed, or check such a certificate against the database.
    ///
    /// Reads all recruiters and offers, and writes nothing. The exit code is 0 whatever the verdict says.
    #[command(after_help = "Example:\n  stream-processor phase certificate --out certificate.json")]
    Certificate(phase_certificate::CertificateArguments),
    /// Print every step so far: who, when, from where to where, why.
    #[command(after_help = "Example:\n  stream-processor phase history --json")]
    History {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when the step is not allowed, or when the database fails for good.
pub async fn phase(context: Context, command: PhaseCommand) -> Result<Exit, Refusal> {
    match command {
        PhaseCommand::Show { json } => show(&context, json).await,
        PhaseCommand::History { json } => history(&context, json).await,
        PhaseCommand::Certificate(arguments) => phase_certificate::run(&context, arguments).await,
        PhaseCommand::Set { phase, force, reason, json } => set(&context, phase, force, reason, json).await,
    }
}

async fn load(context: &Context) -> Result<Current, Failure> {
    state::load(&context.database, context.settings.phase.initial).await
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn show(context: &Context, as_json: bool) -> Result<Exit, Refusal> {
    let current = load(context).await?;
    let next = current.phase.next();
    let now = server_time(&context.database).await?;
    let facts = state::facts(&context.database, &current, None, now).await?;
    let conditions = next.map(|next| conditions(&facts, next)).unwrap_or_default();
    // A count reads all recruiters, so it is made only where it matters: before the step to `retired`.
    let alone = match current.phase {
        Phase::Shadow => Some(verify::only_in_recruiters(context, &CancellationToken::new()).await?),
        Phase::Sync | Phase::DualWrite | Phase::Retired => None,
    };
    let late = LateWrites::read(&context.database, &current).await?.map(|late| late.report());
    let state = Shown { current: &current, next, conditions: &conditions, alone, late };
    if as_json {
        JsonForm::PhaseShow.print(state.as_value())
    } else {
        println!("{}", shown_times(&state.as_text(), context.time_zone))
    }
    Ok(Exit::Done)
}

/// The phase, the conditions of the next step and what concerns it, as `phase show` prints them.
struct Shown<'a> {
    current: &'a Current,
    next: Option<Phase>,
    conditions: &'a [Condition],
    /// What exists in `recruiters` alone; only before the step to `retired`.
    alone: Option<OnlyInRecruiters>,
    /// The late writes; only in `retired`.
    late: Option<LateWritesReport>,
}

impl Shown<'_> {
    fn as_value(&self) -> serde_json::Value {
        let Self { current, next, conditions, alone, late } = self;
        let row = current.phase.row();
        json!({
            "phase": current.phase.word(),
            "since": current.since.and_then(text),
            "authority": row.authority,
            "stream": row.stream,
            "ticker": row.ticker,
            "verification": row.verification,
            "contradicted_by_tombstone": current.contradicted,
            "next": next.map(Phase::word),
            "conditions": conditions,
            "only_in_recruiters": alone.as_ref().map(OnlyInRecruiters::counts_as_json),
            "late_writes": late,
            "may_go_on": next.is_some() && conditions.iter().all(|condition| condition.met),
        })
    }

    fn as_text(&self) -> String {
        let Self { current, next, conditions, alone, late } = self;
        let row = current.phase.row();
        let since = current.since.map_or_else(
            || "no instance has run yet".to_owned(),
            |since| format!("since {}", text(since).unwrap_or_default()),
        );
        let mut lines = vec![
            format!("phase         {} ({since})", current.phase.word()),
            format!("authority     {}", row.authority),
            format!("stream        {}", row.stream),
            format!("ticker        {}", row.ticker),
            format!("verification  {}", row.verification),
        ];
        if current.contradicted {
            lines.push(
            "The document of the phase was changed or lost, but a tombstone says that the database was retired: no \
             offer is written. `phase set shadow` goes back."
                .to_owned(),
        );
        }
        if let Some(alone) = alone {
            lines.push("\nonly in recruiters now, would be lost with it".to_owned());
            lines.extend(alone.lines(true));
        }
        if let Some(late) = late {
            lines.push("\nwritten to recruiters since retired".to_owned());
            lines.extend(late.lines().into_iter().map(|line| format!("  {line}")));
        }
        match next {
            Some(next) => lines.push(format!("\nconditions for {}", next.word())),
            None => lines.push("\nNo phase follows: the service may be switched off.".to_owned()),
        }
        for Condition { condition, met, found } in conditions.iter() {
            lines.push(format!("  {} {condition}: {found}", if *met { '✓' } else { '✗' }));
        }
        lines.join("\n")
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn history(context: &Context, as_json: bool) -> Result<Exit, Refusal> {
    let steps = state::history(&context.database).await?;
    if as_json {
        let steps: Vec<serde_json::Value> = steps.iter().map(step_as_value).collect();
        JsonForm::PhaseHistory.print(json!({ "steps": steps }));
        return Ok(Exit::Done);
    }
    if steps.is_empty() {
        println!("no step yet: the first leader enters {}", context.settings.phase.initial.word());
    }
    let rows: Vec<[String; 5]> = steps.iter().flat_map(|step| step_as_rows(step, context.time_zone)).collect();
    table(["TIME", "FROM", "TO", "WHO", "REASON"], &rows).iter().for_each(|line| println!("{line}"));
    Ok(Exit::Done)
}

fn step_as_value(step: &RecordedStep) -> serde_json::Value {
    json!({
        "at": step.at.and_then(text), "who": step.who, "from": step.from, "to": step.to, "reason": step.reason,
        "overridden": step.overridden,
    })
}

/// The row of a step, and one for each condition that it overrode.
fn step_as_rows(step: &RecordedStep, zone: Tz) -> Vec<[String; 5]> {
    let [to, who, reason] = [&step.to, &step.who, &step.reason].map(|text| text.clone().unwrap_or_default());
    let at = step.at.map_or_else(String::new, |at| shown(at, zone));
    let from = step.from.clone().unwrap_or_else(|| "-".to_owned());
    let overridden = step.overridden.iter().map(|condition| {
        let [at, from, to, who] = [const { String::new() }; 4];
        [at, from, to, who, format!("overridden: {condition}")]
    });
    std::iter::once([at, from, to, who, reason]).chain(overridden).collect()
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn set(
    context: &Context,
    to: Phase,
    force: bool,
    reason: Option<String>,
    as_json: bool,
) -> Result<Exit, Refusal> {
    let current = load(context).await?;
    if current.phase == to {
        if as_json {
            JsonForm::PhaseSet.print(json!({ "phase": to.word(), "changed": false }));
        } else {
            println!("the phase is {} already; nothing was done", to.word());
        }
        return Ok(Exit::Done);
    }
    if current.phase.way_to(to) == Some(StepDirection::Back) && !current.phase.writes_offers() {
        say_what_differs(context, current.phase, to, force).await?;
    }
    let command = Command::SetPhase { to: to.word().to_owned(), force, reason };
    match submit(context, &command, |_| {}).await? {
        CommandOutcome { done: true, .. } => {
            if as_json {
                JsonForm::PhaseSet.print(json!({ "phase": to.word(), "changed": true }))
            } else {
                println!("the phase is now {}; a running leader already follows it", to.word())
            }
            Ok(Exit::Done)
        }
        refused => {
            let mut refusal = refused.refusal();
            refusal.message.push_str("; --force --reason \"…\" overrides conditions; the history records it");
            Err(refusal)
        }
    }
}

/// Prints the differences between recruiters and offers before a step back from `shadow` or `retired`. `jobs_partners`
/// may have newer data then. With differences, a step to a phase in which the stream writes offers is refused without
/// `force`, and nothing is overwritten.
async fn say_what_differs(context: &Context, from: Phase, to: Phase, force: bool) -> Result<(), Refusal> {
    let report = verify::compare_as_in(context, from, to).await?;
    complain(&report.table());
    if report.differences == 0 || !to.writes_offers() || force {
        return Ok(());
    }
    let message = format!(
        "{} between recruiters and offers (see above). In phase {} the stream would write the values of \
         recruiters where the offer is not newer. Correct them, or use --force --reason \"…\". Nothing was changed",
        counted(report.differences, "difference", "differences"),
        to.word()
    );
    Err(Refusal::new(Exit::Findings, message))
}

#[expect(clippy::print_stderr, reason = "the differences come before the answer")]
fn complain(table: &str) {
    eprintln!("{table}");
}

fn text(date: DateTime) -> Option<String> {
    date.try_to_rfc3339_string().ok()
}
