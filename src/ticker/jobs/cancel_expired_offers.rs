//! The job `cancel-expired-offers` (4.2): cancels active offers past their expiration, and their jobs.

use std::collections::BTreeSet;

use bson::{DateTime, Document, RawBsonRef, RawDocument, doc};

use super::super::offer_and_job::{Edit, Pair, PairFields, PairVerdict};
use crate::error::Failure;
use crate::fetch::{IDS_PER_READ, links};
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::{OFFERS, WatchedCollection};
use crate::model::{OfferStatus, value};
use crate::mongo::reads::{documents, find};
use crate::project::closing::HISTORY;
use crate::ticker::job_context::JobContext;

/// The reason in the history of the offer (spec 05).
const REASON: &str = "offre expirée";
/// In milliseconds. Expirations from before the last run are looked at again, as a run may have met them too early.
const MARGIN: i64 = 24 * 60 * 60 * 1_000;
const FIELDS: PairFields = PairFields {
    offer: &["offer_status", "offer_expiration"],
    job: &["job_status", "job_expiration_date"],
    recruiter: &[],
};

/// Cancels the selected offers that are still active and expired when both sides are read.
///
/// # Errors
/// As [`JobContext::change_selected`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let now = job.now;
    if job.phase.writes_offers() {
        let since = job.previous.map(|previous| previous.saturating_add_millis(-MARGIN));
        let mut cursor = job.cursor(OFFERS, job.ours(selects_closed(now, since))).await?;
        while let Some(offers) = job.next(&mut cursor).await? {
            let offers = with_active_job(job, offers).await?;
            job.change(&offers, &FIELDS, &|pair| plan_closed(pair, now)).await?;
        }
    }
    job.change_selected(selects(now), &FIELDS, &|pair| plan(pair, now)).await
}

/// The selection of closed offers of `now` that expired, or were closed, after `since`. The platform may have closed them
/// without their jobs: an offer may expire, be opened again and be closed a second time.
#[must_use]
pub fn selects_closed(now: DateTime, since: Option<DateTime>) -> Document {
    let closed = [OfferStatus::Cancelled.as_str(), OfferStatus::Filled.as_str()];
    let mut selection = doc! { "offer_status": { "$in": closed.to_vec() }, "offer_expiration": { "$lt": now } };
    if let Some(since) = since {
        let history = format!("{}.date", HISTORY.as_str());
        let any = ["offer_expiration", "updated_at", &history].map(|field| doc! { field: { "$gte": since } });
        selection.insert("$or", any.to_vec());
    }
    selection
}

/// The offers of which a recruiter calls the job active. There are few, while the closed offers are many.
async fn with_active_job(job: &JobContext, offers: Vec<JobId>) -> Result<Vec<JobId>, Failure> {
    let database = &job.context.database;
    let owners = links::owners(database, &offers.iter().copied().collect()).await?;
    let recruiters: BTreeSet<RecruiterId> = owners.into_values().flatten().collect();
    let recruiters: Vec<RecruiterId> = recruiters.into_iter().collect();
    let mut active = BTreeSet::new();
    for recruiters in recruiters.chunks(IDS_PER_READ) {
        let (filter, wanted) = (doc! { "_id": { "$in": recruiters } }, doc! { "jobs._id": 1, "jobs.job_status": 1 });
        let batches = find(database, WatchedCollection::Recruiters.name(), filter, wanted).await?;
        for recruiter in documents(&batches) {
            let jobs = value::list(value::field(recruiter?, "jobs")).into_iter().flatten().flatten();
            let jobs = jobs.filter_map(RawBsonRef::as_document).filter(|job| is_active(job));
            active.extend(jobs.filter_map(|job| job.get_object_id("_id").ok().map(JobId)));
        }
    }
    Ok(offers.into_iter().filter(|offer| active.contains(offer)).collect())
}

fn is_active(job: &RawDocument) -> bool {
    matches!(value::text(value::field(job, "job_status")), Some("Active" | "ACTIVE"))
}

/// Closes an expired job that is still active although its offer is closed (spec 09, "A closing stands"). The job gets
/// the status of the offer, and keeps its date: it was not edited, so a closing by somebody else still stands.
fn plan_closed(pair: &Pair<'_>, now: DateTime) -> PairVerdict {
    let has_ended = |end: Option<DateTime>| end.is_some_and(|end| end < now);
    let Some(owned) = pair.owned_job.filter(|_| !pair.is_open() && has_ended(pair.date("offer_expiration"))) else {
        return PairVerdict::default();
    };
    let job_end = value::field(owned.job, "job_expiration_date").and_then(value::date);
    if !is_active(owned.job) || !has_ended(job_end) {
        return PairVerdict::default();
    }
    let is_filled = value::text(pair.field("offer_status")) == Some(OfferStatus::Filled.as_str());
    let status = if is_filled { "Pourvue" } else { "Annulée" };
    PairVerdict::edit(Edit { job: doc! { "job_status": status }, ..Edit::default() })
}

/// The selection of the job among our offers: active offers that expired before `now`.
#[must_use]
pub fn selects(now: DateTime) -> Document {
    doc! { "offer_status": OfferStatus::Active.as_str(), "offer_expiration": { "$lt": now } }
}

/// Checks the selection once more on both sides: an offer may have been prolonged since it was selected, perhaps only
/// in `recruiters` so far.
fn plan(pair: &Pair<'_>, now: DateTime) -> PairVerdict {
    let is_active = pair.field("offer_status").and_then(|status| status.as_str()) == Some(OfferStatus::Active.as_str());
    if !is_active || pair.date("offer_expiration").is_none_or(|expires| expires >= now) {
        return PairVerdict::default();
    }
    if !pair.agrees("offer_expiration", "job_expiration_date") {
        return PairVerdict::skip("not_settled");
    }
    PairVerdict::edit(Edit {
        status: Some((OfferStatus::Cancelled, REASON, now)),
        job: doc! { "job_status": "Annulée", "job_update_date": now },
        recruiter: doc! { "updatedAt": now },
        ..Edit::default()
    })
}
