//! Counts documents, jobs and offers. A count reads whole collections, from a secondary where there is one.
//! [`crate::status::survey`] decides how often.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::options::{ReadPreference, SelectionCriteria};
use serde::Serialize;

use super::time::text;
use crate::clock;
use crate::error::Failure;
use crate::model::names::OFFERS;
use crate::model::names::WatchedCollection;
use crate::mongo::deadline::{with_deadline, within};
use crate::mongo::reads::collection;
use crate::observe::labels::{JOB_STATUSES, OFFER_STATUSES, OTHER};

/// The time after which the server ends a count, and this process gives it up. A count reads whole collections, perhaps on
/// a secondary, so its progress cannot be followed. Nothing waits for it: a page without counts is the worst that happens.
const LONGEST: Duration = Duration::from_mins(10);

/// Numbers of documents, jobs and offers at one time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Counts {
    /// The time of the count, by the clock of this machine (RFC 3339).
    pub at: String,
    /// Documents by collection, from the server's statistics, which are estimates.
    pub documents: BTreeMap<&'static str, u64>,
    /// Jobs in `recruiters` by status. An unknown status counts as `other`.
    pub source_jobs: BTreeMap<&'static str, u64>,
    /// Our offers by status. An unknown status counts as `other`.
    pub target_offers: BTreeMap<&'static str, u64>,
}

/// Counts documents, jobs and offers, on a secondary where there is one.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn count(database: &Database, partner_label: &str) -> Result<Counts, Failure> {
    let mut documents = BTreeMap::new();
    let watched = WatchedCollection::ALL.into_iter().filter(|collection| *collection != WatchedCollection::Canary);
    for name in watched.map(WatchedCollection::name).chain([OFFERS]) {
        let collection = collection(database, name);
        let count = collection.estimated_document_count().selection_criteria(anywhere());
        documents.insert(name, with_deadline(count).await.map_err(Failure::Read)?);
    }
    Ok(Counts {
        at: text(clock::now()),
        documents,
        source_jobs: source_jobs(database).await?,
        target_offers: target_offers(database, partner_label).await?,
    })
}

fn anywhere() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::SecondaryPreferred { options: None })
}

async fn source_jobs(database: &Database) -> Result<BTreeMap<&'static str, u64>, Failure> {
    let status = "$jobs.job_status";
    let branches = JOB_STATUSES.map(|(word, other)| {
        doc! { "case": { "$in": [status, [word, other]] }, "then": word }
    });
    let stages = [
        doc! { "$project": { "_id": 0, "jobs.job_status": 1 } },
        doc! { "$unwind": "$jobs" },
        doc! { "$group": {
            "_id": { "$switch": { "branches": branches.to_vec(), "default": OTHER } }, "count": { "$sum": 1_i64 },
        } },
    ];
    let recruiters = collection(database, WatchedCollection::Recruiters.name());
    let counting = recruiters.aggregate(stages).max_time(LONGEST).selection_criteria(anywhere());
    let counted = within(LONGEST, counting).await.map_err(Failure::Read)?;
    let counted: Vec<Document> = within(LONGEST, counted.try_collect()).await.map_err(Failure::Read)?;
    let counted: BTreeMap<String, u64> = counted.iter().filter_map(group).collect();
    let words = JOB_STATUSES.into_iter().map(|(word, _)| word).chain([OTHER]);
    Ok(words.map(|word| (word, counted.get(word).copied().unwrap_or_default())).collect())
}

async fn target_offers(database: &Database, label: &str) -> Result<BTreeMap<&'static str, u64>, Failure> {
    let offers = collection(database, OFFERS);
    let count = async |filter: Document| {
        let counting = offers.count_documents(filter);
        within(LONGEST, counting.max_time(LONGEST).selection_criteria(anywhere())).await.map_err(Failure::Read)
    };
    let mut counted = BTreeMap::new();
    for status in OFFER_STATUSES {
        counted.insert(status, count(doc! { "partner_label": label, "offer_status": status }).await?);
    }
    let all = count(doc! { "partner_label": label }).await?;
    counted.insert(OTHER, all.saturating_sub(counted.values().sum()));
    Ok(counted)
}

/// The `_id` and `count` of a group.
fn group(group: &Document) -> Option<(String, u64)> {
    let count = group.get("count").and_then(Bson::as_i64)?;
    Some((group.get_str("_id").ok()?.to_owned(), u64::try_from(count).ok()?))
}
