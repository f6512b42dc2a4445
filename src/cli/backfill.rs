//! The command `backfill`, which touches recruiters through the same stages as the stream. The leader carries the
//! command out, or this process when there is no leader ([`crate::service::submit`]); the progress is shown here. A dry
//! run always happens in this process and only counts the offers that would be written.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::replay_span::closed_elsewhere_text;
use super::selection::SelectionArguments;
use super::{backfill_mirror, values};
use crate::apply::dry_run::DryRun;
use crate::context::Context;
use crate::counted::counted;
use crate::doctor::platform::schema::refused_offers;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::maintenance::backfill_dry_run::run_dry;
use crate::maintenance::stored_commands::{Command, CommandOutcome, count};
use crate::model::ids::RecruiterId;
use crate::model::names::{LINKS, WatchedCollection};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::phase::state;
use crate::progress::bar;
use crate::refusal::{Exit, Refusal};
use crate::service::submit::submit;
use crate::source::scan;
use crate::tasks::{Group, Task, signals};

/// Arguments of `backfill`.
#[derive(Debug, Args)]
pub struct BackfillArguments {
    /// Only this recruiter.
    #[arg(long, value_name = "ID", value_parser = values::object_id, conflicts_with_all = ["ids", "since", "filter"])]
    pub recruiter: Option<ObjectId>,
    #[command(flatten)]
    pub selection: SelectionArguments,
    /// Only recruiters that are active.
    #[arg(long)]
    pub active_only: bool,
    /// The other direction: bring what our offers say into `recruiters`. For phase `shadow`.
    #[arg(long, conflicts_with_all = ["recruiter", "active_only", "ids", "since", "filter"])]
    pub mirror: bool,
    /// Count the writes, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when the phase does not allow the command, or the database fails for good.
pub async fn backfill(context: Context, arguments: BackfillArguments) -> Result<Exit, Refusal> {
    if arguments.mirror {
        return backfill_mirror::run(&context, arguments.dry_run, arguments.json).await;
    }
    if let Some(id) = arguments.recruiter {
        require_recruiter(&context, id).await?;
    }
    let selected = arguments.selection.filter(&context).await?;
    let work = Backfill { context, arguments, selected };
    if work.arguments.dry_run {
        return work.run_dry().await;
    }
    let shown = work.bar().await?;
    let BackfillArguments { recruiter, active_only, .. } = work.arguments;
    let command = match &work.selected {
        Some(filter) => {
            let filter = Bson::from(filter.clone()).into_canonical_extjson().to_string();
            Command::BackfillSelected { filter, active_only }
        }
        None => Command::Backfill { recruiter: recruiter.map(RecruiterId), active_only },
    };
    let outcome =
        submit(&work.context, &command, |stored| shown.set_position(count(&stored.progress, "recruiters"))).await;
    shown.finish_and_clear();
    match outcome? {
        CommandOutcome { done: true, details } => {
            work.print(&details);
            Ok(Exit::Done)
        }
        refused => Err(refused.refusal()),
    }
}

/// Refuses the id of a recruiter that nobody knows. A deleted recruiter with a link is known: its offers may be left.
///
/// # Errors
/// A [`Refusal`].
pub(super) async fn require_recruiter(context: &Context, id: ObjectId) -> Result<(), Refusal> {
    for name in [WatchedCollection::Recruiters.name(), LINKS] {
        let found = with_deadline(collection(&context.database, name).find_one(doc! { "_id": id })).await;
        if found.map_err(Failure::Read)?.is_some() {
            return Ok(());
        }
    }
    let message = format!("there is no recruiter {id} in `{}`; correct --recruiter", context.database.name());
    Err(Refusal::new(Exit::Findings, message))
}

struct Backfill {
    context: Context,
    arguments: BackfillArguments,
    /// The filter of `--ids`, `--since` and `--filter`.
    selected: Option<Document>,
}

impl Backfill {
    async fn run_dry(&self) -> Result<Exit, Refusal> {
        let stop = CancellationToken::new();
        let mut group = Group::new(&stop);
        group.spawn(Task::Signals, signals(group.stop.clone()));
        let current = state::load(&self.context.database, self.context.settings.phase.initial).await?;
        let bar = self.bar().await?;
        let show = |recruiters| bar.set_position(recruiters);
        let counted = run_dry(&self.context, current.phase, &self.filter(), &group.stop, show).await;
        bar.finish_and_clear();
        let (recruiters, dry_run) = counted?;
        if group.stop.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        // The count goes over all our offers, so it says nothing about some recruiters.
        let counting =
            async { if self.filter().is_empty() { refused_offers(&self.context).await.map(Some) } else { Ok(None) } };
        let refused = tokio::select! {
            () = group.stop.cancelled() => return Ok(Exit::Interrupted),
            refused = counting => refused?,
        };
        self.print_dry_run(recruiters, &dry_run, refused);
        Ok(Exit::Done)
    }

