//! The command `verify` (spec 06): both sides compared through the projection itself; `--repair`
//! projects everything again under the lease, as a resync does, and then compares again.

pub mod compare;
pub mod continuous;
mod holders;
pub mod look;
pub mod report;
pub mod sampler;
pub mod scan;
pub mod settle;
pub mod stored;

use std::time::Duration;

use bson::doc;
use mongodb::Database;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::app::{App, Refusal, signals};
use crate::cli::{Exit, VerifyArguments};
use crate::clock;
use crate::config::Phase;
use crate::error::{Directive, Failure};
use crate::fetch::raw;
use crate::retry::Delays;
use crate::run::apply::Apply;
use crate::run::lease::STATE;
use crate::run::resync::Resync;
use crate::run::tasks::{Group, Task};
use crate::run::{lead, start};
use look::Looker;
use report::Report;
use scan::Scan;
use settle::{Behind, Settler};

/// Runs the command; prints its report on the standard output.
///
/// # Errors
/// A [`Refusal`] when the database fails for good, the report cannot be written, or a repair is asked
/// for while an instance is running.
pub async fn verify(app: App, arguments: VerifyArguments) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let work = Verify { app, arguments, stop: group.stop.clone() };
    if !work.arguments.repair {
        let report = work.compare().await?;
        return work.tell(&report);
    }
    work.may_repair().await?;
    let beside = "a repair would write beside it: stop it first, or verify without --repair";
    let lease = work.app.take_lease(beside).await?;
    let (renewed, valid_until) = watch::channel(lease.valid_until);
    group.spawn(Task::Lease, lead::renew(lease.clone(), renewed, group.stop.clone()));
    let done = work.repair(|| clock::instant() < *valid_until.borrow()).await;
    if lease.release().await.is_err() {
        tracing::warn!("the lease could not be given back; it ends by itself");
    }
    work.tell(&done?)
}

/// The phase of the database, or the one that it would begin with.
///
/// # Errors
/// [`Failure::Read`].
pub async fn phase(database: &Database, initial: Phase) -> Result<String, Failure> {
    let stored = raw(database, STATE).find_one(doc! { "_id": "phase" }).await.map_err(Failure::Read)?;
    let stored = stored.and_then(|stored| stored.get_str("phase").map(str::to_owned).ok());
    Ok(stored.unwrap_or_else(|| initial.word().to_owned()))
}

struct Verify {
    app: App,
    arguments: VerifyArguments,
    stop: CancellationToken,
}

impl Verify {
    /// One verification, all or a sample.
    async fn compare(&self) -> Result<Report, Failure> {
        let database = &self.app.database;
        let phase = phase(database, self.app.settings.phase.initial).await?;
        let newest_wins = phase == Phase::DualWrite.word();
        let settler = Settler {
            looker: Looker::new(database, self.app.projection_settings(), newest_wins).await?,
            database: database.clone(),
            behind: if self.arguments.repair { Behind::Nobody } else { Behind::Instance },
            stop: self.stop.clone(),
        };
        let mut scan = Scan {
            settler,
            partner_label: self.app.settings.target.partner_label.clone(),
            report: Report::new(clock::now(), phase, self.arguments.sample.is_none()),
        };
        match self.arguments.sample {
            Some(count) => scan.sample(count).await?,
            None => scan.everything().await?,
        }
        scan.report.ended = clock::now();
        if scan.report.full && !self.stop.is_cancelled() {
            stored::store(database, &scan.report).await?;
        }
        Ok(scan.report)
    }

    /// Once `jobs_partners` is the authority, a projection would overwrite newer offers (spec 04).
    async fn may_repair(&self) -> Result<(), Refusal> {
        let phase = phase(&self.app.database, self.app.settings.phase.initial).await?;
        if ![Phase::Shadow, Phase::Retired].iter().any(|refused| refused.word() == phase) {
            return Ok(());
        }
        let message = format!("in phase {phase} `jobs_partners` is the authority: verify without --repair");
        Err(Refusal::new(Exit::Found, message))
    }

    /// Compares, repairs what differs, and compares again.
    async fn repair(&self, may_write: impl Fn() -> bool) -> Result<Report, Failure> {
        let before = self.compare().await?;
        if before.differences == 0 || self.stop.is_cancelled() {
            return Ok(before);
        }
        info!(differences = before.differences, "repairing");
        self.resync(may_write).await?;
        let mut after = self.compare().await?;
        after.before_repair = Some(before.differences);
        Ok(after)
    }

    /// A resync touches every recruiter and then compares what is gone. Killed in between, it is gone on
    /// with by the next `run`.
    async fn resync(&self, may_write: impl Fn() -> bool) -> Result<(), Failure> {
        let database = &self.app.database;
        start::prepare(database).await?;
        let mut apply = Apply::new(lead::stages(&self.app).await?);
        let mut resync = Resync::request(database, &self.app.metrics, "a repair was asked for").await?;
        let mut delays = Delays::up_to(Duration::from_secs(5));
        while !self.stop.is_cancelled() {
            if !may_write() {
                return Err(Failure::LeaseLost);
            }
            match resync.step(&mut apply).await {
                Ok(true) => break,
                Ok(false) => delays.reset(),
                Err(failure) if failure.directive() == Directive::Retry => {
                    tracing::warn!(error = %failure, "tried again");
                    tokio::time::sleep(delays.next_delay()).await;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Prints the report, and writes it to the file that was asked for.
    #[expect(clippy::print_stdout, reason = "what the command is asked for")]
    fn tell(&self, report: &Report) -> Result<Exit, Refusal> {
        if self.stop.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        let json = serde_json::to_string_pretty(report)
            .map_err(|error| Refusal::new(Exit::Found, format!("the report cannot be written as JSON: {error}")))?;
        match self.arguments.json {
            true => println!("{json}"),
            false => println!("{}", report.table()),
        }
        if let Some(file) = &self.arguments.report {
            std::fs::write(file, json).map_err(|error| {
                let message = format!("{}: cannot be written: {error}; choose another file", file.display());
                Refusal::new(Exit::Usage, message)
            })?;
        }
        Ok(if report.differences == 0 { Exit::Done } else { Exit::Found })
    }
}
