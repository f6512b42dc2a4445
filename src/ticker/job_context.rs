//! The context of one run of a time-based job: the database, the time of the run and the phase. It has the one way to
//! change offers, which knows what "both" means in each phase (spec 04, spec 05) and writes nothing in a dry run.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bson::{DateTime, Document, doc, oid::ObjectId};
use chrono_tz::Tz;
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

use super::attempts::{Attempts, DocumentFault};
use super::id_cursor::IdCursor;
use super::ledger;
use super::offer_and_job::{Pair, PairFields, PairVerdict};
use super::owned_jobs::{jobs_of, projection, read_recruiters};
use super::report::{JobReport, ReportLine};
use super::statements;
use super::write_access::WriteAccess;
use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::failpoint;
use crate::fetch::links;
use crate::interruption::{Interruption, Unfinished};
use crate::maintenance::stored_commands::{self, Command};
use crate::model::TargetSchema;
use crate::model::ids::{JobId, RecruiterId, typed};
use crate::model::names::COMMANDS;
use crate::model::names::OFFERS;
use crate::model::names::WatchedCollection;
use crate::phase::{Phase, StreamWrites};
use crate::schedule::zone;
use crate::tasks::pause;
use crate::write::statements::Statement;
use crate::write::transaction::{Fence, Transaction};

/// The number of offers in one transaction: small enough that a transaction seldom meets another writer.
const CHUNK: u32 = 100;
/// After so many documents in a row with a fault that may pass, the database is at fault, and the run fails.
const STUCK: u32 = 10;
/// The fields of an offer that every change needs.
const ALWAYS: [&str; 4] = ["updated_at", "offer_status", "offer_status_history", "apply_email"];
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which a command in the pipeline is checked for its end.
const POLL: Duration = Duration::from_millis(50);

/// The context of one run of a time-based job.
#[derive(Debug)]
pub struct JobContext {
    /// The context of the process: database, settings, metrics.
    pub context: Context,
    /// The time of the run. All rules of the job go by this time.
    pub now: DateTime,
    /// The time at which the run was due; `now` for a run by hand.
    pub scheduled_for: DateTime,
    /// The `now` of the last run of this job with the outcome `done`; `None` where there is none.
    pub previous: Option<DateTime>,
    /// The phase at the start of the run. When the phase changes, [`JobContext::check`] ends the run, and the run is
    /// made again.
    pub phase: Phase,
    /// The counts and lines of the run so far.
    pub report: JobReport,
    /// Cancelled when the run must end.
    pub stop: CancellationToken,
    /// The right to write; `None` in a dry run.
    pub write_access: Option<WriteAccess>,
    /// What becomes of each line of the report at once, besides the first ones that the report keeps.
    pub listener: LineListener,
    /// The number of documents in a row that failed with a fault that may pass.
    pub stuck: u32,
}

/// Who gets the lines of a report as they come.
#[derive(Debug)]
pub enum LineListener {
    Nobody,
    /// A run on the command line prints them.
    Prints(fn(&ReportLine)),
    /// A run on the command line prints them all in one document.
    Collects(Vec<ReportLine>),
}

/// The decision of a job about one pair. Pure.
pub(crate) type PairPlan<'a> = dyn Fn(&Pair<'_>) -> PairVerdict + Send + Sync + 'a;

/// The verdicts of one chunk: counts and lines for the report, and statements to write.
#[derive(Debug, Default)]
struct Sum {
    changed: u64,
    changed_as: Vec<&'static str>,
    skipped: Vec<&'static str>,
    lines: Vec<ReportLine>,
    offers: Vec<Statement>,
    recruiters: Vec<Statement>,
}

