//! Short ways to say in an assertion which field or job of a document is meant.

use bson::oid::ObjectId;
use bson::{Bson, Document};

/// The text in this field; empty when there is none.
pub(crate) fn text<'a>(document: &'a Document, field: &str) -> &'a str {
    document.get_str(field).unwrap_or_default()
}

/// The `_id` of each job of a recruiter.
pub(crate) fn job_ids(recruiter: &Document) -> Vec<ObjectId> {
    let jobs = recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document);
    jobs.map(|job| job.get_object_id("_id").unwrap()).collect()
}

/// The `_id` of a recruiter's first job.
pub(crate) fn first_job(recruiter: &Document) -> ObjectId {
    job_ids(recruiter)[0]
}
