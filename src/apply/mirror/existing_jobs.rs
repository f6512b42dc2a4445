//! Mirrors offers whose jobs recruiters hold: reads the recruiters, asks the unprojection, and writes the edits on
//! condition of what was read.

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, RawDocument};
use mongodb::raw_batch_cursor::RawBatch;

use super::edits::Edits;
use crate::apply::stages::{Findings, Stages};
use crate::error::Failure;
use crate::failpoint;
use crate::fetch::references::{Answers, Keys};
use crate::interruption::Unfinished;
use crate::model::dead_letter::{Action, Reason};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::WatchedCollection;
use crate::model::recruiter::{Job, JobFields, Recruiter};
use crate::model::value;
use crate::mongo::reads::documents;
use crate::observe::facts::MirrorWrite;
use crate::project::{Unprojection, unproject};
use crate::write::dead_letters::{Address, DeadLetter};
use crate::write::links::Jobs;
use crate::write::statements::Statement;
use crate::write::update_reply::WriteOutcome;
use crate::write::{Writer, update_command};

/// The greatest number of attempts for one recruiter, the first one included. After the last one, the event of the other
/// writer brings the next touch.
pub(super) const ATTEMPTS: usize = 4;

/// Offers of one chunk, by `_id`. `None` stands for an offer that was deleted.
pub(super) type Touched<'a> = BTreeMap<JobId, Option<&'a RawDocument>>;

/// A recruiter as it was read, with the edits that its offers ask for.
struct Read<'a> {
    document: &'a RawDocument,
    recruiter: Recruiter<'a>,
    edits: Edits,
}

impl<'a> Read<'a> {
    /// The job that owns the offer; `None` for a job that cannot be read, or whose `_id` other jobs of the recruiter
    /// have too. Such a job has a dead letter.
    fn job(&self, id: JobId) -> Option<Job<'a>> {
        let mut jobs = self.recruiter.jobs.iter().filter(|job| job.id == Some(id));
        let job = jobs.next()?;
        jobs.next().is_none().then_some(*job)
    }
}

impl Stages {
    /// Mirrors these offers into the recruiters that hold their jobs by `holders`. Returns the offers whose jobs these
    /// recruiters do not hold.
    ///
    /// # Errors
    /// [`Unfinished`]: an interruption, or a failure that is not about one document.
    pub(super) async fn mirror_existing_jobs(
        &mut self,
        holders: &Jobs,
        offers: &Touched<'_>,
        date: DateTime,
        told: &mut Findings,
    ) -> Result<BTreeSet<JobId>, Unfinished> {
        let mut missing: BTreeSet<JobId> = holders.values().flatten().copied().collect();
        let mut again: BTreeSet<RecruiterId> = holders.keys().copied().collect();
        for _ in 0..ATTEMPTS {
            let ids: Vec<RecruiterId> = std::mem::take(&mut again).into_iter().collect();
            let mut rest = ids.as_slice();
            let mut made = self.next_edits(&mut rest, holders, (offers, date), told).await?;
            while let Some((statements, held)) = made {
                self.check_preemption()?;
                if !statements.is_empty() {
                    failpoint::passed("mirror-read");
                }
                missing.retain(|job| !held.contains(job));
                // While the edits of one chunk are written, those of the next one are made. `try_join` would be wrong: a failed
                // read would abandon writes that the server may still apply.
                let written = write_recruiters(self.output.writer().cloned(), statements);
                let (outcome, next) =
                    futures::join!(written, self.next_edits(&mut rest, holders, (offers, date), told));
                let outcome = outcome?;
                self.note_refused_recruiters(&outcome, holders, told);
                self.count_mirrored(MirrorWrite::Edited, outcome.changed);
                again.extend(outcome.unsure.into_iter().map(RecruiterId));
                made = next?;
            }
            if again.is_empty() {
                break;
            }
        }
        Ok(missing)
    }

