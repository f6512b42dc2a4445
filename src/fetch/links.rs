//! Reads `stream_processor_links`: the jobs that a recruiter had when it was last projected (spec 03, "Links").
//! [`crate::write::links`] writes them.

use std::collections::{BTreeSet, HashMap};

use bson::{Bson, RawBsonRef, RawDocument, doc};

use crate::error::Failure;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::LINKS;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents, find};

/// The greatest number of jobs in one query.
const JOBS_PER_READ: usize = 5_000;

/// The remembered jobs of one recruiter.
#[derive(Debug, Default, Clone)]
pub(crate) struct Link {
    /// The jobs of the recruiter at its last projection.
    pub jobs: BTreeSet<JobId>,
    /// The jobs that disappeared while the phase allowed no cancellation. Their offers are cancelled when a phase
    /// allows it again.
    pub removed: BTreeSet<JobId>,
}

impl Link {
    /// Every job that may still have an offer.
    pub(crate) fn all(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.union(&self.removed).copied()
    }
}

/// The links of these recruiters. A recruiter without a link is not in the result.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn read(
    database: &CausalDatabase,
    recruiters: &[RecruiterId],
) -> Result<HashMap<RecruiterId, Link>, Failure> {
    if recruiters.is_empty() {
        Ok(HashMap::new())
    } else {
        links(database, doc! { "_id": { "$in": recruiters } }).await
    }
}

/// The recruiters that have each of these jobs. A job that no recruiter has is not in the result.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn owners(
    database: &CausalDatabase,
    jobs: &BTreeSet<JobId>,
) -> Result<HashMap<JobId, BTreeSet<RecruiterId>>, Failure> {
    let mut owners: HashMap<JobId, BTreeSet<RecruiterId>> = HashMap::new();
    let ids = jobs.iter().copied().map(Bson::from).collect::<Vec<_>>();
    for ids in ids.chunks(JOBS_PER_READ) {
        for (recruiter, link) in links(database, doc! { "jobs": { "$in": ids } }).await? {
            for job in link.jobs.into_iter().filter(|job| jobs.contains(job)) {
                owners.entry(job).or_default().insert(recruiter);
            }
        }
    }
    Ok(owners)
}

/// True if any recruiter has a link.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn any(database: &CausalDatabase) -> Result<bool, Failure> {
    let mut session = database.session().await?;
    let link = with_deadline(collection(database, LINKS).find_one(doc! {}).session(&mut session)).await;
    Ok(link.map_err(Failure::Read)?.is_some())
}

/// The number of recruiters that have any of these jobs. The server reads only the index on `jobs`, and no document.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn count_owners(database: &CausalDatabase, jobs: &BTreeSet<JobId>) -> Result<u64, Failure> {
    let mut session = database.session().await?;
    let jobs: Vec<Bson> = jobs.iter().copied().map(Bson::from).collect();
    let links = collection(database, LINKS);
    let count = links.count_documents(doc! { "jobs": { "$in": jobs } }).session(&mut session);
    with_deadline(count).await.map_err(Failure::Read)
}

async fn links(database: &CausalDatabase, filter: bson::Document) -> Result<HashMap<RecruiterId, Link>, Failure> {
    let batches = find(database, LINKS, filter, doc! {}).await?;
    let mut links = HashMap::new();
    for document in documents(&batches) {
        links.extend(link(document?));
    }
    Ok(links)
}

fn link(document: &RawDocument) -> Option<(RecruiterId, Link)> {
    let recruiter = RecruiterId(document.get_object_id("_id").ok()?);
    let jobs = |field| {
        let jobs = value::list(value::field(document, field)).into_iter().flatten().flatten();
        jobs.filter_map(RawBsonRef::as_object_id).map(JobId).collect()
    };
    Some((recruiter, Link { jobs: jobs("jobs"), removed: jobs("removed") }))
}
