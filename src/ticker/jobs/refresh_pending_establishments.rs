//! The job `refresh-pending-establishments` (4.6): looks up establishments that wait for validation in the company
//! directory. Where an establishment is active, its offers and its recruiter become active too. A directory that is
//! down ends the run.

use bson::{Bson, DateTime, Document, RawBsonRef, doc};
use futures::TryStreamExt as _;

use super::super::pair::{Edit, OwnedJob, Pair, PairFields, PairVerdict};
use super::super::report::ReportLine;
use crate::config::OnUserDeactivated;
use crate::directory::{Companies, Company, Directory as _, DirectoryTrouble, EstablishmentState};
use crate::error::Failure;
use crate::interruption::{Interruption, Unfinished};
use crate::model::ids::JobId;
use crate::model::names::OFFERS;
use crate::model::offer::ESTABLISHMENT_VERIFIED;
use crate::model::{OfferStatus, value};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::project::offer_status;
use crate::ticker::job_context::JobContext;

/// The two spellings of the status, its label and its name (spec 02, "offer_status").
const PENDING: [&str; 2] = ["En attente de validation", "EN_ATTENTE_VALIDATION"];
const ACTIVE: &str = "Actif";
/// The number of establishments in a row for which the directory fails until it counts as down.
const FAILURES: u32 = 3;
const FIELDS: PairFields = PairFields {
    offer: &["recruiter_status", "offer_status", "offer_expiration", "offer_status_history"],
    job: &["job_status", "job_update_date", "job_expiration_date"],
    recruiter: &["status"],
};

/// The selection of the job among our offers: offers whose recruiter waits for validation.
#[must_use]
pub fn selects() -> Document {
    doc! { "recruiter_status": { "$in": PENDING.to_vec() } }
}

/// Looks up each pending establishment once, whatever the number of its offers. The run gives up when the directory is
/// down or its settings are wrong.
///
/// # Errors
/// As [`JobContext::change`]; [`Failure::Read`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let companies = match Companies::new(&job.context.database, &job.context.settings.directory, job.now) {
        Ok(companies) => companies,
        Err(reason) => {
            tracing::error!(reason, "the company directory cannot be called; correct the setting");
            job.report.gave_up = Some("directory_settings");
            return Ok(());
        }
    };
    let group = doc! { "$group": { "_id": "$establishment_id", "siret": { "$first": "$workplace_siret" } } };
    let pipeline = [doc! { "$match": job.ours(selects()) }, group];
    let offers = collection(&job.context.database, OFFERS);
    let establishments = offers.aggregate(pipeline).allow_disk_use(true).batch_size(100);
    let mut establishments = with_deadline(establishments).await.map_err(Failure::Read)?;
    let mut failures = 0;
    while let Some(establishment) = with_deadline(establishments.try_next()).await.map_err(Failure::Read)? {
        job.check()?;
        let word = match Box::pin(refresh(job, &companies, &establishment)).await {
            Ok(()) => {
                failures = 0;
                continue;
            }
            Err(DirectoryTrouble::Failed(cause)) => return Err(cause),
            // One siret for which the directory fails must not keep the others from being looked up.
            Err(DirectoryTrouble::Unreadable(word)) => {
                failures += 1;
                Box::pin(leave(job, &establishment, word, true)).await?;
                if failures < FAILURES { None } else { Some(word) }
            }
            Err(DirectoryTrouble::Down(word)) => Some(word),
            Err(DirectoryTrouble::Later(wait)) => {
                tracing::warn!(
                    seconds = wait.as_secs(),
                    "the company directory limits our calls; it accepts none for this time"
                );
                Some("too_many_requests")
            }
        };
        if let Some(word) = word {
            tracing::warn!(word, "the company directory is down; the next run continues");
            job.report.gave_up = Some("directory_down");
            return Ok(());
        }
    }
    Ok(())
}

/// Looks up one establishment. Activates its offers, or reports the reason why they stay pending.
async fn refresh(
    job: &mut JobContext,
    companies: &Companies,
    establishment: &Document,
) -> Result<(), DirectoryTrouble> {
    let siret = establishment.get_str("siret").unwrap_or_default();
    let has_siret = siret.len() == 14 && siret.bytes().all(|digit| digit.is_ascii_digit());
    let word = if establishment.get_str("_id").unwrap_or_default().is_empty() {
        "no_establishment"
    } else if has_siret {
        let stop = job.stop.clone();
        let found = tokio::select! {
            found = companies.look_up(siret) => found?,
            () = stop.cancelled() => return Err(DirectoryTrouble::Failed(Interruption::Stopping.into())),
        };
        match found {
            Some(EstablishmentState::Active(company)) => {
                return activate(job, establishment, &company).await.map_err(DirectoryTrouble::Failed);
            }
            Some(EstablishmentState::Closed) => "closed",
            Some(EstablishmentState::Unknown) => "unknown",
            Some(EstablishmentState::Unpublished) => "unpublished",
            None => "not_in_cache",
        }
    } else {
        "invalid_siret"
    };
    leave(job, establishment, word, false).await.map_err(|failure| DirectoryTrouble::Failed(failure.into()))
}

/// A filter of the pending offers of an establishment, whatever siret they have.
fn waiting(job: &JobContext, establishment: &Document) -> Document {
    let mut waiting = job.ours(selects());
    waiting.insert("establishment_id", establishment.get("_id").cloned().unwrap_or(Bson::Null));
    waiting
}

async fn activate(job: &mut JobContext, establishment: &Document, company: &Company) -> Result<(), Unfinished> {
    let now = job.now;
    let cancels = job.context.settings.users.on_deactivated == OnUserDeactivated::CancelOffers;
    let mut cursor = job.cursor(OFFERS, waiting(job, establishment)).await?;
    while let Some(offers) = job.next(&mut cursor).await? {
        job.change(&offers, &FIELDS, &|pair| plan(pair, company, now, cancels)).await?;
    }
    Ok(())
}

