//! The job `cancel-expired-offers` (4.2): cancels active offers past their expiration, and their jobs.

use bson::{DateTime, Document, doc};

use super::super::pair::{Edit, Pair, PairFields, PairVerdict};
use crate::interruption::Unfinished;
use crate::model::names::OFFERS;
use crate::model::{OfferStatus, value};
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
/// As [`JobContext::change`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let now = job.now;
    let mut cursor = job.cursor(OFFERS, job.ours(selects(now))).await?;
    while let Some(offers) = job.next(&mut cursor).await? {
        job.change(&offers, &FIELDS, &|pair| plan(pair, now)).await?;
    }
    if job.phase.writes_offers() {
        let since = job.previous.map(|previous| previous.saturating_add_millis(-MARGIN));
        let mut cursor = job.cursor(OFFERS, job.ours(selects_closed(now, since))).await?;
        while let Some(offers) = job.next(&mut cursor).await? {
            job.change(&offers, &FIELDS, &|pair| plan_closed(pair, now)).await?;
        }
    }
    Ok(())
}

/// The selection of offers that expired between `since` and `now` and are closed. The platform may have closed them
/// without their jobs.
#[must_use]
pub fn selects_closed(now: DateTime, since: Option<DateTime>) -> Document {
    let closed = [OfferStatus::Cancelled.as_str(), OfferStatus::Filled.as_str()];
    let since = since.unwrap_or(DateTime::MIN);
    doc! { "offer_status": { "$in": closed.to_vec() }, "offer_expiration": { "$gte": since, "$lt": now } }
}

/// Closes an expired job that is still active although its offer is closed (spec 09, "A closing stands"). The job gets
/// the status of the offer, and keeps its date: it was not edited, so a closing by somebody else still stands.
fn plan_closed(pair: &Pair<'_>, now: DateTime) -> PairVerdict {
    let has_ended = |end: Option<DateTime>| end.is_some_and(|end| end < now);
    let Some(owned) = pair.owned_job.filter(|_| !pair.is_open() && has_ended(pair.date("offer_expiration"))) else {
        return PairVerdict::default();
    };
    let job_end = value::field(owned.job, "job_expiration_date").and_then(value::date);
    let is_active = matches!(value::text(value::field(owned.job, "job_status")), Some("Active" | "ACTIVE"));
    if !is_active || !has_ended(job_end) {
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
