//! The job `cap-offer-expirations` (4.3): shortens the validity of offers to the day two months from today.

use bson::{DateTime, Document, doc};

use super::super::calendar::day_in_months;
use super::super::offer_and_job::{Edit, Pair, PairFields, PairVerdict};
use crate::interruption::Unfinished;
use crate::ticker::job_context::JobContext;

/// The longest validity of an offer, in months (spec 05: "start of the day (Paris) two months from now").
const MONTHS: u32 = 2;
const FIELDS: PairFields = PairFields { offer: &["offer_expiration"], job: &["job_expiration_date"], recruiter: &[] };

/// Sets later expirations of offers and jobs to the beginning of the day two months from now.
///
/// # Errors
/// As [`JobContext::change_selected`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let Some(latest) = day_in_months(job.now, job.zone(), MONTHS) else { return Ok(()) };
    let now = job.now;
    job.change_selected(selects(latest), &FIELDS, &|pair| plan(pair, latest, now)).await
}

/// The selection of the job among our offers: offers that expire after `latest`.
#[must_use]
pub fn selects(latest: DateTime) -> Document {
    doc! { "offer_expiration": { "$gt": latest } }
}

fn plan(pair: &Pair<'_>, latest: DateTime, now: DateTime) -> PairVerdict {
    match pair.date("offer_expiration") {
        Some(expires) if expires > latest => {
            if pair.agrees("offer_expiration", "job_expiration_date") {
                PairVerdict::edit(Edit::both("offer_expiration", "job_expiration_date", latest).moving(now))
            } else {
                PairVerdict::skip("not_settled")
            }
        }
        _ => PairVerdict::default(),
    }
}
