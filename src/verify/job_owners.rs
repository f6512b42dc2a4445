//! Reads the recruiters of jobs, and the offers of jobs, for a comparison. There is no index on `jobs._id`, so
//! recruiters are searched by indexed fields first. The file does not decide whether an offer is right.

use std::collections::{BTreeSet, HashMap, HashSet};

use bson::{Bson, Document, RawBsonRef, RawDocument, doc, oid::ObjectId};
use mongodb::raw_batch_cursor::RawBatch;

use super::compare::CONTACT;
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::{IDS_PER_READ, links};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::job_owner::JobOwner;
use crate::model::names::WatchedCollection;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};
use crate::project::WRITTEN;
use crate::project::closing::HISTORY;

/// A recruiter, or its anonymised copy. A field that the query did not ask for is empty.
pub(super) struct OwnerRecord {
    pub id: RecruiterId,
    /// The `establishment_id`.
    pub establishment: Option<String>,
    /// The `_id`s of the jobs.
    pub jobs: Vec<JobId>,
}

/// The candidates for the ownership of these jobs: the recruiters that have the job and an address now. Only recruiters are
/// searched that a link names, or that have one of these establishments, which the offers of the jobs show.
pub(super) async fn contenders(
    database: &CausalDatabase,
    jobs: &BTreeSet<JobId>,
    shown: BTreeSet<String>,
) -> Result<HashMap<JobId, Vec<JobOwner>>, Failure> {
    let mut contenders: HashMap<JobId, Vec<JobOwner>> = HashMap::new();
    if jobs.is_empty() {
        return Ok(contenders);
    }
    let linked: BTreeSet<RecruiterId> = links::owners(database, jobs).await?.into_values().flatten().collect();
    let linked: Vec<Bson> = linked.into_iter().map(Bson::from).collect();
    let shown: Vec<String> = shown.into_iter().collect();
    let filter = doc! { "$or": [{ "_id": { "$in": linked } }, { "establishment_id": { "$in": shown } }] };
    let batches = find(database, WatchedCollection::Recruiters.name(), filter, JobOwner::wanted()).await?;
    for document in documents(&batches) {
        let document = document?;
        let Some(owner) = JobOwner::of(document) else { continue };
        let held = value::list(value::field(document, "jobs")).into_iter().flatten().flatten();
        let held = held.filter_map(RawBsonRef::as_document).filter_map(id).filter(|job| jobs.contains(job));
        held.for_each(|job| contenders.entry(job).or_default().push(owner));
    }
    Ok(contenders)
}

/// An offer, by what leads to the recruiter of its job.
#[derive(Debug, Clone)]
pub(super) struct ShownOffer {
    pub id: JobId,
    /// The `establishment_id` that the offer shows.
    pub establishment: Option<String>,
}

impl ShownOffer {
    pub(super) fn new(id: JobId, offer: &RawDocument) -> Self {
        Self { id, establishment: establishment(offer) }
    }
}

/// The offers whose job belongs to a recruiter with the `establishment_id` of the offer.
async fn held_where_named(database: &CausalDatabase, offers: &[ShownOffer]) -> Result<BTreeSet<JobId>, Failure> {
    let shown: HashMap<JobId, &str> =
        offers.iter().filter_map(|offer| Some((offer.id, offer.establishment.as_deref()?))).collect();
    let establishments: BTreeSet<&str> = shown.values().copied().collect();
    let establishments: Vec<&str> = establishments.into_iter().collect();
    let mut held = BTreeSet::new();
    for establishments in establishments.chunks(IDS_PER_READ) {
        let filter = doc! { "establishment_id": { "$in": establishments } };
        let fields = doc! { "establishment_id": 1, "jobs._id": 1 };
        for recruiter in jobs(database, WatchedCollection::Recruiters, filter, fields).await? {
            let named =
                |job: &JobId| shown.get(job).is_some_and(|shown| Some(*shown) == recruiter.establishment.as_deref());
            held.extend(recruiter.jobs.iter().copied().filter(|job| named(job)));
        }
    }
    Ok(held)
}

