//! The job `refresh-pending-establishments` (4.6): looks up establishments that wait for validation in the company
//! directory. Where an establishment is active, its offers and its recruiter become active too. Where the directory
//! refuses it, both are archived (spec 09, "Pending establishments"). A directory that is down ends the run.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawBsonRef, doc};
use futures::TryStreamExt as _;

use super::super::report::ReportLine;
use super::establishment_plan::{Decision, EstablishmentPlan, FIELDS, PENDING, Refusal, Verified};
use crate::config::OnUserDeactivated;
use crate::directory::{Companies, Directory as _, DirectoryTrouble, EstablishmentState};
use crate::error::Failure;
use crate::fetch::{IDS_PER_READ, links};
use crate::interruption::{Interruption, Unfinished};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::{OFFERS, WatchedCollection};
use crate::model::value;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents, find};
use crate::ticker::job_context::JobContext;

/// The number of establishments in a row for which the directory fails until it counts as down.
const FAILURES: u32 = 3;
/// The selection of the job among our offers: offers whose recruiter waits for validation.
#[must_use]
pub fn selects() -> Document {
    doc! { "recruiter_status": { "$in": PENDING.to_vec() } }
}

/// Looks up each pending establishment once for each siret of its offers. The run gives up when the directory or the
/// geocoding service is down, or when the settings are wrong.
///
/// # Errors
/// As [`JobContext::change`]; [`Failure::Read`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let companies = match Companies::new(&job.context.database, &job.context.settings.directory, job.now) {
        Ok(companies) => companies,
        Err(reason) => {
            tracing::error!(error = reason, "the company directory cannot be called; correct the setting");
            job.report.gave_up = Some("directory_settings".into());
            return Ok(());
        }
    };
    let group = doc! { "$group": { "_id": { "establishment": "$establishment_id", "siret": "$workplace_siret" } } };
    let pipeline = [doc! { "$match": job.ours(selects()) }, group];
    let offers = collection(&job.context.database, OFFERS);
    let establishments = offers.aggregate(pipeline).allow_disk_use(true).batch_size(100);
    let mut establishments = with_deadline(establishments).await.map_err(Failure::Read)?;
    let mut failures = 0;
    while let Some(group) = with_deadline(establishments.try_next()).await.map_err(Failure::Read)? {
        job.check()?;
        let establishment = Establishment::of(&group);
        let (service, trouble) = match Box::pin(refresh(job, &companies, &establishment)).await? {
            Ok(()) => {
                failures = 0;
                continue;
            }
            Err(failed) => (failed.service, failed.trouble),
        };
        let word = match trouble {
            DirectoryTrouble::Failed(cause) => return Err(cause),
            // One siret for which a service fails must not keep the others from being looked up.
            DirectoryTrouble::Unreadable(word) => {
                failures += 1;
                Box::pin(leave(job, &establishment, word, true)).await?;
                if failures < FAILURES {
                    continue;
                }
                word
            }
            DirectoryTrouble::Down(word) => word,
            DirectoryTrouble::Later(wait) => {
                tracing::warn!(
                    service = service.name(),
                    seconds = wait.as_secs(),
                    "a service limits our calls; it accepts none for this time"
                );
                "too_many_requests"
            }
        };
        tracing::warn!(service = service.name(), error = word, "a service is down; the next run continues");
        job.report.gave_up = Some(service.down().into());
        return Ok(());
    }
    Ok(())
}

/// An establishment and one siret of its offers, as they are stored; null where they are missing.
struct Establishment {
    id: Bson,
    siret: Bson,
}

impl Establishment {
    fn of(group: &Document) -> Self {
        let field = |name| group.get_document("_id").ok().and_then(|key| key.get(name).cloned()).unwrap_or(Bson::Null);
        Self { id: field("establishment"), siret: field("siret") }
    }

    /// The siret; `None` unless it has 14 digits.
    fn siret(&self) -> Option<&str> {
        self.siret.as_str().filter(|siret| siret.len() == 14 && siret.bytes().all(|digit| digit.is_ascii_digit()))
    }
}

/// The services that are called.
#[derive(Debug, Clone, Copy)]
enum Service {
    Directory,
    Geocoding,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Geocoding => "geocoding",
        }
    }

    /// The reason why the run gave up.
    fn down(self) -> &'static str {
        match self {
            Self::Directory => "directory_down",
            Self::Geocoding => "geocoding_down",
        }
    }
}

/// A service that gave no answer.
struct FailedCall {
    service: Service,
    trouble: DirectoryTrouble,
}

