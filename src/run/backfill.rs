//! The command `backfill`: touches recruiters through the same stages as the stream, with stored
//! progress, so that it goes on where a kill stopped it. It holds the lease while it works: beside a
//! running instance it would write older readings over newer ones.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use bson::{DateTime, Document, doc, oid::ObjectId};
use indicatif::{ProgressBar, ProgressStyle};
use mongodb::Database;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::apply::Apply;
use super::lead;
use super::lease::{Lease, STATE};
use super::rehearsal::Rehearsal;
use super::tasks::{Group, Task};
use crate::app::{App, Refusal};
use crate::cli::{BackfillArguments, Exit};
use crate::clock;
use crate::error::{Directive, Failure};
use crate::fetch::raw;
use crate::plan::Touch;
use crate::retry::Delays;
use crate::source::event::Collection;
use crate::source::scan;
use crate::write::dead_letters::Place;

/// What a backfill has done so far.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// The last recruiter that is done.
    after: Option<ObjectId>,
    recruiters: u64,
}

/// Runs the command; prints its result on the standard output.
///
/// # Errors
/// A [`Refusal`] when an instance is running, or the database fails for good.
pub async fn backfill(app: App, arguments: BackfillArguments) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, crate::app::signals(group.stop.clone()));
    let work = Backfill { app, arguments, stop: group.stop.clone() };
    if work.arguments.dry_run {
        let done = work.rehearse().await;
        group.stop.cancel();
        return done;
    }
    let lease = work.take_lease().await?;
    let (renewed, valid_until) = watch::channel(lease.valid_until);
    group.spawn(Task::Lease, lead::renew(lease.clone(), renewed, group.stop.clone()));
    let done = work.all(|| clock::instant() < *valid_until.borrow()).await;
    if lease.release().await.is_err() {
        tracing::warn!("the lease could not be given back; it ends by itself");
    }
    done
}

struct Backfill {
    app: App,
    arguments: BackfillArguments,
    stop: CancellationToken,
}

impl Backfill {
    async fn take_lease(&self) -> Result<Lease, Refusal> {
        let beside = "a backfill would write beside it: stop it first, then try again";
        let lease = self.app.take_lease(beside).await?;
        super::start::prepare(&self.app.database).await?;
        Ok(lease)
    }

    /// Counts what would be written.
    async fn rehearse(&self) -> Result<Exit, Refusal> {
        let mut stages = lead::stages(&self.app).await?;
        stages.rehearsal = Some(Rehearsal::default());
        let mut apply = Apply::new(stages);
        let done = self.walk(&mut apply, Progress::default(), || true).await?;
        let rehearsal = apply.stages.rehearsal.take().unwrap_or_default();
        self.print_rehearsal(&done, &rehearsal);
        Ok(if self.stop.is_cancelled() { Exit::Interrupted } else { Exit::Done })
    }

    async fn all(&self, may_write: impl Fn() -> bool) -> Result<Exit, Refusal> {
        let mut apply = Apply::new(lead::stages(&self.app).await?);
        let resumed = self.load().await?;
        if resumed.after.is_some() {
            tracing::info!(recruiters = resumed.recruiters, "going on where an earlier backfill was stopped");
        }
        let done = self.walk(&mut apply, resumed, may_write).await?;
        if self.stop.is_cancelled() {
            tracing::info!("interrupted; started again, it goes on from here");
            return Ok(Exit::Interrupted);
        }
        if self.keeps_progress() {
            let state = raw(&self.app.database, STATE);
            state.delete_one(doc! { "_id": "backfill" }).await.map_err(Failure::Write)?;
        }
        self.print(&done);
        Ok(Exit::Done)
    }

