//! Finds the offers of a user that do not name the user, because the target's schema has or had no field for that.

use bson::{Bson, Document, RawBsonRef, doc};

use crate::error::Failure;
use crate::fetch::IDS_PER_READ;
use crate::model::ids::JobId;
use crate::model::names::{OFFERS, WatchedCollection};
use crate::model::value;
use crate::mongo::reads::{documents, find};
use crate::ticker::job_context::JobContext;

/// Finds the offers that belong to jobs of these recruiters and name no user themselves. This is only necessary from
/// `shadow` on: before, the stream anonymises the offers of a deleted recruiter.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn unnamed_offers(job: &JobContext, of_user: Document) -> Result<Vec<JobId>, Failure> {
    let mut unnamed = Vec::new();
    if job.phase.writes_offers() {
        return Ok(unnamed);
    }
    let (database, name) = (&job.context.database, WatchedCollection::Recruiters.name());
    let recruiters = find(database, name, of_user, doc! { "jobs._id": 1 }).await?;
    let mut ids: Vec<Bson> = Vec::new();
    for recruiter in documents(&recruiters) {
        let jobs = value::list(value::field(recruiter?, "jobs")).into_iter().flatten().flatten();
        let jobs = jobs.filter_map(RawBsonRef::as_document);
        ids.extend(jobs.filter_map(|job| job.get_object_id("_id").ok()).map(Bson::from));
    }
    for ids in ids.chunks(IDS_PER_READ) {
        let filter = job.ours(doc! { "_id": { "$in": ids }, "managed_by": Bson::Null });
        let offers = find(database, OFFERS, filter, doc! { "_id": 1 }).await?;
        for offer in documents(&offers) {
            unnamed.extend(offer?.get_object_id("_id").ok().map(JobId));
        }
    }
    unnamed.sort_unstable();
    unnamed.dedup();
    Ok(unnamed)
}
