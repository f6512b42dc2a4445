//! Tells which events of `jobs_partners` are about our offers. Only an insert has the label in its event, so the offers
//! of the others are asked for it.

use std::collections::BTreeSet;

use bson::doc;

use super::links;
use crate::error::Failure;
use crate::model::ids::JobId;
use crate::model::names::OFFERS;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};
use crate::source::event::{Event, Operation};

/// Returns the offers with our label among those of `events`. An offer that is deleted, or has another label now, is ours
/// if it has a job.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn own_offers(
    database: &CausalDatabase,
    partner_label: &str,
    events: impl Iterator<Item = &Event>,
) -> Result<BTreeSet<JobId>, Failure> {
    let (by_job, by_label): (Vec<&Event>, Vec<&Event>) = events.partition(|event| has_no_label(event));
    let ids = |events: Vec<&Event>| events.into_iter().filter_map(|event| event.id().map(JobId)).collect();
    let (by_job, by_label): (BTreeSet<JobId>, BTreeSet<JobId>) = (ids(by_job), ids(by_label));
    let mut ours: BTreeSet<JobId> = links::owners(database, &by_job).await?.into_keys().collect();
    if by_label.is_empty() {
        return Ok(ours);
    }
    let ids: Vec<JobId> = by_label.into_iter().collect();
    let filter = doc! { "_id": { "$in": ids }, "partner_label": partner_label };
    for offer in documents(&find(database, OFFERS, filter, doc! { "_id": 1 }).await?) {
        ours.extend(offer?.get_object_id("_id").ok().map(JobId));
    }
    Ok(ours)
}

/// True for an event after which the offer no longer shows whose it was.
fn has_no_label(event: &Event) -> bool {
    let changes_label = |paths: &Vec<String>| paths.iter().any(|path| path == "partner_label");
    event.operation == Operation::Delete || event.paths.as_ref().is_some_and(changes_label)
}