    /// Reads the next chunk of recruiters and makes the statements for them. `None` when all are read.
    async fn next_edits(
        &mut self,
        rest: &mut &[RecruiterId],
        holders: &Jobs,
        offers: (&Touched<'_>, DateTime),
        told: &mut Findings,
    ) -> Result<Option<(Vec<Statement>, BTreeSet<JobId>)>, Failure> {
        match self.holders.read_next(rest).await? {
            Some(batches) => self.edits_of(&batches, holders, offers, told).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes the statements for the recruiters of one chunk. Returns them with the jobs that these recruiters hold.
    async fn edits_of(
        &mut self,
        batches: &[RawBatch],
        holders: &Jobs,
        (offers, date): (&Touched<'_>, DateTime),
        told: &mut Findings,
    ) -> Result<(Vec<Statement>, BTreeSet<JobId>), Failure> {
        let (mut all, mut held, mut keys) = (Vec::new(), BTreeSet::new(), Keys::default());
        for document in documents(batches) {
            let document = document?;
            let Ok(recruiter) = Recruiter::read(document) else {
                // An unreadable recruiter has a dead letter. Its jobs must not be made a second time.
                let id = document.get_object_id("_id").map(RecruiterId);
                held.extend(id.ok().and_then(|id| holders.get(&id)).into_iter().flatten());
                continue;
            };
            let read = Read { document, recruiter, edits: Edits::default() };
            keys.add_recruiter(&read.recruiter.fields);
            let own = holders.get(&read.recruiter.id).into_iter().flatten();
            for id in own.filter(|id| read.recruiter.jobs.iter().any(|job| job.id == Some(**id))) {
                held.insert(*id);
                let fields = read.job(*id).and_then(|job| job.fields().ok());
                let offer = offers.get(id).copied().flatten();
                fields.iter().for_each(|fields| keys.add_job(&offer.map_or(*fields, |offer| as_named(*fields, offer))));
            }
            all.push(read);
        }
        let answers = self.references.look_up(keys).await?;
        for read in &mut all {
            let own: Vec<JobId> = holders.get(&read.recruiter.id).into_iter().flatten().copied().collect();
            for id in own {
                let (Some(job), Some(offer)) = (read.job(id), offers.get(&id)) else { continue };
                match offer {
                    // The newest write stands, on whichever side it was made (spec 10, "The mirror (phase `shadow`)").
                    Some(offer) if is_older(offer, job.document()) => {
                        read.edits.add(id, offer, Unprojection::default(), &self.settings.anonymized_email);
                    }
                    Some(offer) => {
                        if let Some(said) = self.said(&read.recruiter, job, id, offer, &answers) {
                            read.edits.add(id, offer, said, &self.settings.anonymized_email);
                        }
                    }
                    None => read.edits.cancel(id, job.document(), date),
                }
            }
        }
        self.hear_others(&mut all).await?;
        Ok((all.iter().filter_map(|read| self.settle(read, told)).collect(), held))
    }

    fn said(
        &self,
        recruiter: &Recruiter<'_>,
        job: Job<'_>,
        id: JobId,
        offer: &RawDocument,
        answers: &Answers,
    ) -> Option<Unprojection> {
        let job = job.fields().ok()?;
        let references = answers.of(&recruiter.fields, &as_named(job, offer));
        Some(unproject(offer, &recruiter.fields, id, &job, &references, &self.settings))
    }

    /// Lets the other offers of a recruiter vote where a touched offer asks for a field of the recruiter.
    async fn hear_others(&mut self, all: &mut [Read<'_>]) -> Result<(), Failure> {
        let (mut voters, mut keys): (BTreeMap<JobId, usize>, _) = (BTreeMap::new(), Keys::default());
        for (place, read) in all.iter().enumerate().filter(|(_, read)| read.edits.needs_votes()) {
            keys.add_recruiter(&read.recruiter.fields);
            for id in read.recruiter.job_ids().filter(|id| !read.edits.contains(*id)) {
                voters.insert(id, place);
                read.job(id).and_then(|job| job.fields().ok()).iter().for_each(|fields| keys.add_job(fields));
            }
        }
        if voters.is_empty() {
            return Ok(());
        }
        let answers = self.references.look_up(keys).await?;
        let ids: Vec<JobId> = voters.keys().copied().collect();
        let mut rest = ids.as_slice();
        while let Some(batches) = self.own_offers.read_next(&mut rest).await? {
            for offer in documents(&batches) {
                let offer = offer?;
                let Ok(id) = offer.get_object_id("_id").map(JobId) else { continue };
                let Some(read) = voters.get(&id).and_then(|place| all.get_mut(*place)) else { continue };
                let said = read.job(id).and_then(|job| self.said(&read.recruiter, job, id, offer, &answers));
                let Some(said) = said else { continue };
                if self.is_of_mirror(&Address::Offer(id)) {
                    // What it could not bring back may come back now that another offer agrees.
                    read.edits.add(id, offer, said, &self.settings.anonymized_email);
                } else {
                    read.edits.vote(id, said);
                }
            }
        }
        Ok(())
    }

    /// Counts disagreements, notes what cannot come back, and makes the statement of one recruiter.
    fn settle(&self, read: &Read<'_>, told: &mut Findings) -> Option<Statement> {
        let agreement = read.edits.agreement(&self.settings.anonymized_email, read.document);
        for field in agreement.disputed.keys() {
            self.metrics.mirror_disagreed(field);
        }
        for (id, names) in read.edits.lost(&agreement) {
            told.looked_at.insert(Address::Offer(id));
            if names.is_empty() {
                told.dead_letters.remove(&Address::Offer(id));
            } else {
                told.dead_letters.insert(Address::Offer(id), not_invertible(names));
            }
        }
        let statement = read.edits.statement(read.document, &read.recruiter, &agreement)?;
        let Some(repeated) = read.edits.repeated_name(read.document, &read.recruiter) else { return Some(statement) };
        for id in read.edits.lost(&agreement).into_keys() {
            told.dead_letters.insert(Address::Offer(id), not_invertible([repeated.clone()]));
        }
        None
    }

    /// Makes dead letters about the offers of `jobs` whose recruiters the server refused to write, and counts the refusals.
    pub(super) fn note_refused_recruiters(&self, outcome: &WriteOutcome, jobs: &Jobs, told: &mut Findings) {
        for refused in &outcome.refused {
            self.metrics.statement_refused(refused.code);
            let recruiter = refused.statement.id.map(RecruiterId);
            for job in recruiter.and_then(|id| jobs.get(&id)).into_iter().flatten() {
                let dead_letter = DeadLetter {
                    reason: refused.reason,
                    detail: refused.detail("the recruiter"),
                    action: Action::Mirror,
                    date: None,
                };
                told.dead_letters.insert(Address::Offer(*job), dead_letter);
            }
        }
    }

    /// Sends statements about recruiters. The offers of `jobs` get a dead letter where the server refuses a statement.
    pub(super) async fn write_recruiters(
        &mut self,
        statements: Vec<Statement>,
        jobs: &Jobs,
        told: &mut Findings,
    ) -> Result<WriteOutcome, Unfinished> {
        let outcome = write_recruiters(self.output.writer().cloned(), statements).await?;
        self.note_refused_recruiters(&outcome, jobs, told);
        Ok(outcome)
    }
}

/// Sends statements about recruiters. A dry run, which has no writer, counts what would be written.
async fn write_recruiters(writer: Option<Writer>, statements: Vec<Statement>) -> Result<WriteOutcome, Unfinished> {
    match writer {
        _ if statements.is_empty() => Ok(WriteOutcome::default()),
        Some(writer) => update_command::update(&writer, WatchedCollection::Recruiters.name(), statements).await,
        None => {
            let (makes, changes): (Vec<_>, Vec<_>) = statements.iter().partition(|statement| statement.only_creates());
            let [created, changed] = [makes, changes].map(|statements| statements.len() as u64);
            Ok(WriteOutcome { created, changed, ..WriteOutcome::default() })
        }
    }
}

/// True where the job has a later date of its own than the offer. Somebody wrote the job alone, or writes the offer next.
fn is_older(offer: &RawDocument, job: &RawDocument) -> bool {
    let date = |document, name| value::field(document, name).and_then(value::date);
    match (date(offer, "updated_at"), date(job, "job_update_date")) {
        (Some(offer), Some(job)) => offer < job,
        // What is no date loses nothing, and wins nothing.
        _ => false,
    }
}

/// The job with the ROME codes of the offer: the unprojection wants the references that the offer names.
fn as_named<'a>(job: JobFields<'a>, offer: &'a RawDocument) -> JobFields<'a> {
    JobFields { rome_code: value::field(offer, "offer_rome_codes").or(job.rome_code), ..job }
}

/// The dead letter of an offer with fields that cannot come back.
fn not_invertible(names: impl IntoIterator<Item = String>) -> DeadLetter {
    let names: Vec<String> = names.into_iter().collect();
    DeadLetter { reason: Reason::NotInvertible, detail: names.join(", "), action: Action::Mirror, date: None }
}
