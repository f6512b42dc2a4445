//! The command `verify` (spec 06), which compares offers with their recruiters. With `--repair`, the leader carries out
//! a resync when there are differences, and the comparison is repeated.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use bson::oid::ObjectId;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::backfill::require_recruiter;
use super::time::TimeName;
use super::values;
use crate::context::Context;
use crate::counted::counted;
use crate::json_output::JsonForm;
use crate::maintenance::stored_commands::{Command, CommandOutcome};
use crate::model::ids::RecruiterId;
use crate::phase::state;
use crate::progress::{bar, tell};
use crate::refusal::{Exit, Refusal};
use crate::service::submit::submit;
use crate::tasks::{Group, Task, signals};
use crate::verify::report::VerificationReport;
use crate::verify::{self, Part};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Compare only this number of recruiters, chosen at random.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// Compare only this recruiter. `backfill --recruiter` repairs it.
    #[arg(long, value_name = "ID", value_parser = values::object_id, conflicts_with_all = ["sample", "since", "repair"])]
    pub recruiter: Option<ObjectId>,
    /// Compare only what changed since this time: recruiters by their dates and those of their jobs, offers by
    /// `updated_at`.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["sample", "repair"])]
    pub since: Option<TimeName>,
    /// Repair the differences with a resync, and compare again.
    #[arg(long)]
    pub repair: bool,
    /// Write the report as JSON to this file too. With `-`, print it in place of the table.
    #[arg(long, value_name = "FILE", value_parser = values::file_to_write)]
    pub report: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command and prints its report on standard output.
///
/// # Errors
/// A [`Refusal`] when the database fails for good, when the report cannot be written, or when the phase does not allow
/// a repair.
pub async fn verify(context: Context, arguments: VerifyArguments) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let work = Verify { context, arguments, stop: group.stop.clone() };
    if !work.arguments.repair {
        let report = work.compare().await?;
        return work.tell(&report);
    }
    let before = work.compare().await?;
    if before.differences == 0 || work.stop.is_cancelled() {
        return work.tell(&before);
    }
    let differences =
        counted(before.differences, "difference: a resync repairs it", "differences: a resync repairs them");
    tell(&differences);
    // The repair is a resync: it touches every recruiter and then handles the removals.
    match submit(&work.context, &Command::Repair, |_| {}).await? {
        CommandOutcome { done: true, .. } => {}
        refused => return Err(refused.refusal()),
    }
    let mut after = work.compare().await?;
    after.before_repair = Some(before.differences);
    work.tell(&after)
}

struct Verify {
    context: Context,
    arguments: VerifyArguments,
    stop: CancellationToken,
}

impl Verify {
    /// Runs one verification: of everything, or of what the arguments select.
    async fn compare(&self) -> Result<VerificationReport, Refusal> {
        let (context, stop) = (&self.context, self.stop.clone());
        let phase = state::load(&context.database, context.settings.phase.initial).await?.phase;
        let VerifyArguments { sample, recruiter, since, .. } = self.arguments;
        if let Some(count) = sample {
            return Ok(verify::sample(context, phase, stop, count).await?);
        }
        let part = match (recruiter, since) {
            (Some(id), _) => {
                require_recruiter(context, id).await?;
                Part::Recruiter(RecruiterId(id))
            }
            (None, Some(since)) => Part::Since(since.resolve(context).await?),
            (None, None) => {
                let bar = self.bar().await?;
                let report = verify::full(context, phase, stop, true, &bar).await;
                bar.finish_and_clear();
                return Ok(report?);
            }
        };
        Ok(verify::part(context, phase, stop, part).await?)
    }

    /// A progress bar with rate and time left; hidden outside a terminal.
    async fn bar(&self) -> Result<ProgressBar, Refusal> {
        // Nobody needs the count where nobody sees the bar.
        if !std::io::stderr().is_terminal() {
            return Ok(ProgressBar::hidden());
        }
        let shown = bar(verify::length(&self.context).await?, "{pos}/{len} documents, {per_sec}, {eta} left");
        shown.tick();
        Ok(shown)
    }

    /// Prints the report, and writes it to the file of `--report`.
    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn tell(&self, report: &VerificationReport) -> Result<Exit, Refusal> {
        if self.stop.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        let json = format!("{:#}", JsonForm::Verification.document(json!(report)));
        let file = self.arguments.report.as_ref().filter(|file| file.as_os_str() != "-");
        if let Some(file) = file {
            std::fs::write(file, format!("{json}\n")).map_err(|error| {
                let message = format!("{}: cannot be written: {error}; choose another file", file.display());
                Refusal::new(Exit::Usage, message)
            })?;
        }
        // A report on the standard output takes the place of the table.
        if self.arguments.json || (self.arguments.report.is_some() && file.is_none()) {
            println!("{json}")
        } else {
            println!("{}", report.table())
        }
        Ok(if report.differences == 0 { Exit::Done } else { Exit::Findings })
    }
}
