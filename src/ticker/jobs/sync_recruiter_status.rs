//! The job `sync-recruiter-status` (4.15): copies the status of recruiters to the `recruiter_status` of their offers,
//! and sets the `offer_status` that follows from it.

use std::collections::HashMap;

use bson::{DateTime, Document, RawBsonRef, RawDocument, doc};

use super::super::offer_and_job::{Edit, OwnedJob, Pair, PairFields, PairVerdict};
use crate::config::OnUserDeactivated;
use crate::error::Failure;
use crate::fetch::IDS_PER_READ;
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, RecruiterId, typed};
use crate::model::names::OFFERS;
use crate::model::names::WatchedCollection;
use crate::model::offer::RECRUITER_STATUS_SYNCED;
use crate::model::{OfferStatus, TargetSchema, value};
use crate::mongo::reads::{documents, find};
use crate::project::{is_active, offer_status};
use crate::source::scan;
use crate::ticker::job_context::JobContext;

const FIELDS: PairFields = PairFields {
    offer: &["offer_status", "offer_status_history", "recruiter_status"],
    job: &["job_status", "job_update_date", "job_expiration_date"],
    recruiter: &["status"],
};

/// Goes through all recruiters, and changes the offers whose status differs.
///
/// # Errors
/// As [`JobContext::change`].
pub(super) async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let database = job.context.database.clone();
    let now = job.now;
    let cancels = job.context.settings.users.on_deactivated == OnUserDeactivated::CancelOffers;
    let mut after = None;
    loop {
        job.check()?;
        let ids = scan::ids_after(&database, WatchedCollection::Recruiters.name(), &Document::new(), after, scan::STEP)
            .await?;
        after = ids.last().copied();
        if after.is_none() {
            return Ok(());
        }
        let schema = job.context.target.schema();
        for recruiters in typed(&ids).chunks(IDS_PER_READ) {
            let differing = differing(job, recruiters).await?;
            job.change(&differing, &FIELDS, &|pair| plan(pair, now, cancels, &schema)).await?;
        }
    }
}

