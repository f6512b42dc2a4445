//! Walks a collection by `_id`, some ids at a time: the source of touches for backfills and resyncs.
//! It holds no cursor between two steps, so it may pause as long as it likes and resume after a crash.

use bson::{Bson, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;

use crate::answer::answered;
use crate::error::Failure;
use crate::fetch::causal::CausalDatabase;
use crate::fetch::{documents, raw};

/// The ids of one step.
pub const STEP: u32 = 1_000;

/// The next ids after `after` among the documents that `filter` selects, in their order.
///
/// # Errors
/// [`Failure::Read`].
pub async fn ids_after(
    database: &CausalDatabase,
    collection: &str,
    filter: &Document,
    after: Option<ObjectId>,
) -> Result<Vec<ObjectId>, Failure> {
    // Compares with ObjectIds only, so ids of other types cannot fill a step and end the walk.
    let next = after.map_or_else(|| doc! { "$gte": ObjectId::from_bytes([0; 12]) }, |after| doc! { "$gt": after });
    let filter = doc! { "$and": [filter.clone(), { "_id": next }] };
    let mut session = database.session().await?;
    let collection = raw(database, collection);
    let find = collection
        .find(filter)
        .projection(doc! { "_id": 1 })
        .sort(doc! { "_id": 1 })
        .limit(i64::from(STEP))
        .batch_size(STEP)
        .session(&mut session);
    let mut answers = answered(find.batch()).await.map_err(Failure::Read)?;
    let batches: Vec<_> = answered(answers.stream(&mut session).try_collect()).await.map_err(Failure::Read)?;
    documents(&batches).map(|document| Ok(document?.get_object_id("_id").ok())).filter_map(Result::transpose).collect()
}

/// Which recruiters a backfill touches.
#[must_use]
pub fn backfill_filter(recruiter: Option<ObjectId>, active_only: bool) -> Document {
    let mut filter = Document::new();
    if let Some(recruiter) = recruiter {
        filter.insert("_id", Bson::ObjectId(recruiter));
    }
    if active_only {
        filter.insert("status", doc! { "$in": ["Actif", "ACTIF"] });
        filter.insert("jobs.job_status", doc! { "$in": ["Active", "ACTIVE"] });
    }
    filter
}