    fn filter(&self) -> Document {
        let filter = scan::backfill_filter(self.arguments.recruiter.map(RecruiterId), self.arguments.active_only);
        match &self.selected {
            Some(selected) => doc! { "$and": [filter, selected.clone()] },
            None => filter,
        }
    }

    /// A progress bar with rate and time left; hidden outside a terminal.
    async fn bar(&self) -> Result<ProgressBar, Failure> {
        // Nobody needs the count where nobody sees the bar.
        if !std::io::stderr().is_terminal() {
            return Ok(ProgressBar::hidden());
        }
        let recruiters = collection(&self.context.database, WatchedCollection::Recruiters.name());
        let total = recruiters.count_documents(self.filter()).await.map_err(Failure::Read)?;
        Ok(bar(total, "{pos}/{len} recruiters, {per_sec}, {eta} left"))
    }

    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn print(&self, details: &Document) {
        let of = |field: &str| count(details, field);
        let (recruiters, created, changed) = (of("recruiters"), of("created"), of("changed"));
        let (unchanged, dead) = (of("unchanged"), of("dead_letters"));
        if self.arguments.json {
            JsonForm::Backfill.print(json!({
                "recruiters": recruiters, "created": created, "changed": changed, "unchanged": unchanged,
                "dead_letters": dead,
            }))
        } else {
            println!(
                "{}: {} created, {changed} changed, {unchanged} unchanged; {}",
                counted(recruiters, "recruiter", "recruiters"),
                counted(created, "offer", "offers"),
                counted(dead, "dead letter", "dead letters")
            )
        }
    }

    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn print_dry_run(&self, recruiters: u64, dry_run: &DryRun, refused: Option<u64>) {
        let dead: BTreeMap<&str, u64> =
            dry_run.dead_letters.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        if self.arguments.json {
            JsonForm::BackfillDryRun.print(json!({
                "dry_run": true, "recruiters": recruiters, "created": dry_run.created,
                "changed": dry_run.changed, "unchanged": dry_run.unchanged, "jobs_gone": dry_run.jobs_gone,
                "fields": dry_run.fields, "reasons": dry_run.reasons_by_name(),
                "status_changes": dry_run.status_changes_by_name(), "dead_letters": dead,
                "refused_offers": refused, "closed_elsewhere": dry_run.closed_elsewhere.len(),
            }));
            return;
        }
        println!(
            "dry run: {}; {} would be created, {} changed, {} unchanged; {} removed",
            counted(recruiters, "recruiter", "recruiters"),
            counted(dry_run.created, "offer", "offers"),
            dry_run.changed,
            dry_run.unchanged,
            counted(dry_run.jobs_gone, "job", "jobs")
        );
        for (field, count) in &dry_run.fields {
            println!("  {field}: {count} ({})", dry_run.reasons_of(field));
        }
        dry_run.status_changes_by_name().iter().for_each(|(change, count)| println!("  status {change}: {count}"));
        dead.iter().for_each(|(reason, count)| println!("  dead letters, {reason}: {count}"));
        if !dry_run.closed_elsewhere.is_empty() {
            println!("  {}", closed_elsewhere_text(dry_run.closed_elsewhere.len()));
        }
        if let Some(refused) = refused.filter(|refused| *refused > 0) {
            println!(
                "  {refused} of our offers do not match the validator: the server refuses changes that leave them so, which \
                 the numbers above do not show"
            );
        }
    }
}