    async fn walk(
        &self,
        apply: &mut Apply,
        mut progress: Progress,
        may_write: impl Fn() -> bool,
    ) -> Result<Progress, Refusal> {
        let filter = scan::backfill_filter(self.arguments.recruiter, self.arguments.active_only);
        let bar = self.bar(&filter, progress.recruiters).await?;
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let began = clock::now();
        while !self.stop.is_cancelled() {
            if !may_write() {
                return Err(Failure::LeaseLost.into());
            }
            match self.step(apply, &filter, &progress, began).await {
                Ok(Some(next)) => {
                    progress = next;
                    delays.reset();
                    bar.set_position(progress.recruiters);
                }
                Ok(None) => break,
                Err(failure) if failure.directive() == Directive::Retry => {
                    tracing::warn!(error = %failure, "tried again");
                    tokio::time::sleep(delays.next_delay()).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        bar.finish_and_clear();
        Ok(progress)
    }

    /// The next recruiters; `None` when there are no more.
    async fn step(
        &self,
        apply: &mut Apply,
        filter: &Document,
        progress: &Progress,
        began: DateTime,
    ) -> Result<Option<Progress>, Failure> {
        let database = &self.app.database;
        let ids = scan::ids_after(database, Collection::Recruiters.name(), filter, progress.after).await?;
        let Some(last) = ids.last() else {
            return Ok(None);
        };
        let touches: BTreeMap<ObjectId, Touch> = ids.iter().map(|id| (*id, Touch::All)).collect();
        apply.stages.metrics.touches.with_label_values(&["backfill"]).inc_by(touches.len() as u64);
        apply.touch(&touches, &Place::of_scan(began, clock::now())).await?;
        apply.stages.count_dead_letters();
        let next = Progress { after: Some(*last), recruiters: progress.recruiters + ids.len() as u64 };
        if apply.stages.rehearsal.is_none() && self.keeps_progress() {
            self.store(&next).await?;
        }
        Ok(Some(next))
    }

    /// What distinguishes this backfill from one with other arguments.
    fn scope(&self) -> String {
        let recruiter = self.arguments.recruiter.map_or_else(|| "all".to_owned(), |id| id.to_hex());
        format!("{recruiter}, active only: {}", self.arguments.active_only)
    }

    /// One recruiter is done in one step; its command leaves the progress of another one alone.
    fn keeps_progress(&self) -> bool {
        self.arguments.recruiter.is_none()
    }

    async fn load(&self) -> Result<Progress, Failure> {
        let filter = doc! { "_id": "backfill", "scope": self.scope() };
        let stored = raw(&self.app.database, STATE).find_one(filter).await.map_err(Failure::Read)?;
        Ok(stored.map_or_else(Progress::default, |stored| Progress {
            after: stored.get_object_id("after").ok(),
            recruiters: stored.get_i64("recruiters").map_or(0, i64::unsigned_abs),
        }))
    }

    async fn store(&self, progress: &Progress) -> Result<(), Failure> {
        let recruiters = i64::try_from(progress.recruiters).unwrap_or(i64::MAX);
        let fields = doc! { "scope": self.scope(), "after": progress.after, "recruiters": recruiters };
        store(&self.app.database, fields).await
    }

    /// A bar with rate and time left, on a terminal only.
    async fn bar(&self, filter: &Document, done: u64) -> Result<ProgressBar, Failure> {
        if !std::io::stderr().is_terminal() || self.arguments.json {
            return Ok(ProgressBar::hidden());
        }
        let recruiters = raw(&self.app.database, Collection::Recruiters.name());
        let total = recruiters.count_documents(filter.clone()).await.map_err(Failure::Read)?;
        let bar = ProgressBar::new(total);
        let template = "{bar:40} {pos}/{len} recruiters, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(done);
        bar.reset_eta();
        Ok(bar)
    }

    #[expect(clippy::print_stdout, reason = "what the command is asked for")]
    fn print(&self, done: &Progress) {
        let metrics = &self.app.metrics;
        let written = |result: &str| metrics.offers_written.with_label_values(&[result]).get();
        let (created, changed, unchanged) = (written("created"), written("changed"), written("unchanged"));
        let dead: i64 = crate::model::dead_letter::Reason::ALL
            .iter()
            .map(|reason| metrics.dead_letters.with_label_values(&[reason.as_str()]).get())
            .sum();
        let recruiters = done.recruiters;
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
    fn print_rehearsal(&self, done: &Progress, rehearsal: &Rehearsal) {
        let dead: BTreeMap<&str, u64> =
            rehearsal.dead_letters.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        if self.arguments.json {
            let report = json!({
                "dry_run": true, "recruiters": done.recruiters, "created": rehearsal.created,
                "changed": rehearsal.changed, "unchanged": rehearsal.unchanged, "jobs_gone": rehearsal.jobs_gone,
                "fields": rehearsal.fields, "dead_letters": dead,
            });
            println!("{report}");
            return;
        }
        println!(
            "dry run: {} recruiters; {} offers would be created, {} changed, {} stand as they are; {} jobs are gone",
            done.recruiters, rehearsal.created, rehearsal.changed, rehearsal.unchanged, rehearsal.jobs_gone
        );
        rehearsal.fields.iter().for_each(|(field, count)| println!("  {field}: {count}"));
        dead.iter().for_each(|(reason, count)| println!("  dead letters, {reason}: {count}"));
    }
}

async fn store(database: &Database, fields: Document) -> Result<(), Failure> {
    let state = raw(database, STATE);
    let update = state.update_one(doc! { "_id": "backfill" }, doc! { "$set": fields }).upsert(true);
    update.await.map_err(Failure::Write)?;
    Ok(())
}
