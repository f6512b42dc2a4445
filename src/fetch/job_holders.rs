//! Reads which recruiters hold jobs, by indexed fields: there is no index on `jobs._id`.

use std::collections::{BTreeSet, HashSet};

use bson::{Document, RawBsonRef, RawDocument, doc, oid::ObjectId};

use super::IDS_PER_READ;
use crate::error::Failure;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::WatchedCollection;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};

/// A recruiter, or its anonymised copy. A field that the query did not ask for is empty.
pub(crate) struct OwnerRecord {
    pub(crate) id: RecruiterId,
    /// The `establishment_id`.
    pub(crate) establishment: Option<String>,
    /// The `_id`s of the jobs.
    pub(crate) jobs: Vec<JobId>,
}

/// The offers whose job belongs to a recruiter with the `establishment_id` of the offer.
pub(crate) async fn held_where_named(
    database: &CausalDatabase,
    offers: &[&RawDocument],
) -> Result<BTreeSet<JobId>, Failure> {
    let establishment = |offer: &RawDocument| value::text(value::field(offer, "establishment_id")).map(str::to_owned);
    let establishments: Vec<String> = offers.iter().filter_map(|offer| establishment(offer)).collect();
    let mut held = BTreeSet::new();
    for establishments in establishments.chunks(IDS_PER_READ) {
        let filter = doc! { "establishment_id": { "$in": establishments } };
        let found =
            jobs(database, WatchedCollection::Recruiters, filter, doc! { "establishment_id": 1, "jobs._id": 1 })
                .await?;
        let pair = |recruiter: OwnerRecord| {
            let OwnerRecord { establishment, jobs, .. } = recruiter;
            jobs.into_iter().map(move |job| (job, establishment.clone()))
        };
        let pairs: HashSet<(JobId, Option<String>)> = found.into_iter().flat_map(pair).collect();
        let named = |offer: &&RawDocument| id(offer).filter(|id| pairs.contains(&(*id, establishment(offer))));
        held.extend(offers.iter().filter_map(named));
    }
    Ok(held)
}

/// The recruiters, or their anonymised copies, that `filter` selects. `fields` is the projection of the query.
pub(crate) async fn jobs(
    database: &CausalDatabase,
    collection: WatchedCollection,
    filter: Document,
    fields: Document,
) -> Result<Vec<OwnerRecord>, Failure> {
    let batches = find(database, collection.name(), filter, fields).await?;
    let mut found = Vec::new();
    for document in documents(&batches) {
        let document = document?;
        let jobs = value::list(value::field(document, "jobs")).into_iter().flatten().flatten();
        let jobs = jobs.filter_map(RawBsonRef::as_document).filter_map(id).collect();
        let establishment = value::text(value::field(document, "establishment_id")).map(str::to_owned);
        found.extend(id(document).map(|id| OwnerRecord { id, establishment, jobs }));
    }
    Ok(found)
}

fn id<I: From<ObjectId>>(document: &RawDocument) -> Option<I> {
    document.get_object_id("_id").ok().map(I::from)
}