/// The jobs of these recruiters whose offers have another status of the recruiter; where the target's schema omits that
/// field, another `offer_status`.
async fn differing(job: &JobContext, recruiters: &[RecruiterId]) -> Result<Vec<JobId>, Failure> {
    let schema = job.context.target.schema();
    let wanted = doc! { "status": 1, "jobs._id": 1, "jobs.job_status": 1 };
    let collection = WatchedCollection::Recruiters.name();
    let batches = find(&job.context.database, collection, doc! { "_id": { "$in": recruiters } }, wanted).await?;
    let mut statuses: HashMap<JobId, [Option<RawBsonRef<'_>>; 2]> = HashMap::new();
    for recruiter in documents(&batches) {
        let recruiter = recruiter?;
        let jobs = value::list(value::field(recruiter, "jobs")).into_iter().flatten().flatten();
        for job in jobs.filter_map(RawBsonRef::as_document) {
            let both = [value::field(recruiter, "status"), value::field(job, "job_status")];
            statuses.extend(job.get_object_id("_id").ok().map(|id| (JobId(id), both)));
        }
    }
    let ids: Vec<JobId> = statuses.keys().copied().collect();
    let mut differing = Vec::new();
    for ids in ids.chunks(IDS_PER_READ) {
        let filter = job.ours(doc! { "_id": { "$in": ids } });
        let wanted = doc! { "recruiter_status": 1, "offer_status": 1 };
        let offers = find(&job.context.database, OFFERS, filter, wanted).await?;
        for offer in documents(&offers) {
            let offer = offer?;
            let id = offer.get_object_id("_id").ok().map(JobId);
            let differs = |id: &JobId| statuses.get(id).is_some_and(|known| !is_in_step(*known, offer, &schema));
            differing.extend(id.filter(differs));
        }
    }
    Ok(differing)
}

/// True when an offer has the status of its recruiter. Where the target's schema omits that field, the offer's own
/// status decides.
fn is_in_step([recruiter, job]: [Option<RawBsonRef<'_>>; 2], offer: &RawDocument, schema: &TargetSchema) -> bool {
    if !schema.omits("recruiter_status") {
        return is_same(recruiter, offer);
    }
    let projected = offer_status(recruiter, job).map(|status| schema.status(status).as_str());
    projected.is_ok_and(|projected| value::text(value::field(offer, "offer_status")) == Some(projected))
}

fn is_same(status: Option<RawBsonRef<'_>>, offer: &RawDocument) -> bool {
    match (status, value::field(offer, "recruiter_status")) {
        (Some(status), Some(known)) => value::same(status, known),
        (None, None) => true,
        _ => false,
    }
}

/// Plans the change of one offer. `cancels` is true where offers of deactivated users are cancelled. This job does not
/// know whether the user is deactivated: then a cancelled offer stays cancelled, and the stream decides.
fn plan(pair: &Pair<'_>, now: DateTime, cancels: bool, schema: &TargetSchema) -> PairVerdict {
    let Some(OwnedJob { recruiter, job }) = pair.owned_job else { return PairVerdict::default() };
    let (status, job_status) = (value::field(recruiter, "status"), value::field(job, "job_status"));
    if is_in_step([status, job_status], pair.offer, schema) {
        return PairVerdict::default();
    }
    let Ok(projected) = offer_status(status, job_status).map(|status| schema.status(status)) else {
        return PairVerdict::skip("unknown_job_status");
    };
    let stands = pair.field("offer_status").and_then(RawBsonRef::as_str);
    let is_deactivated = cancels && stands == Some(OfferStatus::Cancelled.as_str());
    let stays = is_deactivated || pair.closing_stands();
    let (of_job, of_recruiter) = (value::field(job, "job_update_date"), value::field(recruiter, "updatedAt"));
    // The projection gives the same `updated_at` to a closed offer.
    let only_job = is_active(value::field(recruiter, "status")) && !projected.is_open();
    let date = value::later_date(of_job, of_recruiter.filter(|_| !only_job)).or(value::later_date(of_recruiter, None));
    let changes = stands != Some(projected.as_str()) && !stays;
    if schema.omits("recruiter_status") && !changes {
        return PairVerdict::default();
    }
    let status: bson::Bson = status.and_then(|status| status.try_into().ok()).unwrap_or(bson::Bson::Null);
    PairVerdict::edit(Edit {
        offer: doc! { "recruiter_status": status },
        status: changes.then(|| (projected, RECRUITER_STATUS_SYNCED, date.unwrap_or(now))),
        ..Edit::default()
    })
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, oid::ObjectId};

    use super::*;

    fn judged(status: &str, job: &str, offer: Document, cancels: bool) -> Option<Edit> {
        let raw = |document: Document| RawDocumentBuf::try_from(&document).unwrap();
        let (recruiter, job, offer) = (raw(doc! { "status": status }), raw(doc! { "job_status": job }), raw(offer));
        let owned_job = Some(OwnedJob { recruiter: &recruiter, job: &job });
        let pair = Pair { id: JobId(ObjectId::new()), offer: &offer, owned_job, newest_wins: false };
        plan(&pair, DateTime::MIN, cancels, &TargetSchema::default()).edit
    }

    #[test]
    fn the_status_of_the_offer_follows_that_of_the_recruiter() {
        let offer = doc! { "recruiter_status": "Actif", "offer_status": "Active" };
        assert_eq!(judged("Actif", "Active", offer.clone(), false), None);
        let edit = judged("Archivé", "Active", offer, false).unwrap();
        assert_eq!(edit.offer, doc! { "recruiter_status": "Archivé" });
        assert_eq!(edit.status.unwrap().0, OfferStatus::Cancelled);
        let back = doc! { "recruiter_status": "Archivé", "offer_status": "Cancelled" };
        assert_eq!(judged("Actif", "Pourvue", back.clone(), false).unwrap().status.unwrap().0, OfferStatus::Filled);
        assert_eq!(judged("Actif", "Active", back.clone(), true).unwrap().status, None, "a user may be deactivated");
        assert_eq!(judged("Actif", "?", back, false), None);
    }
}
