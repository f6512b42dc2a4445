//! The guard of the label (spec 09, "Label"): nothing is written while the offers of our jobs stand under another label
//! than the configured one.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::{OFFERS, WatchedCollection};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::refusal::{Exit, Refusal};

/// The number of recruiters in the sample: the newest ones.
const RECRUITERS: i64 = 100;

/// The offers of sampled jobs by their label; an offer without a text there counts under `(none)`.
pub(crate) type Labels = BTreeMap<String, u64>;

/// Counts the labels of the offers of a sample of jobs. Empty when no job of the sample has an offer.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn sample(database: &Database) -> Result<Labels, Failure> {
    let recruiters = collection(database, WatchedCollection::Recruiters.name());
    let find = recruiters.find(doc! {}).sort(doc! { "_id": -1 }).limit(RECRUITERS).projection(doc! { "jobs._id": 1 });
    let recruiters: Vec<Document> =
        with_deadline(async { find.await?.try_collect().await }).await.map_err(Failure::Read)?;
    let job_ids = |recruiter: &Document| {
        let jobs = recruiter.get_array("jobs").map(Vec::as_slice).unwrap_or_default();
        jobs.iter().filter_map(|job| job.as_document()?.get("_id").cloned()).collect::<Vec<Bson>>()
    };
    let jobs: Vec<Bson> = recruiters.iter().flat_map(job_ids).collect();
    let offers = collection(database, OFFERS);
    let find = offers.find(doc! { "_id": { "$in": jobs } }).projection(doc! { "partner_label": 1 });
    let found: Vec<Document> = with_deadline(async { find.await?.try_collect().await }).await.map_err(Failure::Read)?;
    let mut labels = Labels::new();
    for offer in found {
        let label = offer.get_str("partner_label").unwrap_or("(none)");
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

/// What is wrong, and what to set.
#[must_use]
pub(crate) fn complaint((label, count): &(String, u64), configured: &str) -> [String; 2] {
    [
        format!(
            "target.partner_label is {configured:?}, but {count} offers of a sample of jobs stand in {OFFERS} under \
             {label:?}"
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
