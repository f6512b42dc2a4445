//! `cancel-expired-offers` (4.2): an active offer past its expiration is cancelled, and its job with it.

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

/// Runs the job.
///
/// # Errors
/// As [`JobContext::change`].
pub async fn run(work: &mut JobContext) -> Result<(), Failure> {
    let now = work.now;
    let mut walk = work.walk(OFFERS, work.ours(selects(now))).await?;
    while let Some(offers) = work.next(&mut walk).await? {
        work.change(&offers, &FIELDS, &|pair| plan(pair, now)).await?;
    }
    Ok(())
}

/// Which offers, beside that they are ours.
#[must_use]
pub fn selects(now: DateTime) -> Document {
    doc! { "offer_status": OfferStatus::Active.as_str(), "offer_expiration": { "$lt": now } }
}

/// Looked at once more where both sides are read: an offer may have been prolonged since it was selected, in
/// `recruiters` first.
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
