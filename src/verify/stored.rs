//! The stored result of the last full verification: the document `verification` of `stream_processor_state`. The
//! conditions of the phases (spec 04) and the leader's metrics use it.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, doc};
use mongodb::Database;

use super::compare::DifferenceKind;
use super::report::VerificationReport;
use crate::error::Failure;
use crate::model::names::STATE;
use crate::model::names::state_id::VERIFICATION;
use crate::mongo::reads::collection;

/// The part of the stored result that the leader shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The end of the last full verification without differences; `None` when there was none.
    pub last_success: Option<DateTime>,
    /// The number of differing offers of the last full verification, by kind.
    pub divergent_offers: BTreeMap<DifferenceKind, i64>,
}

/// Stores the result of a full verification, unless a later result is stored. A process that was paused before storing
/// must not overwrite the result on which a step of the phase rests. A stored result from the future does not count as
/// later, because a clock was ahead.
///
/// # Errors
/// [`Failure::Write`].
pub async fn store(database: &Database, report: &VerificationReport) -> Result<(), Failure> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let divergent: Document = report
        .divergent_offers
        .iter()
        .map(|(kind, offers)| (kind.as_str().to_owned(), Bson::Int64(count(*offers))))
        .collect();
    let mut fields = doc! {
        "began": report.began,
        "ended": report.ended,
        "phase": &report.phase,
        "differences": count(report.differences),
        "divergent_offers": divergent,
        "full": report.full,
    };
    if report.differences == 0 {
        fields.insert("last_success", report.ended);
    }
    let later = doc! { "$and": [{ "$gt": ["$ended", report.ended] }, { "$lte": ["$ended", "$$NOW"] }] };
    let stored = doc! { "$mergeObjects": ["$$ROOT", { "$literal": fields }] };
    let update = vec![doc! { "$replaceWith": { "$cond": [later, "$$ROOT", stored] } }];
    collection(database, STATE).update_one(mine(), update).upsert(true).await.map_err(Failure::Write)?;
    Ok(())
}

/// Reads the stored result. It is empty before the first full verification.
///
/// # Errors
/// [`Failure::Read`].
pub async fn load(database: &Database) -> Result<Stored, Failure> {
    let stored = collection(database, STATE).find_one(mine()).await.map_err(Failure::Read)?.unwrap_or_default();
    let offers = |kind: DifferenceKind| stored.get_document("divergent_offers").ok()?.get_i64(kind.as_str()).ok();
    Ok(Stored {
        last_success: stored.get_datetime("last_success").ok().copied(),
        divergent_offers: DifferenceKind::ALL.into_iter().filter_map(|kind| Some((kind, offers(kind)?))).collect(),
    })
}

fn mine() -> Document {
    doc! { "_id": VERIFICATION }
}