/// Reports the offers of an establishment that stay pending, as failed or as skipped.
async fn leave(
    job: &mut JobContext,
    establishment: &Document,
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

/// Plans the change of one pending offer. `cancels` is true where offers of deactivated users are cancelled. This job
/// does not know whether the user is deactivated: then an offer with a job keeps its status, and the stream decides.
fn plan(pair: &Pair<'_>, company: &Company, now: DateTime, cancels: bool) -> PairVerdict {
    let is_pending = |status: Option<RawBsonRef<'_>>| PENDING.map(Some).contains(&value::text(status));
    if !is_pending(pair.field("recruiter_status")) {
        return PairVerdict::default();
    }
    let wanted = match pair.owned_job {
        Some(OwnedJob { recruiter, .. }) if !is_pending(value::field(recruiter, "status")) => {
            return PairVerdict::skip("not_settled");
        }
        Some(OwnedJob { job, .. }) => {
            match offer_status(Some(RawBsonRef::String(ACTIVE)), value::field(job, "job_status")) {
                // The stream makes the offer of a job that waits pending, where there is such a status.
                Ok(status) => Some(status).filter(|status| !cancels && *status != OfferStatus::Pending),
                Err(_) => return PairVerdict::skip("unknown_job_status"),
            }
        }
        None => without_job(pair, now),
    };
    let stands = pair.field("offer_status").and_then(RawBsonRef::as_str);
    let wanted = wanted.filter(|status| !status.is_open() || !pair.closing_stands());
    let mut edit = Edit {
        offer: doc! { "recruiter_status": ACTIVE },
        recruiter: doc! { "status": ACTIVE },
        status: wanted
            .filter(|status| stands != Some(status.as_str()))
            .map(|status| (status, ESTABLISHMENT_VERIFIED, now)),
        ..Edit::default()
    };
    if let Some(name) = &company.legal_name {
        edit.offer.insert("workplace_legal_name", name);
        edit.recruiter.insert("establishment_raison_sociale", name);
    }
    if let Some(address) = &company.address {
        edit.offer.insert("workplace_address_label", address);
        edit.recruiter.insert("address", address);
    }
    PairVerdict::edit(edit.moving(now))
}

/// The new status of an offer without a job. An offer with an empty history waited only for its recruiter, and becomes
/// active. An offer that somebody cancelled, or that has expired, keeps its status.
fn without_job(pair: &Pair<'_>, now: DateTime) -> Option<OfferStatus> {
    let changed = value::list(pair.field("offer_status_history")).is_some_and(|history| !history.is_empty());
    let expired = pair.date("offer_expiration").is_some_and(|expires| expires < now);
    (!changed && !expired).then_some(OfferStatus::Active)
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, oid::ObjectId};

    use super::*;

    const NOW: DateTime = DateTime::from_millis(1_000_000);

    fn planned(offer: Document, owned_job: Option<(Document, Document)>) -> PairVerdict {
        let raw = |document: Document| RawDocumentBuf::try_from(&document).unwrap();
        let offer = raw(offer);
        let owned_job = owned_job.map(|(recruiter, job)| (raw(recruiter), raw(job)));
        let owned_job = owned_job.as_ref().map(|(recruiter, job)| OwnedJob { recruiter, job });
        let pair = Pair { id: JobId(ObjectId::new()), offer: &offer, owned_job, newest_wins: false };
        let company = Company { legal_name: Some("EXEMPLE SAS".to_owned()), address: None };
        plan(&pair, &company, NOW, false)
    }

    fn pending() -> Document {
        doc! { "recruiter_status": PENDING[0], "offer_status": "Cancelled", "offer_status_history": [] }
    }

    #[test]
    fn the_status_of_the_job_decides_what_the_offer_becomes() {
        for (job, status) in [("Active", Some(OfferStatus::Active)), ("Annulée", None), ("En attente", None)] {
            let owned_job = (doc! { "status": PENDING[1] }, doc! { "job_status": job });
            let edit = planned(pending(), Some(owned_job)).edit.unwrap();
            assert_eq!(edit.status.map(|status| status.0), status, "{job}");
            assert_eq!(edit.offer, doc! { "recruiter_status": "Actif", "workplace_legal_name": "EXEMPLE SAS" });
            let recruiter = doc! { "status": "Actif", "establishment_raison_sociale": "EXEMPLE SAS" };
            assert_eq!((edit.recruiter, edit.job), (recruiter, doc! {}), "what is not known is left as it is");
        }
    }

    #[test]
    fn without_a_job_an_offer_that_was_cancelled_or_has_ended_stays_cancelled() {
        let status = |offer: Document| planned(offer, None).edit.unwrap().status.map(|status| status.0);
        assert_eq!(status(pending()), Some(OfferStatus::Active));
        let mut cancelled = pending();
        cancelled.insert("offer_status_history", bson::bson!([{ "status": "Cancelled" }]));
        assert_eq!(status(cancelled), None);
        let mut ended = pending();
        ended.insert("offer_expiration", DateTime::from_millis(999_999));
        assert_eq!(status(ended), None);
    }

    #[test]
    fn a_recruiter_that_is_something_else_by_now_is_left_for_its_event() {
        let owned_job = (doc! { "status": "Archivé" }, doc! { "job_status": "Active" });
        assert_eq!(planned(pending(), Some(owned_job)), PairVerdict::skip("not_settled"));
        assert_eq!(planned(doc! { "recruiter_status": "Actif" }, None), PairVerdict::default());
    }
}