/// The offers whose job belongs to any recruiter.
pub(super) async fn held(database: &CausalDatabase, offers: &[ShownOffer]) -> Result<BTreeSet<JobId>, Failure> {
    let mut held = held_where_named(database, offers).await?;
    let rest = |held: &BTreeSet<JobId>| -> BTreeSet<JobId> {
        offers.iter().map(|offer| offer.id).filter(|id| !held.contains(id)).collect()
    };
    // An offer may name another establishment than its recruiter. The links name the recruiter, if they are right.
    let linked = links::owners(database, &rest(&held)).await?;
    let recruiters: BTreeSet<RecruiterId> = linked.into_values().flatten().collect();
    let recruiters: Vec<Bson> = recruiters.into_iter().map(Bson::from).collect();
    let filter = doc! { "_id": { "$in": recruiters } };
    let found = jobs(database, WatchedCollection::Recruiters, filter, doc! { "jobs._id": 1 }).await?;
    held.extend(found.into_iter().flat_map(|held| held.jobs));
    let rest = rest(&held);
    if !rest.is_empty() {
        // This search has no index, so it is only for offers that would otherwise count as differences.
        let unfound: Vec<Bson> = rest.into_iter().map(Bson::from).collect();
        let filter = doc! { "jobs._id": { "$in": unfound } };
        let found = jobs(database, WatchedCollection::Recruiters, filter, doc! { "jobs._id": 1 }).await?;
        held.extend(found.into_iter().flat_map(|held| held.jobs));
    }
    Ok(held)
}

/// The establishments of these offers for which there is still a recruiter.
pub(super) async fn establishments(
    database: &CausalDatabase,
    offers: &[ShownOffer],
) -> Result<HashSet<String>, Failure> {
    let names: Vec<&str> = offers.iter().filter_map(|offer| offer.establishment.as_deref()).collect();
    let filter = doc! { "establishment_id": { "$in": names } };
    let found = jobs(database, WatchedCollection::Recruiters, filter, doc! { "establishment_id": 1 }).await?;
    Ok(found.into_iter().filter_map(|held| held.establishment).collect())
}

/// The recruiters, or their anonymised copies, that `filter` selects. `fields` is the projection of the query.
pub(super) async fn jobs(
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
        found.extend(id(document).map(|id| OwnerRecord { id, establishment: establishment(document), jobs }));
    }
    Ok(found)
}

/// The recruiters among `ids` whose documents exist in the collection.
pub(super) async fn present(
    database: &CausalDatabase,
    collection: WatchedCollection,
    ids: &[RecruiterId],
) -> Result<BTreeSet<RecruiterId>, Failure> {
    let filter = doc! { "_id": { "$in": ids } };
    let batches = find(database, collection.name(), filter, doc! { "_id": 1 }).await?;
    documents(&batches).map(|document| Ok(id(document?))).filter_map(Result::transpose).collect()
}

/// A reader of the fields of offers that are compared: the projected fields, the history, and two more fields that an anonymisation
/// empties. Other fields belong to other processes, and their changes are no differences.
pub(super) fn offer_reader(database: &CausalDatabase) -> ChunkReader {
    let more = [HISTORY.as_str(), "apply_url", "workplace_description"];
    let fields: Vec<&str> = WRITTEN.iter().map(|name| name.as_str()).chain(more).collect();
    ChunkReader::of_offer_fields(database, &fields)
}

/// A reader of the fields by which an offer without a job is checked.
pub(super) fn managed_reader(database: &CausalDatabase) -> ChunkReader {
    let fields = ["managed_by", "establishment_id", "offer_status"];
    ChunkReader::of_offer_fields(database, &[&fields, CONTACT.as_slice()].concat())
}

/// The offers by `_id`, without documents whose `_id` is no ObjectId.
pub(super) fn by_id(batches: &[RawBatch]) -> Result<HashMap<JobId, &RawDocument>, Failure> {
    let with_id = |document: Result<_, Failure>| document.map(|document| Some((id(document)?, document)));
    documents(batches).map(with_id).filter_map(Result::transpose).collect()
}

/// The `establishment_id` of a recruiter, of a copy or of an offer.
pub(super) fn establishment(document: &RawDocument) -> Option<String> {
    value::text(value::field(document, "establishment_id")).map(str::to_owned)
}

/// The `_id`; `None` when it is no ObjectId.
fn id<I: From<ObjectId>>(document: &RawDocument) -> Option<I> {
    document.get_object_id("_id").ok().map(I::from)
}
