//! The command `verify` (spec 06): both sides compared through the projection itself; `--repair` asks
//! whoever leads to project everything again, as a resync does, and then compares again.

pub mod compare;
pub mod compare_sides;
pub mod continuous;
mod job_owners;
pub mod report;
pub mod sampler;
pub mod scan;
pub mod settle;
pub mod stored;

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::app::{App, Refusal, signals};
use crate::cli::{Exit, VerifyArguments};
use crate::clock;
use crate::error::Failure;
use crate::phase::{Phase, StreamWrites, state};
use crate::run::requests::{Order, Outcome};
use crate::run::submit::ask;
use crate::run::tasks::{Group, Task};
use compare_sides::Comparer;
use report::Report;
use scan::Scan;
use settle::{Behind, Rechecker};

/// Runs the command; prints its report on the standard output.
///
/// # Errors
/// A [`Refusal`] when the database fails for good, the report cannot be written, or a repair is asked
/// for in a phase that does not allow it.
pub async fn verify(app: App, arguments: VerifyArguments) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let work = Verify { app, arguments, stop: group.stop.clone() };
    if !work.arguments.repair {
        let report = work.compare().await?;
        return work.tell(&report);
    }
    let before = work.compare().await?;
    if before.differences == 0 || work.stop.is_cancelled() {
        return work.tell(&before);
    }
    info!(differences = before.differences, "repairing");
    // A resync touches every recruiter and then compares what is gone.
    match ask(&work.app, &Order::Repair, |_| {}).await? {
        Some(Outcome { done: true, .. }) => {}
        Some(refused) => return Err(Refusal::of(&refused)),
        None => return Ok(Exit::Interrupted),
    }
    let mut after = work.compare().await?;
    after.before_repair = Some(before.differences);
    work.tell(&after)
}

/// Compares everything as a full verification in `phase` would, without storing the result.
///
/// # Errors
/// A [`Failure`] that trying again does not mend.
pub async fn compare_as_in(app: &App, phase: Phase) -> Result<Report, Failure> {
    let mut scan = scan(app, phase, true, CancellationToken::new()).await?;
    scan.everything().await?;
    Ok(scan.report)
}

/// A full verification, whose result is stored where that is wanted and it was not stopped.
///
/// # Errors
/// As [`compare_as_in`].
pub async fn full(app: &App, phase: Phase, stop: CancellationToken, is_stored: bool) -> Result<Report, Failure> {
    let mut scan = scan(app, phase, true, stop.clone()).await?;
    scan.everything().await?;
    scan.report.ended = clock::of_server(&app.database).await?;
    if is_stored && !stop.is_cancelled() {
        stored::store(&app.database, &scan.report).await?;
    }
    Ok(scan.report)
}

async fn scan(app: &App, phase: Phase, full: bool, stop: CancellationToken) -> Result<Scan, Failure> {
    Ok(Scan {
        settler: settler(app, phase, Behind::Instance, stop).await?,
        partner_label: app.settings.target.partner_label.clone(),
        report: Report::new(clock::of_server(&app.database).await?, phase.word().to_owned(), full),
    })
}

/// What compares as `phase` wants it; `behind` is who is waited for.
async fn settler(app: &App, phase: Phase, behind: Behind, stop: CancellationToken) -> Result<Rechecker, Failure> {
    let newest_wins = phase.stream() == StreamWrites::UnlessNewer;
    let comparer = Comparer::new(&app.database, app.projection_settings(), newest_wins).await?;
    Ok(Rechecker { comparer, database: app.database.clone(), behind, stop })
}

struct Verify {
    app: App,
    arguments: VerifyArguments,
    stop: CancellationToken,
}

impl Verify {
    /// One verification, all or a sample.
    async fn compare(&self) -> Result<Report, Failure> {
        let phase = state::load(&self.app.database, self.app.settings.phase.initial).await?.phase;
        let Some(count) = self.arguments.sample else {
            return full(&self.app, phase, self.stop.clone(), true).await;
        };
        let mut scan = scan(&self.app, phase, false, self.stop.clone()).await?;
        scan.sample(count).await?;
        scan.report.ended = clock::of_server(&self.app.database).await?;
        Ok(scan.report)
    }

    /// Prints the report, and writes it to the file that was asked for.
    #[expect(clippy::print_stdout, reason = "what the command is asked for")]
    fn tell(&self, report: &Report) -> Result<Exit, Refusal> {
        if self.stop.is_cancelled() {
            return Ok(Exit::Interrupted);
        }
        let json = serde_json::to_string_pretty(report)
            .map_err(|error| Refusal::new(Exit::Findings, format!("the report cannot be written as JSON: {error}")))?;
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
        Ok(if report.differences == 0 { Exit::Done } else { Exit::Findings })
    }
}
