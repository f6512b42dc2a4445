//! Reads `stream_processor_links`: which jobs a recruiter held when it was last projected (spec 03,
//! "Links"). Written by [`crate::write::links`].

use std::collections::{BTreeSet, HashMap};

use bson::{Bson, RawBsonRef, RawDocument, doc, oid::ObjectId};

use crate::error::Failure;
use crate::model::names::LINKS;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents, find};

/// At most this many jobs in one query.
const JOBS_PER_READ: usize = 5_000;

/// What is remembered of one recruiter.
#[derive(Debug, Default, Clone)]
pub struct Link {
    /// The jobs that it held when it was last projected.
    pub jobs: BTreeSet<ObjectId>,
    /// The jobs that it lost while the phase let no offer be cancelled: that is to be done once it does.
    pub removed: BTreeSet<ObjectId>,
}

impl Link {
    /// Every job that an offer may be left of.
    pub fn all(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.jobs.union(&self.removed).copied()
    }
}

/// The links of these recruiters, as far as they have one.
///
/// # Errors
/// [`Failure::Read`].
pub async fn read(database: &CausalDatabase, recruiters: &[ObjectId]) -> Result<HashMap<ObjectId, Link>, Failure> {
    if recruiters.is_empty() {
        Ok(HashMap::new())
    } else {
        links(database, doc! { "_id": { "$in": recruiters } }).await
    }
}

/// For each of these jobs that some recruiter holds: the recruiters that do.
///
/// # Errors
/// [`Failure::Read`].
pub async fn owners(
    database: &CausalDatabase,
    jobs: &BTreeSet<ObjectId>,
) -> Result<HashMap<ObjectId, BTreeSet<ObjectId>>, Failure> {
    let mut owners: HashMap<ObjectId, BTreeSet<ObjectId>> = HashMap::new();
    let ids = jobs.iter().copied().map(Bson::from).collect::<Vec<_>>();
    for ids in ids.chunks(JOBS_PER_READ) {
        for (recruiter, link) in links(database, doc! { "jobs": { "$in": ids } }).await? {
            for job in ids.iter().filter_map(Bson::as_object_id).filter(|job| link.jobs.contains(job)) {
                owners.entry(job).or_default().insert(recruiter);
            }
        }
    }
    Ok(owners)
}

/// The number of recruiters that hold any of these jobs. The server reads no document for it, only the index on `jobs`.
///
/// # Errors
/// [`Failure::Read`].
pub async fn count_owners(database: &CausalDatabase, jobs: &BTreeSet<ObjectId>) -> Result<u64, Failure> {
    let mut session = database.session().await?;
    let jobs: Vec<Bson> = jobs.iter().copied().map(Bson::from).collect();
    let links = collection(database, LINKS);
    let count = links.count_documents(doc! { "jobs": { "$in": jobs } }).session(&mut session);
    with_deadline(count).await.map_err(Failure::Read)
}

async fn links(database: &CausalDatabase, filter: bson::Document) -> Result<HashMap<ObjectId, Link>, Failure> {
    let batches = find(database, LINKS, filter, doc! {}).await?;
    let mut links = HashMap::new();
    for document in documents(&batches) {
        links.extend(link(document?));
    }
    Ok(links)
}

fn link(document: &RawDocument) -> Option<(ObjectId, Link)> {
    let recruiter = document.get_object_id("_id").ok()?;
    let jobs = |field| {
        let jobs = value::list(value::field(document, field)).into_iter().flatten().flatten();
        jobs.filter_map(RawBsonRef::as_object_id).collect()
    };
    Some((recruiter, Link { jobs: jobs("jobs"), removed: jobs("removed") }))
}
