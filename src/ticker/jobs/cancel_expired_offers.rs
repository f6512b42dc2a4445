//! The job `cancel-expired-offers` (4.2): cancels active offers past their expiration, and their jobs.

use bson::{DateTime, Document, doc};

use super::super::pair::{Edit, Pair, PairFields, PairVerdict};
use crate::error::Failure;
use crate::model::OfferStatus;
use crate::model::names::OFFERS;
use crate::ticker::job_context::JobContext;

/// The reason in the history of the offer (spec 05).
const REASON: &str = "offre expirée";
const FIELDS: PairFields = PairFields {
    offer: &["offer_status", "offer_expiration"],
    job: &["job_status", "job_expiration_date"],
    recruiter: &[],
};

/// Cancels the selected offers that are still active and expired when both sides are read.
///
/// # Errors
/// As [`JobContext::change`].
pub async fn run(job: &mut JobContext) -> Result<(), Failure> {
    let now = job.now;
    let mut cursor = job.cursor(OFFERS, job.ours(selects(now))).await?;
    while let Some(offers) = job.next(&mut cursor).await? {
        job.change(&offers, &FIELDS, &|pair| plan(pair, now)).await?;
    }
    Ok(())
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
        offer: doc! { "updated_at": now },
        status: Some((OfferStatus::Cancelled, REASON, now)),
        job: doc! { "job_status": "Annulée", "job_update_date": now },
        recruiter: doc! { "updatedAt": now },
    })
}
