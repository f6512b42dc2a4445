//! The state of the database at the end of the demo, and checks of the service's promises. The file only reads.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use crate::Failure;

/// The default replacement of the e-mail address of an anonymised person (spec 03).
const ANONYMISED_EMAIL: &str = "anonymized@example.com";

/// Counts of the documents in the database.
pub(super) struct Verdict {
    offers: BTreeMap<String, u64>,
    anonymised: AnonymisedCounts,
    dead_letters: u64,
    jobs: u64,
    missing: u64,
}

/// The numbers of anonymised recruiters, of their offers, and of their offers that still have a contact.
struct AnonymisedCounts {
    recruiters: u64,
    offers: u64,
    with_contact: u64,
}

impl Verdict {
    /// Reads every recruiter, offer and dead letter.
    pub(super) async fn of(database: &Database) -> Result<Self, Failure> {
        let mut offers = BTreeMap::new();
        let mut offer_ids = HashSet::new();
        let mut cursor = find(database, "jobs_partners", doc! { "offer_status": 1 }).await?;
        while let Some(offer) = cursor.try_next().await? {
            *offers.entry(offer.get_str("offer_status").unwrap_or("without a status").to_owned()).or_default() += 1;
            offer_ids.extend(offer.get_object_id("_id"));
        }
        // The `_id` of a dead letter about a job is `collection/recruiter id/job id`.
        let dead: Vec<Document> =
            find(database, "stream_processor_dead_letters", doc! { "_id": 1 }).await?.try_collect().await?;
        let dead_jobs: HashSet<&str> =
            dead.iter().filter_map(|dead_letter| dead_letter.get_str("_id").ok()?.rsplit('/').next()).collect();

        let (mut jobs, mut missing) = (0, 0);
        let mut cursor = find(database, "recruiters", doc! { "address": 1, "jobs._id": 1 }).await?;
        while let Some(recruiter) = cursor.try_next().await? {
            // A recruiter without an address is not projected (spec 02).
            if matches!(recruiter.get("address"), None | Some(Bson::Null))
                || recruiter.get_str("address").is_ok_and(str::is_empty)
            {
                continue;
            }
            for job in job_ids(&recruiter) {
                jobs += 1;
                missing += u64::from(!offer_ids.contains(&job) && !dead_jobs.contains(job.to_hex().as_str()));
            }
        }
        let anonymised = anonymised(database).await?;
        let dead_letters = u64::try_from(dead.len())?;
        Ok(Self { offers, anonymised, dead_letters, jobs, missing })
    }

    /// The promises as texts. The flag is true when the promise holds.
    pub(super) fn checks(&self) -> Vec<(String, bool)> {
        let Self { jobs, missing, anonymised: AnonymisedCounts { offers, with_contact, .. }, .. } = self;
        vec![
            (
                format!("each of {jobs} jobs has an offer, or a dead letter that says why not ({missing} without)"),
                *missing == 0,
            ),
            (format!("{with_contact} of {offers} offers of anonymised recruiters carry a contact"), *with_contact == 0),
        ]
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offers: Vec<String> = self.offers.iter().map(|(status, count)| format!("{count} {status}")).collect();
        writeln!(f, "offers       {}", offers.join(", "))?;
        writeln!(f, "anonymised   {} recruiters with {} offers", self.anonymised.recruiters, self.anonymised.offers)?;
        writeln!(f, "dead letters {}", self.dead_letters)
    }
}

/// Counts the anonymised recruiters, their offers, and their offers that still have a contact.
async fn anonymised(database: &Database) -> Result<AnonymisedCounts, Failure> {
    let recruiters: Vec<Document> =
        find(database, "anonymized_recruiters", doc! { "jobs._id": 1 }).await?.try_collect().await?;
    let jobs: Vec<ObjectId> = recruiters.iter().flat_map(job_ids).collect();
    let offers = database.collection::<Document>("jobs_partners");
    let theirs = doc! { "_id": { "$in": jobs } };
    let mut with_contact = theirs.clone();
    with_contact.insert(
        "$or",
        vec![
            doc! { "apply_email": { "$nin": [Bson::Null, Bson::from(ANONYMISED_EMAIL)] } },
            doc! { "apply_phone": { "$ne": null } },
            doc! { "apply_url": { "$ne": null } },
        ],
    );
    Ok(AnonymisedCounts {
        recruiters: u64::try_from(recruiters.len())?,
        offers: offers.count_documents(theirs).await?,
        with_contact: offers.count_documents(with_contact).await?,
    })
}

fn job_ids(recruiter: &Document) -> Vec<ObjectId> {
    let jobs = recruiter.get_array("jobs").into_iter().flatten();
    jobs.filter_map(|job| job.as_document()?.get_object_id("_id").ok()).collect()
}

async fn find(database: &Database, collection: &str, fields: Document) -> Result<mongodb::Cursor<Document>, Failure> {
    Ok(database.collection::<Document>(collection).find(doc! {}).projection(fields).await?)
}
