//! Writes `stream_processor_links`. A link grows before the offers of its new jobs are written and
//! shrinks after those of its removed jobs are cancelled: whatever instant a crash chooses, a job that
//! ever had an offer is in some link until that offer is cancelled.

use std::collections::{BTreeMap, BTreeSet};

use bson::raw::RawArrayBuf;
use bson::{Bson, RawDocumentBuf, doc, oid::ObjectId, rawdoc};

use super::command::Refused;
use super::statements::Statement;
use super::{Writer, command};
use crate::error::Failure;
use crate::model::names::LINKS;

/// The jobs by which the links of some recruiters grow or shrink.
pub(crate) type Jobs = BTreeMap<ObjectId, BTreeSet<ObjectId>>;

/// At most this many jobs in one statement.
const PIECE: usize = 10_000;
/// Up to so many jobs are looked for one by one in what the link holds; more would take the server the product of both.
const FEW: usize = 16;

/// Adds these jobs to the links of their recruiters. Gives back the statements that the server refused, each named by its
/// recruiter.
///
/// # Errors
/// As [`command::update`].
pub(crate) async fn grow(writer: &Writer, added: &Jobs) -> Result<Vec<Refused>, Failure> {
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

/// Takes these jobs, whose offers are cancelled or not the recruiters' any more, out of the links; gives back as
/// [`grow`].
///
/// # Errors
/// As [`command::update`].
pub(crate) async fn shrink(writer: &Writer, removed: &Jobs) -> Result<Vec<Refused>, Failure> {
    update(writer, removed, |recruiter, jobs| {
        let jobs = array(jobs);
        let pull = rawdoc! { "jobs": { "$in": jobs.clone() }, "removed": { "$in": jobs } };
        rawdoc! { "q": { "_id": recruiter }, "u": { "$pull": pull } }
    })
    .await
}

/// The recruiters hold these jobs no more, and their offers could not be cancelled in this phase: the links remember them
/// for the one that lets them be. Gives back as [`grow`].
///
/// # Errors
/// As [`command::update`].
pub(crate) async fn set_aside(writer: &Writer, removed: &Jobs) -> Result<Vec<Refused>, Failure> {
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
    body: impl Fn(ObjectId, &[ObjectId]) -> RawDocumentBuf,
) -> Result<Vec<Refused>, Failure> {
    let mut statements = Vec::new();
    for (recruiter, jobs) in links {
        let jobs: Vec<ObjectId> = jobs.iter().copied().collect();
        let pieces = jobs.chunks(PIECE).map(|jobs| Statement { id: Some(*recruiter), body: body(*recruiter, jobs) });
        statements.extend(pieces);
    }
    Ok(command::update(writer, LINKS, statements).await?.refused)
}

fn array(jobs: &[ObjectId]) -> RawArrayBuf {
    jobs.iter().copied().collect()
}

/// A list of the link; empty where it has none.
fn list(name: &str) -> RawDocumentBuf {
    let path = format!("${name}");
    rawdoc! { "$cond": [{ "$isArray": path.as_str() }, path.as_str(), []] }
}

/// Removes the links of recruiters that are gone.
///
/// # Errors
/// As [`command::update`].
pub(crate) async fn delete(writer: &Writer, recruiters: &[ObjectId]) -> Result<(), Failure> {
    if recruiters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Bson> = recruiters.iter().copied().map(Bson::from).collect();
    command::delete(writer, LINKS, doc! { "_id": { "$in": ids } }).await
}
