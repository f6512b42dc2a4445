//! The job `fill-missing-start-dates` (4.4): sets the missing start date of an active offer to its creation date.

use bson::{DateTime, Document, doc};

use super::super::offer_and_job::{Edit, Pair, PairFields, PairVerdict};
use crate::interruption::Unfinished;
use crate::model::OfferStatus;
use crate::ticker::job_context::JobContext;

const FIELDS: PairFields = PairFields {
    offer: &["offer_status", "contract_start", "offer_creation", "created_at"],
    job: &["job_start_date"],
    recruiter: &[],
};

/// Sets the start date of the selected offers and their jobs: `offer_creation`, else `created_at`.
///
/// # Errors
/// As [`JobContext::change_selected`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let now = job.now;
    job.change_selected(selects(), &FIELDS, &|pair| plan(pair, now)).await
}

/// The selection of the job among our offers: active offers without a start date.
#[must_use]
pub fn selects() -> Document {
    doc! { "offer_status": OfferStatus::Active.as_str(), "contract_start": null }
}

fn plan(pair: &Pair<'_>, now: DateTime) -> PairVerdict {
    let is_active = pair.field("offer_status").and_then(|status| status.as_str()) == Some(OfferStatus::Active.as_str());
    if !is_active || pair.field("contract_start").is_some() {
        return PairVerdict::default();
    }
    if !pair.agrees("contract_start", "job_start_date") {
        return PairVerdict::skip("not_settled");
    }
    match pair.date("offer_creation").or_else(|| pair.date("created_at")) {
        Some(start) => PairVerdict::edit(Edit::both("contract_start", "job_start_date", start).moving(now)),
        None => PairVerdict::skip("no_date"),
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, RawDocumentBuf, oid::ObjectId};

    use super::*;
    use crate::model::ids::JobId;

    fn started(offer: Document) -> Option<DateTime> {
        let offer = RawDocumentBuf::try_from(&offer).unwrap();
        let pair = Pair { id: JobId(ObjectId::new()), offer: &offer, owned_job: None, newest_wins: false };
        plan(&pair, DateTime::MIN).edit.map(|edit| {
            assert_eq!(edit.offer.get("contract_start"), edit.job.get("job_start_date"));
            *edit.offer.get_datetime("contract_start").unwrap()
        })
    }

    #[test]
    fn the_creation_counts_to_the_millisecond_before_the_time_of_the_document() {
        for text in ["2026-06-14T21:59:59.999Z", "2026-06-14T22:00:00Z", "2026-12-14T22:59:59.999Z"] {
            let creation = DateTime::parse_rfc3339_str(text).unwrap();
            let later = DateTime::from_millis(creation.timestamp_millis() + 1);
            let offer = doc! { "offer_status": "Active", "offer_creation": creation, "created_at": later };
            assert_eq!(started(offer), Some(creation));
            let offer = doc! { "offer_status": "Active", "contract_start": null, "created_at": creation };
            assert_eq!(started(offer), Some(creation));
        }
        assert_eq!(started(doc! { "offer_status": "Active", "created_at": "2026" }), None);
        assert_eq!(started(doc! { "offer_status": "Cancelled", "created_at": DateTime::MIN }), None);
    }
}
