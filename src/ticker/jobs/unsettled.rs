//! Finds the offers about which no e-mail is sent, because their jobs say otherwise. The event of the job is still to
//! come, or the offer has a dead letter.

use std::collections::BTreeSet;

use bson::{Bson, RawDocumentBuf, doc};
use mongodb::raw_batch_cursor::RawBatch;

use super::super::offer_and_job::Pair;
use super::super::owned_jobs::{jobs_of, projection};
use crate::error::Failure;
use crate::fetch::links;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::WatchedCollection;
use crate::mongo::reads::{documents, find};
use crate::phase::StreamWrites;
use crate::ticker::job_context::JobContext;

/// Returns those of the offers whose job has the mark of this e-mail already, or is not open. From `shadow` on there are
/// none, because the offers are the authority. An offer that is newer than its job wins in `dual-write`. The offers need
/// `updated_at`.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn unsettled(job: &JobContext, batches: &[RawBatch], mark: &str) -> Result<BTreeSet<JobId>, Failure> {
    let mut unsettled = BTreeSet::new();
    if !job.phase.writes_offers() {
        return Ok(unsettled);
    }
    let mut ids = BTreeSet::new();
    for offer in documents(batches) {
        ids.extend(offer?.get_object_id("_id").ok().map(JobId));
    }
    let owners = links::owners(&job.context.database, &ids).await?;
    let recruiters: BTreeSet<RecruiterId> = owners.into_values().flatten().collect();
    let recruiters: Vec<Bson> = recruiters.into_iter().map(Bson::from).collect();
    let mut wanted = projection("", &["updatedAt", "status"], &[]);
    wanted.extend(projection("jobs.", &["_id", "job_update_date", "job_status"], &[mark]));
    let filter = doc! { "_id": { "$in": recruiters } };
    let read = find(&job.context.database, WatchedCollection::Recruiters.name(), filter, wanted).await?;
    let recruiters = documents(&read).map(|recruiter| Ok(recruiter?.to_owned()));
    let recruiters: Vec<RawDocumentBuf> = recruiters.collect::<Result<_, Failure>>()?;
    drop(read);
    let jobs = jobs_of(&recruiters);
    let newest_wins = job.phase.stream() == StreamWrites::UnlessNewer;
    for offer in documents(batches) {
        let offer = offer?;
        let Ok(id) = offer.get_object_id("_id").map(JobId) else { continue };
        let pair = Pair { id, offer, owned_job: jobs.get(&id).copied(), newest_wins };
        if pair.is_marked_in_job(mark) || pair.is_closed_by_job() {
            unsettled.insert(id);
        }
    }
    Ok(unsettled)
}
