//! The guard of the label (spec 09, "Label"): nothing is written while the offers of our jobs stand under another label
//! than the configured one.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Document, RawBsonRef, RawDocumentBuf, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use crate::counted::counted;
use crate::error::Failure;
use crate::model::names::{OFFERS, WatchedCollection};
use crate::model::value;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::refusal::{Exit, Refusal};

/// The number of recruiters in each part of the sample: the newest ones with jobs and the oldest ones with jobs. Where
/// none of them has an offer, some at random follow. The newest ones may have no offers yet, for instance since the old
/// worker was stopped.
const RECRUITERS: i64 = 100;
/// The number of jobs of each of them: the first ones.
const JOBS: i32 = 20;

/// The offers of sampled jobs by their label; an offer without a text there counts under `(none)`.
pub(crate) type Labels = BTreeMap<String, u64>;

/// Counts the labels of the offers of a sample of jobs. Empty when no job of the sample has an offer.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn sample(database: &Database) -> Result<Labels, Failure> {
    let with_jobs = doc! { "$match": { "jobs.0": { "$exists": true } } };
    let first = |order: i32| vec![with_jobs.clone(), doc! { "$sort": { "_id": order } }, doc! { "$limit": RECRUITERS }];
    let mut jobs = jobs(database, first(-1)).await?;
    jobs.extend(self::jobs(database, first(1)).await?);
    let labels = labels(database, &jobs).await?;
    if !labels.is_empty() {
        return Ok(labels);
    }
    let random = self::jobs(database, vec![doc! { "$sample": { "size": RECRUITERS } }]).await?;
    self::labels(database, &random).await
}

/// Reads the first jobs of the recruiters that these stages select.
async fn jobs(database: &Database, mut stages: Vec<Document>) -> Result<Vec<ObjectId>, Failure> {
    // The documents stay undecoded: a name in one of them may be no UTF-8. The server cuts the lists, because a recruiter
    // may have fifty thousand jobs.
    let recruiters = collection(database, WatchedCollection::Recruiters.name()).clone_with_type::<RawDocumentBuf>();
    let ids = doc! { "$cond": [{ "$isArray": "$jobs._id" }, "$jobs._id", []] };
    stages.push(doc! { "$project": { "ids": { "$slice": [ids, JOBS] } } });
    let sampled = recruiters.aggregate(stages).with_type::<RawDocumentBuf>();
    let sampled: Vec<RawDocumentBuf> =
        with_deadline(async { sampled.await?.try_collect().await }).await.map_err(Failure::Read)?;
    let of_recruiter = |recruiter| value::list(value::field(recruiter, "ids")).into_iter().flatten().flatten();
    Ok(sampled.iter().flat_map(|recruiter| of_recruiter(recruiter)).filter_map(RawBsonRef::as_object_id).collect())
}

async fn labels(database: &Database, jobs: &[ObjectId]) -> Result<Labels, Failure> {
    let offers = collection(database, OFFERS).clone_with_type::<RawDocumentBuf>();
    let find = offers.find(doc! { "_id": { "$in": jobs } }).projection(doc! { "partner_label": 1 });
    let offers: Vec<RawDocumentBuf> =
        with_deadline(async { find.await?.try_collect().await }).await.map_err(Failure::Read)?;
    let mut labels = Labels::new();
    for offer in &offers {
        let label = value::text(value::field(offer, "partner_label")).unwrap_or("(none)");
        *labels.entry(label.to_owned()).or_default() += 1;
    }
    Ok(labels)
}

/// The label under which most offers of the sample stand, and their number; `None` when it is `configured`, or when no
/// offer was found. A few offers under another label have dead letters of their own.
#[must_use]
pub(crate) fn other(labels: &Labels, configured: &str) -> Option<(String, u64)> {
    let ours = labels.get(configured).copied().unwrap_or_default();
    let others = labels.iter().filter(|(label, _)| *label != configured);
    let (label, count) = others.max_by_key(|(_, count)| **count)?;
    (*count >= ours).then(|| (label.clone(), *count))
}

/// The fault and its remedy, for a refusal and for `doctor`.
#[must_use]
pub(crate) fn complaint((label, count): &(String, u64), configured: &str) -> [String; 2] {
    [
        format!(
            "target.partner_label is {configured:?}, but of a sample of jobs, {} in {OFFERS} under {label:?}",
            counted(*count, "offer stands", "offers stand")
        ),
        format!("set target.partner_label = {label:?}, or check mongodb.database"),
    ]
}

/// Refuses to go on when the offers of our jobs stand under another label.
///
/// # Errors
/// A [`Refusal`] that names the label and the key to set; [`Failure::Read`] as a refusal.
pub(crate) async fn check(database: &Database, configured: &str) -> Result<(), Refusal> {
    match other(&sample(database).await?, configured) {
        Some(other) => Err(Refusal::new(Exit::Database, complaint(&other, configured).join("; "))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_goes_by_the_label_of_most_offers() {
        let labels =
            |counts: &[(&str, u64)]| counts.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect();
        let other = |counts: &[(&str, u64)]| other(&labels(counts), "ours").map(|(label, _)| label);
        assert_eq!(other(&[]), None);
        assert_eq!(other(&[("ours", 3)]), None);
        assert_eq!(other(&[("ours", 3), ("theirs", 2)]), None);
        assert_eq!(other(&[("ours", 2), ("theirs", 2), ("(none)", 1)]).as_deref(), Some("theirs"));
        assert_eq!(other(&[("theirs", 1)]).as_deref(), Some("theirs"));
    }
}
