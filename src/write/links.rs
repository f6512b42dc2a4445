//! Writes the links, documents of `stream_processor_links`. A link grows before the offers of its new jobs are written,
//! and shrinks after the offers of its removed jobs are cancelled. So, whenever a crash happens, a job that ever had an
//! offer is in some link until that offer is cancelled.

use std::collections::{BTreeMap, BTreeSet};

use bson::raw::RawArrayBuf;
use bson::{RawDocumentBuf, doc, rawdoc};

use super::statements::Statement;
use super::update_reply::Refused;
use super::{Writer, update_command};
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::LINKS;

/// Jobs by recruiter, by which links grow or shrink.
pub(crate) type Jobs = BTreeMap<RecruiterId, BTreeSet<JobId>>;

/// The greatest number of jobs in one statement.
const PIECE: usize = 10_000;
/// The greatest number of jobs for `$addToSet`, which compares each new job with each job of the link.
const FEW: usize = 16;

/// Adds these jobs to the links of their recruiters. Returns the refused statements; `id` of each is the recruiter.
///
/// # Errors
/// As [`update_command::update`].
pub(crate) async fn grow(writer: &Writer, added: &Jobs) -> Result<Vec<Refused>, Unfinished> {
    update(writer, added, |recruiter, jobs| {
        if jobs.len() <= FEW {
            let add = rawdoc! { "$addToSet": { "jobs": { "$each": array(jobs) } } };
            return rawdoc! { "q": { "_id": recruiter }, "u": add, "upsert": true };
        }
        let union = rawdoc! { "$setUnion": [list("jobs"), { "$literal": array(jobs) }] };
        rawdoc! { "q": { "_id": recruiter }, "u": [{ "$set": { "jobs": union } }], "upsert": true }
    })
    .await
}

/// Takes these jobs out of the links. Their offers are cancelled or belong to another recruiter by now. Returns the
/// refused statements, as [`grow`] does.
///
/// # Errors
/// As [`update_command::update`].
pub(crate) async fn shrink(writer: &Writer, removed: &Jobs) -> Result<Vec<Refused>, Unfinished> {
    update(writer, removed, |recruiter, jobs| {
        let jobs = array(jobs);
        let pull = rawdoc! { "jobs": { "$in": jobs.clone() }, "removed": { "$in": jobs } };
        rawdoc! { "q": { "_id": recruiter }, "u": { "$pull": pull } }
    })
    .await
}

/// Moves these jobs from `jobs` to `removed` of the links. The recruiters have lost the jobs, but this phase cancels no
/// offers. A later phase cancels them. Returns the refused statements, as [`grow`] does.
///
/// # Errors
/// As [`update_command::update`].
pub(crate) async fn set_aside(writer: &Writer, removed: &Jobs) -> Result<Vec<Refused>, Unfinished> {
    update(writer, removed, |recruiter, jobs| {
        let jobs = rawdoc! { "$literal": array(jobs) };
        let set = rawdoc! {
            "jobs": { "$setDifference": [list("jobs"), jobs.clone()] },
            "removed": { "$setUnion": [list("removed"), jobs] },
        };
        rawdoc! { "q": { "_id": recruiter }, "u": [{ "$set": set }] }
    })
    .await
}

async fn update(
    writer: &Writer,
    links: &Jobs,
    body: impl Fn(RecruiterId, &[JobId]) -> RawDocumentBuf,
) -> Result<Vec<Refused>, Unfinished> {
    let mut statements = Vec::new();
    for (recruiter, jobs) in links {
        let jobs: Vec<JobId> = jobs.iter().copied().collect();
        let pieces = jobs.chunks(PIECE).map(|jobs| Statement { id: Some(recruiter.0), body: body(*recruiter, jobs) });
        statements.extend(pieces);
    }
    Ok(update_command::update(writer, LINKS, statements).await?.refused)
}

fn array(jobs: &[JobId]) -> RawArrayBuf {
    jobs.iter().copied().collect()
}

/// Makes the expression of a list of the link, which is empty if the link has no such list.
fn list(name: &str) -> RawDocumentBuf {
    let path = format!("${name}");
    rawdoc! { "$cond": [{ "$isArray": path.as_str() }, path.as_str(), []] }
}

/// Deletes the links of deleted recruiters.
///
/// # Errors
/// As [`update_command::update`].
pub(crate) async fn delete(writer: &Writer, recruiters: &[RecruiterId]) -> Result<(), Unfinished> {
    if recruiters.is_empty() {
        return Ok(());
    }
    update_command::delete(writer, LINKS, doc! { "_id": { "$in": recruiters } }).await
}