/// The result of looking an establishment up.
enum LookUp {
    Decided(Decision),
    /// The establishment stays pending, for this reason.
    Left(&'static str),
}

/// Looks up one establishment. Changes its offers, or reports the reason why they stay pending.
async fn refresh(
    job: &mut JobContext,
    companies: &Companies,
    establishment: &Establishment,
) -> Result<Result<(), FailedCall>, Unfinished> {
    let stop = job.stop.clone();
    let looked_up = tokio::select! {
        looked_up = look_up(companies, establishment) => looked_up,
        () = stop.cancelled() => return Err(Interruption::Stopping.into()),
    };
    match looked_up {
        Err(failed) => return Ok(Err(failed)),
        Ok(LookUp::Left(word)) => leave(job, establishment, word, false).await?,
        Ok(LookUp::Decided(Decision::Archive(refusal))) if !job.context.settings.refresh.archive_refused => {
            leave(job, establishment, refusal.left(), false).await?;
        }
        Ok(LookUp::Decided(decision)) => change(job, establishment, &decision).await?,
    }
    Ok(Ok(()))
}

async fn look_up(companies: &Companies, establishment: &Establishment) -> Result<LookUp, FailedCall> {
    if establishment.id.as_str().is_none_or(str::is_empty) {
        return Ok(LookUp::Left("no_establishment"));
    }
    let Some(siret) = establishment.siret() else { return Ok(LookUp::Left("invalid_siret")) };
    let failed = |service| move |trouble| FailedCall { service, trouble };
    let company = match companies.look_up(siret).await.map_err(failed(Service::Directory))? {
        Some(EstablishmentState::Active(company)) => company,
        Some(EstablishmentState::Closed) => return Ok(LookUp::Decided(Decision::Archive(Refusal::Closed))),
        Some(EstablishmentState::Unpublished) => return Ok(LookUp::Decided(Decision::Archive(Refusal::Unpublished))),
        Some(EstablishmentState::TrainingBody) => {
            return Ok(LookUp::Decided(Decision::Archive(Refusal::TrainingBody)));
        }
        Some(EstablishmentState::Unknown) => return Ok(LookUp::Left("unknown")),
        None => return Ok(LookUp::Left("not_in_cache")),
    };
    let Some(name) = company.legal_name.clone() else { return Ok(LookUp::Left("no_name")) };
    let Some(address) = company.address.clone() else { return Ok(LookUp::Left("no_address")) };
    let point = companies.locate(&address).await.map_err(failed(Service::Geocoding))?;
    Ok(LookUp::Decided(Decision::Activate(Box::new(Verified { name, address, point, company: *company }))))
}

/// A filter of the pending offers of an establishment that have the siret.
fn waiting(job: &JobContext, establishment: &Establishment) -> Document {
    let mut waiting = job.ours(selects());
    waiting.extend(doc! { "establishment_id": &establishment.id, "workplace_siret": &establishment.siret });
    waiting
}

async fn change(job: &mut JobContext, establishment: &Establishment, decision: &Decision) -> Result<(), Unfinished> {
    let now = job.now;
    let cancels = job.context.settings.users.on_deactivated == OnUserDeactivated::CancelOffers;
    let siret = establishment.siret().unwrap_or_default();
    let mut cursor = job.cursor(OFFERS, waiting(job, establishment)).await?;
    while let Some(offers) = job.next::<JobId>(&mut cursor).await? {
        let not_active = not_active(job, &offers).await?;
        let schema = job.context.target.schema();
        let plan = EstablishmentPlan { decision, siret, now, cancels, schema: &schema, not_active: &not_active };
        job.change(&offers, &FIELDS, &|pair| plan.plan(pair)).await?;
    }
    Ok(())
}

/// The offers whose job in `recruiters` is not active. From phase `shadow` on, a transaction does not read that side.
async fn not_active(job: &JobContext, offers: &[JobId]) -> Result<BTreeSet<JobId>, Failure> {
    let mut not_active = BTreeSet::new();
    if job.phase.writes_offers() {
        return Ok(not_active);
    }
    let database = &job.context.database;
    let asked: BTreeSet<JobId> = offers.iter().copied().collect();
    let recruiters: BTreeSet<RecruiterId> = links::owners(database, &asked).await?.into_values().flatten().collect();
    let recruiters: Vec<RecruiterId> = recruiters.into_iter().collect();
    for recruiters in recruiters.chunks(IDS_PER_READ) {
        let (filter, wanted) = (doc! { "_id": { "$in": recruiters } }, doc! { "jobs._id": 1, "jobs.job_status": 1 });
        let batches = find(database, WatchedCollection::Recruiters.name(), filter, wanted).await?;
        for recruiter in documents(&batches) {
            let jobs = value::list(value::field(recruiter?, "jobs")).into_iter().flatten().flatten();
            let jobs = jobs.filter_map(RawBsonRef::as_document);
            let jobs =
                jobs.filter(|job| !matches!(value::text(value::field(job, "job_status")), Some("Active" | "ACTIVE")));
            not_active.extend(jobs.filter_map(|job| job.get_object_id("_id").ok().map(JobId)));
        }
    }
    Ok(not_active)
}

/// Reports the offers of an establishment that stay pending, as failed or as skipped.
async fn leave(
    job: &mut JobContext,
    establishment: &Establishment,
    word: &'static str,
    failed: bool,
) -> Result<(), Failure> {
    let mut cursor = job.cursor(OFFERS, waiting(job, establishment)).await?;
    let mut first: Option<JobId> = None;
    while let Some(offers) = job.next::<JobId>(&mut cursor).await? {
        let count = offers.len() as u64;
        job.report.matched += count;
        if failed {
            job.report.failed += count
        } else {
            job.report.skip(word, count)
        }
        first = first.or(offers.first().copied());
    }
    if let Some(offer) = first {
        // The report has one line per establishment, with the id of one of its offers.
        job.tell(ReportLine::new(offer, word, ["recruiter_status"]));
    }
    Ok(())
}
