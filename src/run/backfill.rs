//! The command `backfill`: touches recruiters through the same stages as the stream. A dry run only counts
//! what would be written; else whoever leads does the work ([`super::submit`]), and this shows its progress.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use bson::{Document, oid::ObjectId};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::apply::Apply;
use super::dry_run::DryRun;
use super::lead;
use super::requests::{Order, Outcome, count};
use super::submit::ask;
use super::tasks::{Group, Task};
use crate::app::{App, Refusal};
use crate::cli::{BackfillArguments, Exit};
use crate::clock;
use crate::error::Failure;
use crate::fetch::raw;
use crate::phase::{Phase, state};
use crate::plan::Touch;
use crate::source::event::WatchedCollection;
use crate::source::scan;
use crate::write::Writer;
use crate::write::dead_letters::EventPosition;

/// Runs the command; prints its result on the standard output.
///
/// # Errors
/// A [`Refusal`] when the database fails for good.
pub async fn backfill(app: App, arguments: BackfillArguments) -> Result<Exit, Refusal> {
    let work = Backfill { app, arguments };
    if work.arguments.dry_run {
        return work.run_dry().await;
    }
    let bar = work.bar().await?;
    let BackfillArguments { recruiter, active_only, .. } = work.arguments;
    let order = Order::Backfill { recruiter, active_only };
    let outcome = ask(&work.app, &order, |request| bar.set_position(count(&request.progress, "recruiters"))).await;
    bar.finish_and_clear();
    match outcome? {
        Some(Outcome { done: true, details }) => {
            work.print(&details);
            Ok(Exit::Done)
        }
        Some(refused) => Err(Refusal::of(&refused)),
        None => Ok(Exit::Interrupted),
    }
}

/// Counts what touching the recruiters that `filter` selects would write: how many they are, and what of their offers.
/// `show` is told how many were looked at.
///
/// # Errors
/// A [`Failure`] that is not about one document.
pub async fn run_dry(
    app: &App,
    phase: Phase,
    filter: &Document,
    stop: &CancellationToken,
    show: impl Fn(u64),
) -> Result<(u64, DryRun), Failure> {
    let mut stages = lead::stages(app, phase, Writer::free(&app.database)).await?;
    stages.dry_run = Some(DryRun::default());
    let mut apply = Apply::new(stages);
    let (mut other, mut after, mut recruiters) = (None, None, 0);
    while !stop.is_cancelled() {
        let place = EventPosition::of_scan(clock::now());
        let (last, count) = apply.note_others(WatchedCollection::Recruiters, filter, other.as_ref(), &place).await?;
        other = last;
        recruiters += count;
        if other.is_none() {
            break;
        }
        show(recruiters);
    }
    while !stop.is_cancelled() {
        let ids = scan::ids_after(&app.database, WatchedCollection::Recruiters.name(), filter, after).await?;
        after = ids.last().copied();
        if after.is_none() {
            break;
        }
        let touches: BTreeMap<ObjectId, Touch> = ids.iter().map(|id| (*id, Touch::All)).collect();
        let now = clock::now();
        Box::pin(apply.touch(&touches, &EventPosition::of_scan(now))).await?;
        recruiters += ids.len() as u64;
        show(recruiters);
    }
    Ok((recruiters, apply.stages.dry_run.take().unwrap_or_default()))
}

struct Backfill {
    app: App,
    arguments: BackfillArguments,
}

impl Backfill {
    /// Counts what would be written.
    async fn run_dry(&self) -> Result<Exit, Refusal> {
        let stop = CancellationToken::new();
        let mut group = Group::new(&stop);
        group.spawn(Task::Signals, crate::app::signals(group.stop.clone()));
        let current = state::load(&self.app.database, self.app.settings.phase.initial).await?;
        let bar = self.bar().await?;
        let show = |recruiters| bar.set_position(recruiters);
        let (recruiters, dry_run) = run_dry(&self.app, current.phase, &self.filter(), &group.stop, show).await?;
        bar.finish_and_clear();
        if group.stop.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        self.print_dry_run(recruiters, &dry_run);
        Ok(Exit::Done)
    }

    fn filter(&self) -> Document {
        scan::backfill_filter(self.arguments.recruiter, self.arguments.active_only)
    }

    /// A bar with rate and time left, on a terminal only.
    async fn bar(&self) -> Result<ProgressBar, Failure> {
        if !std::io::stderr().is_terminal() || self.arguments.json {
            return Ok(ProgressBar::hidden());
        }
        let recruiters = raw(&self.app.database, WatchedCollection::Recruiters.name());
        let total = recruiters.count_documents(self.filter()).await.map_err(Failure::Read)?;
        let bar = ProgressBar::new(total);
        let template = "{bar:40} {pos}/{len} recruiters, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Ok(bar)
    }

    #[expect(clippy::print_stdout, reason = "what the command is asked for")]
    fn print(&self, details: &Document) {
        let of = |field: &str| count(details, field);
        let (recruiters, created, changed) = (of("recruiters"), of("created"), of("changed"));
        let (unchanged, dead) = (of("unchanged"), of("dead_letters"));
        match self.arguments.json {
            true => println!(
                "{}",
                json!({ "recruiters": recruiters, "created": created, "changed": changed, "unchanged": unchanged,
                    "dead_letters": dead })
            ),
            false => println!(
                "{recruiters} recruiters: {created} offers created, {changed} changed, {unchanged} unchanged; \
                 {dead} dead letters"
            ),
        }
    }

    #[expect(clippy::print_stdout, reason = "what the command is asked for")]
    fn print_dry_run(&self, recruiters: u64, dry_run: &DryRun) {
        let dead: BTreeMap<&str, u64> =
            dry_run.dead_letters.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        if self.arguments.json {
            let report = json!({
                "dry_run": true, "recruiters": recruiters, "created": dry_run.created,
                "changed": dry_run.changed, "unchanged": dry_run.unchanged, "jobs_gone": dry_run.jobs_gone,
                "fields": dry_run.fields, "dead_letters": dead,
            });
            println!("{report}");
            return;
        }
        println!(
            "dry run: {} recruiters; {} offers would be created, {} changed, {} stand as they are; {} jobs are gone",
            recruiters, dry_run.created, dry_run.changed, dry_run.unchanged, dry_run.jobs_gone
        );
        dry_run.fields.iter().for_each(|(field, count)| println!("  {field}: {count}"));
        dead.iter().for_each(|(reason, count)| println!("  dead letters, {reason}: {count}"));
    }
}
