//! The specification, evaluated in the most straightforward way: all documents in memory, one walk, no events. Shares
//! no code with the product; what `tests/golden` expects is what it is checked against, and then it is what the product
//! is checked against.

mod offer;
mod references;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use offer::Projection;
pub(crate) use offer::at_creation;
use references::References;
use values::{documents, non_empty};
pub(crate) use values::{id_text, value};

/// The settings that offers depend on; those of the golden expectations by default.
pub(crate) struct Rules {
    pub partner_label: String,
    pub public_url: String,
    pub offer_type: String,
    pub anonymized_email: String,
}

/// All documents of the source collections.
pub(crate) struct Source {
    pub recruiters: Vec<Document>,
    pub users: Vec<Document>,
    pub anonymized_recruiters: Vec<Document>,
    pub anonymized_users: Vec<Document>,
    pub cfas: Vec<Document>,
    pub romes: Vec<Document>,
    pub engagements: Vec<Document>,
}

/// What the target must be.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    /// Every job that a recruiter holds, with the one whose the offer is; the offer of any other job is cancelled.
    pub job_owners: BTreeMap<ObjectId, Vec<JobOwner>>,
    /// Reasons by `_id` of the dead letter.
    pub dead_letters: BTreeMap<String, String>,
    /// Jobs of recruiters without an address.
    pub skipped: BTreeSet<ObjectId>,
    /// Jobs of anonymised recruiters that no recruiter holds: where there is an offer, it is anonymised.
    pub anonymised: BTreeSet<ObjectId>,
    /// Users who are anonymised: offers that they manage have no contact.
    pub anonymised_users: BTreeSet<String>,
}

/// One place in one recruiter where a job is.
#[derive(Debug)]
pub(crate) struct JobOwner {
    pub recruiter: ObjectId,
    pub updated_at: Option<bson::DateTime>,
    /// Every field of the offer; `None` while the job is a dead letter or skipped.
    pub offer: Option<Document>,
    /// False where the recruiter has no address: it holds no job.
    has_address: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            partner_label: "RECRUTEURS_LBA".to_owned(),
            public_url: "https://labonnealternance.apprentissage.beta.gouv.fr".to_owned(),
            offer_type: "offres_emploi_lba".to_owned(),
            anonymized_email: "anonymized@example.com".to_owned(),
        }
    }
}

impl Source {
    /// The documents as they stand. Nobody should be writing.
    pub(crate) async fn read(database: &Database) -> Self {
        let all = async |name: &str| -> Vec<Document> {
            let documents = database.collection(name).find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
            documents.try_collect().await.unwrap()
        };
        Self {
            recruiters: all("recruiters").await,
            users: all("userswithaccounts").await,
            anonymized_recruiters: all("anonymized_recruiters").await,
            anonymized_users: all("anonymized_userswithaccounts").await,
            cfas: all("cfas").await,
            romes: all("referentielromes").await,
            engagements: all("referentiel_engagement_entreprise").await,
        }
    }
}

/// What must stand for these documents.
pub(crate) fn evaluate(source: &Source, rules: &Rules) -> Evaluation {
    let references = References::of(source);
    let mut evaluation = Evaluation::default();
    for recruiter in &source.recruiters {
        let recruiter_id = recruiter.get_object_id("_id").unwrap();
        let is_skipped = non_empty(value(recruiter, "address")).is_none();
        for job in documents(recruiter.get("jobs")) {
            let Ok(id) = job.get_object_id("_id") else {
                let dead_letter = format!("recruiters/{recruiter_id}");
                evaluation.dead_letters.extend((!is_skipped).then(|| (dead_letter, "invalid_job_id".to_owned())));
                continue;
            };
            let projection = Projection { rules, references: &references, recruiter, job, id };
            let offer = if is_skipped { Err(None) } else { projection.fields().map_err(Some) };
            match offer.as_ref().map_err(|reason| *reason) {
                Ok(_) => {}
                Err(None) => drop(evaluation.skipped.insert(id)),
                Err(Some(reason)) => {
                    evaluation.dead_letters.insert(format!("recruiters/{recruiter_id}/{id}"), reason.to_owned());
                }
            }
            let updated_at = recruiter.get_datetime("updatedAt").ok().copied();
            let owner = JobOwner { recruiter: recruiter_id, updated_at, offer: offer.ok(), has_address: !is_skipped };
            evaluation.job_owners.entry(id).or_default().push(owner);
        }
    }
    for (job, owners) in &mut evaluation.job_owners {
        let duplicate = |recruiter| (format!("recruiters/{recruiter}/{job}"), "duplicate_job_id".to_owned());
        // The later one, then the one with the lower `_id`; in one recruiter the first.
        owners.sort_by_key(|owner| (std::cmp::Reverse(owner.updated_at), owner.recruiter));
        let all: Vec<ObjectId> = owners.iter().map(|owner| owner.recruiter).collect();
        let is_twice = |recruiter: ObjectId| all.iter().filter(|other| **other == recruiter).count() > 1;
        owners.dedup_by_key(|owner| owner.recruiter);
        // Where the job is twice, its dead letter says so, whether or not the first one can be projected.
        let competes = |owner: &JobOwner| owner.offer.is_some() || owner.has_address && is_twice(owner.recruiter);
        owners.sort_by_key(|owner| !competes(owner));
        let losers = owners.iter().skip(1).filter(|owner| competes(owner)).map(|owner| owner.recruiter);
        let twice = all.iter().copied().filter(|recruiter| is_twice(*recruiter));
        evaluation.dead_letters.extend(losers.chain(twice).map(duplicate));
        owners.truncate(1);
    }
    let anonymised = source.anonymized_recruiters.iter().flat_map(|recruiter| documents(recruiter.get("jobs")));
    let anonymised = anonymised.filter_map(|job| job.get_object_id("_id").ok());
    evaluation.anonymised = anonymised.filter(|id| !evaluation.job_owners.contains_key(id)).collect();
    let users = source.anonymized_users.iter().filter_map(|user| user.get("_id").and_then(id_text));
    evaluation.anonymised_users = users.filter(|user| references.is_anonymised(user)).collect();
    evaluation
}

/// The label, or the name of the enumeration (spec 02, "offer_status").
fn is_active(recruiter: &Document) -> bool {
    matches!(recruiter.get("status").and_then(Bson::as_str), Some("Actif" | "ACTIF"))
}
