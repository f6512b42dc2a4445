//! Reads `stream_processor_links`: which jobs a recruiter held when it was last projected (spec 03,
//! "Links"). Written by [`crate::write::links`].

use std::collections::{BTreeSet, HashMap};

use bson::{Bson, RawBsonRef, RawDocument, doc, oid::ObjectId};

use super::{documents, find};
use crate::error::Failure;
use crate::fetch::causal::CausalDatabase;
use crate::model::value;

/// The collection of links: `{_id: recruiter id, jobs: [job ids]}`, index on `jobs`.
pub const LINKS: &str = "stream_processor_links";

/// The job ids of each of these recruiters that has a link.
///
/// # Errors
/// [`Failure::Read`].
pub async fn read(
    database: &CausalDatabase,
    recruiters: &[ObjectId],
) -> Result<HashMap<ObjectId, BTreeSet<ObjectId>>, Failure> {
    match recruiters.is_empty() {
        true => Ok(HashMap::new()),
        false => links(database, doc! { "_id": { "$in": recruiters } }).await,
    }
}

/// For each of these jobs that some recruiter holds: the recruiters that do.
///
/// # Errors
/// [`Failure::Read`].
pub async fn holders(
    database: &CausalDatabase,
    jobs: &BTreeSet<ObjectId>,
) -> Result<HashMap<ObjectId, BTreeSet<ObjectId>>, Failure> {
    let mut holders: HashMap<ObjectId, BTreeSet<ObjectId>> = HashMap::new();
    let ids = jobs.iter().copied().map(Bson::from).collect::<Vec<_>>();
    if ids.is_empty() {
        return Ok(holders);
    }
    for (recruiter, held) in links(database, doc! { "jobs": { "$in": ids } }).await? {
        for job in held.intersection(jobs) {
            holders.entry(*job).or_default().insert(recruiter);
        }
    }
    Ok(holders)
}

async fn links(
    database: &CausalDatabase,
    filter: bson::Document,
) -> Result<HashMap<ObjectId, BTreeSet<ObjectId>>, Failure> {
    let batches = find(database, LINKS, filter, doc! {}).await?;
    let mut links = HashMap::new();
    for document in documents(&batches) {
        links.extend(link(document?));
    }
    Ok(links)
}

/// The recruiter and the jobs of one link.
#[must_use]
pub fn link(document: &RawDocument) -> Option<(ObjectId, BTreeSet<ObjectId>)> {
    let recruiter = document.get_object_id("_id").ok()?;
    let jobs = value::list(value::field(document, "jobs"))?;
    Some((recruiter, jobs.into_iter().flatten().filter_map(RawBsonRef::as_object_id).collect()))
}