impl JobContext {
    /// The next ids of a cursor; `None` at the end. A document whose `_id` is no ObjectId is counted in the report and
    /// left out: such a document already has a dead letter.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn next<I: From<ObjectId>>(&mut self, cursor: &mut IdCursor) -> Result<Option<Vec<I>>, Failure> {
        let Some((ids, others)) = cursor.next().await? else { return Ok(None) };
        self.report.skip("no_object_id", others);
        Ok(Some(typed(&ids)))
    }

    /// True where the run has no right to write, and only reports what it would change.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.write_access.is_none()
    }

    /// Waits until the throttle allows the next step, and checks that the run may go on. Called before each chunk of writes.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn begin_step(&mut self) -> Result<(), Unfinished> {
        loop {
            self.check()?;
            let wait = self.write_access.as_mut().map(|access| access.pace.begin_step(self.report.changed));
            let Some(wait) = wait.filter(|wait| !wait.is_zero()) else { return Ok(()) };
            // The run still notices that it must end, or that the ceiling is taken back.
            pause(&self.stop, wait).await;
        }
    }

    /// Checks that the run may go on.
    ///
    /// # Errors
    /// [`Interruption::Stopping`], [`Interruption::LeaseLost`], [`Interruption::PhaseChanged`].
    pub fn check(&mut self) -> Result<(), Unfinished> {
        if self.stop.is_cancelled() {
            return Err(Interruption::Stopping.into());
        }
        match &self.write_access {
            Some(access) if access.validity.borrow().left().is_zero() => Err(Interruption::LeaseLost.into()),
            Some(access) if access.phase.borrow().phase != self.phase => Err(Interruption::PhaseChanged.into()),
            _ => Ok(()),
        }
    }

    /// Stores the counts of the run in the ledger, at most once a second.
    ///
    /// # Errors
    /// As [`ledger::progress`].
    pub async fn progress(&mut self) -> Result<(), Unfinished> {
        let Some(access) = &mut self.write_access else { return Ok(()) };
        if access.stored_at.is_some_and(|at| at.elapsed() < PROGRESS_INTERVAL) {
            return Ok(());
        }
        access.stored_at = Some(clock::instant());
        ledger::progress(&self.context.database, access.fence.term, &access.run, &self.report).await
    }

    /// Stores a command for the pipeline and waits for its end; `None` in a dry run.
    ///
    /// # Errors
    /// As [`Self::check`]; a failure of the database.
    pub async fn submit(&mut self, command: &Command) -> Result<Option<stored_commands::CommandOutcome>, Unfinished> {
        let database = self.context.database.clone();
        let Some(wake) = self.write_access.as_ref().map(|access| Arc::clone(&access.wake)) else { return Ok(None) };
        let id = stored_commands::submit(&database, command, "ticker").await?;
        loop {
            wake.notify_one();
            self.check()?;
            let stored = stored_commands::load(&database, id).await?;
            let stored = stored.ok_or(Failure::OwnDocument { collection: COMMANDS, field: "_id" })?;
            if let Some(outcome) = stored.result {
                return Ok(Some(outcome));
            }
            pause(&self.stop, POLL).await;
        }
    }

    /// Adds a line to the report, and passes it to the listener.
    pub fn tell(&mut self, line: ReportLine) {
        match &mut self.listener {
            LineListener::Nobody => {}
            LineListener::Prints(print) => print(&line),
            LineListener::Collects(lines) => lines.push(line.clone()),
        }
        self.report.keep(line);
    }

    /// A filter of the offers that are ours and that `filter` selects.
    #[must_use]
    pub fn ours(&self, filter: Document) -> Document {
        let mut ours = doc! { "partner_label": &self.context.settings.target.partner_label };
        ours.extend(filter);
        ours
    }

    /// The time zone of the configuration. The configuration was checked at the start, so the zone is known.
    #[must_use]
    pub fn zone(&self) -> Tz {
        zone(&self.context.settings.ticker.time_zone).unwrap_or(Tz::Europe__Paris)
    }

    /// A cursor over the ids of the documents that `filter` selects.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn cursor(&self, collection: &str, filter: Document) -> Result<IdCursor, Failure> {
        IdCursor::begin(&self.context.database, collection, filter).await
    }

    /// Changes our offers that `filter` selects, as [`Self::change`] does.
    ///
    /// # Errors
    /// As [`Self::change`], and [`Failure::Read`].
    pub async fn change_selected(
        &mut self,
        filter: Document,
        fields: &PairFields,
        plan: &PairPlan<'_>,
    ) -> Result<(), Unfinished> {
        let mut cursor = self.cursor(OFFERS, self.ours(filter)).await?;
        while let Some(offers) = self.next(&mut cursor).await? {
            self.change(&offers, fields, plan).await?;
        }
        Ok(())
    }

    /// Changes these offers as `plan` says and, in `sync` and `dual-write`, their jobs in the same transaction. A chunk
    /// that the server refuses, or cannot change in the time of the lease, is halved until the faulty offer is alone.
    /// That offer has failed, and the others are changed. Counts and lines go to the report.
    ///
    /// # Errors
    /// As [`Self::check`]; a failure that is not about one offer. Changes so far stay, and the function can be called
    /// again.
    pub async fn change(
        &mut self,
        offers: &[JobId],
        fields: &PairFields,
        plan: &PairPlan<'_>,
    ) -> Result<(), Unfinished> {
        let size = self.write_access.as_ref().map_or(CHUNK, |access| access.pace.step_size(CHUNK));
        let mut chunks: Vec<&[JobId]> = offers.chunks(size as usize).rev().collect();
        while let Some(chunk) = chunks.pop() {
            match self.chunk(chunk, fields, plan).await {
                Ok(()) => self.stuck = 0,
                Err(cause) => match (cause.failure().and_then(DocumentFault::of), chunk) {
                    (None, _) => return Err(cause),
                    (Some(fault), [offer]) => self.fail(offer.0, fault, cause)?,
                    (Some(_), _) => {
                        let (first, second) = chunk.split_at(chunk.len() / 2);
                        chunks.extend([second, first]);
                    }
                },
            }
            self.progress().await?;
        }
        Ok(())
    }

    /// Reports a document that failed; the run goes on with the next one.
    ///
    /// # Errors
    /// `cause`, when too many documents in a row failed with a fault that may pass.
    pub(super) fn fail(
        &mut self,
        document: ObjectId,
        fault: DocumentFault,
        cause: Unfinished,
    ) -> Result<(), Unfinished> {
        self.stuck = if fault.passes() { self.stuck + 1 } else { 0 };
        if self.stuck >= STUCK {
            return Err(cause);
        }
        self.report.matched += 1;
        self.report.failed += 1;
        self.tell(ReportLine::new(document, fault.word(), [""; 0]));
        Ok(())
    }

    /// Changes one chunk, in several attempts where a failure may pass.
    async fn chunk(&mut self, offers: &[JobId], fields: &PairFields, plan: &PairPlan<'_>) -> Result<(), Unfinished> {
        let mut attempts = Attempts::default();
        loop {
            self.begin_step().await?;
            match self.chunk_once(offers, fields, plan).await {
                Ok((matched, sum)) => {
                    self.report.matched += matched;
                    self.report.changed += sum.changed;
                    sum.changed_as.into_iter().for_each(|kind| self.report.change_as(kind));
                    sum.skipped.into_iter().for_each(|reason| self.report.skip(reason, 1));
                    sum.lines.into_iter().for_each(|line| self.tell(line));
                    return Ok(());
                }
                // No second attempt: half of the chunk may be fast enough.
                Err(cause) if offers.len() > 1 && is_too_slow(&cause) => return Err(cause),
                Err(cause) => attempts.wait_after(cause, &self.stop).await?,
            }
        }
    }

    async fn chunk_once(
        &self,
        offers: &[JobId],
        fields: &PairFields,
        plan: &PairPlan<'_>,
    ) -> Result<(u64, Sum), Unfinished> {
        let schema = self.context.target.schema();
        // The pipeline writes no offer until this transaction has ended.
        let _guard = self.offer_write_lock().await;
        let asked: BTreeSet<JobId> = offers.iter().copied().collect();
        // From `shadow` on, jobs write offers only. In `shadow` the mirror carries their changes over.
        let owners = if self.phase.writes_offers() {
            links::owners(&self.context.database, &asked).await?
        } else {
            HashMap::new()
        };
        let mut transaction = Transaction::begin(&self.context.database, self.fence()).await?;
        let ours = self.ours(doc! { "_id": { "$in": offers } });
        let found = transaction.read(OFFERS, ours, projection("", &ALWAYS, fields.offer), 0).await?;
        let recruiters = read_recruiters(&mut transaction, &owners, fields).await?;
        let jobs = jobs_of(&recruiters);
        let mut sum = Sum::default();
        for offer in &found {
            let Ok(id) = offer.get_object_id("_id").map(JobId) else { continue };
            let newest_wins = self.phase.stream() == StreamWrites::UnlessNewer;
            let pair = Pair { id, offer, owned_job: jobs.get(&id).copied(), newest_wins };
            self.add(&mut sum, &pair, plan(&pair), &schema);
        }
        for (collection, statements) in [
            (OFFERS, std::mem::take(&mut sum.offers)),
            (WatchedCollection::Recruiters.name(), std::mem::take(&mut sum.recruiters)),
        ] {
            if !statements.is_empty() {
                self.update(&mut transaction, collection, statements, &schema).await?;
            }
        }
        transaction.commit().await?;
        failpoint::passed("job-changed");
        Ok((found.len() as u64, sum))
    }

    /// Sends the statements. A refusal of an offer that was made for an older schema of the target passes.
    async fn update(
        &self,
        transaction: &mut Transaction,
        collection: &str,
        statements: Vec<Statement>,
        schema: &TargetSchema,
    ) -> Result<(), Unfinished> {
        let Err(cause) = transaction.update(collection, statements).await else { return Ok(()) };
        let is_refused = matches!(cause.failure().and_then(DocumentFault::of), Some(DocumentFault::Refused(_)));
        if is_refused && self.context.target.differs_from(schema, &self.context.database).await? {
            return Err(Failure::SchemaChanged.into());
        }
        Err(cause)
    }

    fn add(&self, sum: &mut Sum, pair: &Pair<'_>, verdict: PairVerdict, schema: &TargetSchema) {
        sum.lines.extend(verdict.lines);
        sum.skipped.extend(verdict.skipped);
        let Some(edit) = verdict.edit else { return };
        let (mut edit, is_anonymized) = edit.without_reopening(pair, &self.context.settings.privacy.anonymized_email);
        sum.skipped.extend(is_anonymized.then_some("anonymized"));
        edit.offer = edit.offer.into_iter().filter(|(name, _)| !schema.omits(name)).collect();
        if edit.is_empty() {
            return;
        }
        edit.moved = edit.moved.filter(|_| edit.status.is_some() || pair.is_open());
        sum.changed += 1;
        sum.changed_as.extend(edit.kind);
        sum.lines.push(ReportLine::new(pair.id, edit.kind.unwrap_or("changed"), edit.names()));
        edit.keeps_newer = pair.is_of_application();
        let statement = statements::of_offer(pair.id, &self.context.settings.target.partner_label, &edit);
        sum.offers.push(statement.accepted_by(schema));
        let owner = pair.owned_job.and_then(|owned_job| owned_job.recruiter.get_object_id("_id").map(RecruiterId).ok());
        sum.recruiters.extend(owner.and_then(|recruiter| statements::of_job(recruiter, pair.id, &edit)));
    }

    /// The fence of the transactions of this run; `None` in a dry run, whose transactions only read.
    #[must_use]
    pub fn fence(&self) -> Option<&Fence> {
        self.write_access.as_ref().map(|access| &access.fence)
    }

    /// Waits for the lock on writing offers. A dry run does not write, so it takes no lock.
    pub async fn offer_write_lock(&self) -> Option<MutexGuard<'_, ()>> {
        match &self.write_access {
            Some(access) => Some(access.offer_write_lock.lock().await),
            None => None,
        }
    }
}

fn is_too_slow(cause: &Unfinished) -> bool {
    cause.failure().and_then(DocumentFault::of) == Some(DocumentFault::TooSlow)
}
