//! Reads the jobs behind offers, each with its job owner, for a time-based job.

use std::collections::{BTreeSet, HashMap};

use bson::{Bson, Document, RawDocumentBuf, doc};

use super::offer_and_job::{OwnedJob, PairFields};
use crate::error::Failure;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::job_owner::JobOwner;
use crate::model::names::WatchedCollection;
use crate::model::value;
use crate::write::transaction::Transaction;

/// Reads these recruiters in the transaction, with the fields that the plan reads.
pub(super) async fn read_recruiters(
    transaction: &mut Transaction,
    owners: &HashMap<JobId, BTreeSet<RecruiterId>>,
    fields: &PairFields,
) -> Result<Vec<RawDocumentBuf>, Failure> {
    let ids: BTreeSet<RecruiterId> = owners.values().flatten().copied().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Bson> = ids.into_iter().map(Bson::from).collect();
    let mut wanted = projection("", &JobOwner::FIELDS, fields.recruiter);
    wanted.extend(projection("jobs.", &["_id", "job_update_date"], fields.job));
    transaction.read(WatchedCollection::Recruiters.name(), doc! { "_id": { "$in": ids } }, wanted, 0).await
}

/// The projection of a read: the fields that are always read, and those that the plan asks for.
pub(super) fn projection(prefix: &str, always: &[&str], asked: &[&str]) -> Document {
    always.iter().chain(asked).map(|name| (format!("{prefix}{name}"), Bson::Int32(1))).collect()
}

/// The jobs of these recruiters by `_id`. Where several recruiters have the same job, the job owner's is taken.
pub(super) fn jobs_of(recruiters: &[RawDocumentBuf]) -> HashMap<JobId, OwnedJob<'_>> {
    let mut jobs = HashMap::new();
    let mut recruiters: Vec<&RawDocumentBuf> = recruiters.iter().collect();
    // A recruiter that is no candidate comes first, and so counts only where there is no other.
    recruiters.sort_by_key(|recruiter| JobOwner::of(recruiter));
    for recruiter in recruiters.into_iter().rev() {
        for job in value::list(value::field(recruiter, "jobs")).into_iter().flatten().flatten() {
            if let Some(job) = job.as_document()
                && let Ok(id) = job.get_object_id("_id").map(JobId)
            {
                jobs.entry(id).or_insert(OwnedJob { recruiter, job });
            }
        }
    }
    jobs
}
