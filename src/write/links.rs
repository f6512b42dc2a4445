//! Writes `stream_processor_links`. A link grows before the offers of its new jobs are written and
//! shrinks after those of its removed jobs are cancelled: whatever instant a crash chooses, a job that
//! ever had an offer is in some link until that offer is cancelled.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, doc, oid::ObjectId, rawdoc};

use super::statements::Statement;
use super::{Writer, command};
use crate::error::Failure;
use crate::fetch::links::LINKS;

/// The jobs by which the links of some recruiters grow or shrink.
pub type Jobs = BTreeMap<ObjectId, BTreeSet<ObjectId>>;

/// Adds these jobs to the links of their recruiters.
///
/// # Errors
/// As [`command::update`].
pub async fn grow(writer: &Writer, added: &Jobs) -> Result<(), Failure> {
    let statement = |recruiter: &ObjectId, jobs: &BTreeSet<ObjectId>| {
        let jobs: bson::raw::RawArrayBuf = jobs.iter().copied().collect();
        rawdoc! { "q": { "_id": *recruiter }, "u": { "$addToSet": { "jobs": { "$each": jobs } } }, "upsert": true }
    };
    update(writer, added, statement).await
}

/// Takes these jobs out of the links of their recruiters.
///
/// # Errors
/// As [`command::update`].
pub async fn shrink(writer: &Writer, removed: &Jobs) -> Result<(), Failure> {
    let statement = |recruiter: &ObjectId, jobs: &BTreeSet<ObjectId>| {
        let jobs: bson::raw::RawArrayBuf = jobs.iter().copied().collect();
        rawdoc! { "q": { "_id": *recruiter }, "u": { "$pull": { "jobs": { "$in": jobs } } } }
    };
    update(writer, removed, statement).await
}

async fn update(
    writer: &Writer,
    links: &Jobs,
    body: impl Fn(&ObjectId, &BTreeSet<ObjectId>) -> bson::RawDocumentBuf,
) -> Result<(), Failure> {
    let statements = links
        .iter()
        .filter(|(_, jobs)| !jobs.is_empty())
        .map(|(recruiter, jobs)| Statement { id: Some(*recruiter), body: body(recruiter, jobs) });
    let outcome = command::update(writer, LINKS, statements.collect()).await?;
    match outcome.refused.first() {
        Some(refused) => Err(Failure::Statement(refused.code)),
        None => Ok(()),
    }
}

/// Removes the links of recruiters that are gone.
///
/// # Errors
/// As [`command::update`].
pub async fn delete(writer: &Writer, recruiters: &[ObjectId]) -> Result<(), Failure> {
    if recruiters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Bson> = recruiters.iter().copied().map(Bson::from).collect();
    command::delete(writer, LINKS, doc! { "_id": { "$in": ids } }).await
}
