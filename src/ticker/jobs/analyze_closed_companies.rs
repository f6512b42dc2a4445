//! The job `analyze-closed-companies` (4.14): reports active offers of companies that are closed according to
//! `cache_siret`. The job only reads.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};

use super::super::report::ReportLine;
use crate::error::Failure;
use crate::fetch::references::key_at;
use crate::interruption::Unfinished;
use crate::model::ids::JobId;
use crate::model::names::OFFERS;
use crate::model::names::SIRET_CACHE;
use crate::model::{OfferStatus, value};
use crate::mongo::reads::{documents, find};
use crate::ticker::job_context::JobContext;

const STATE: &str = "data.data.etat_administratif";
/// The value of `etat_administratif` for an active company.
const ACTIVE: &str = "A";

/// Reports the selected offers whose company is closed, with the label `closed_company` and the siret.
///
/// # Errors
/// [`Failure::Read`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let mut cursor = job.cursor(OFFERS, job.ours(selects())).await?;
    while let Some(offers) = job.next(&mut cursor).await? {
        job.check()?;
        look(job, &offers).await?;
    }
    Ok(())
}

/// The selection of the job among our offers: active offers.
#[must_use]
pub fn selects() -> Document {
    doc! { "offer_status": OfferStatus::Active.as_str() }
}

/// A filter of the entries of `cache_siret` for these sirets.
#[must_use]
pub fn of_sirets(sirets: &BTreeSet<&str>) -> Document {
    let sirets: Vec<Bson> = sirets.iter().map(|siret| Bson::from(*siret)).collect();
    doc! { "siret": { "$in": sirets } }
}

async fn look(job: &mut JobContext, offers: &[JobId]) -> Result<(), Failure> {
    let database = job.context.database.clone();
    let filter = job.ours(doc! { "_id": { "$in": offers } });
    let batches = find(&database, OFFERS, filter, doc! { "workplace_siret": 1 }).await?;
    let mut sirets = BTreeSet::new();
    for offer in documents(&batches) {
        sirets.extend(value::text(value::field(offer?, "workplace_siret")));
    }
    let entries = find(&database, SIRET_CACHE, of_sirets(&sirets), doc! { "siret": 1, STATE: 1 }).await?;
    let (mut known, mut closed) = (BTreeSet::new(), BTreeSet::new());
    for entry in documents(&entries) {
        let entry = entry?;
        if let (Some(siret), Some(state)) = (key_at(entry, "siret"), key_at(entry, STATE)) {
            known.insert(siret);
            if state != ACTIVE {
                closed.insert(siret);
            }
        }
    }
    for offer in documents(&batches) {
        let offer = offer?;
        let siret = value::text(value::field(offer, "workplace_siret")).unwrap_or_default();
        let Ok(id) = offer.get_object_id("_id").map(JobId) else { continue };
        if closed.contains(siret) {
            job.report.matched += 1;
            job.tell(ReportLine::new(id, "closed_company", [siret]));
        } else if !known.contains(siret) {
            // Without an entry, nobody knows whether the company is closed.
            job.report.skip("not_in_cache", 1);
        }
    }
    Ok(())
}
