//! The recruiters of a measurement, and the events on them. The recruiters are like the golden ones. Usually each has
//! about 8 KB and 3 jobs that can be projected.

use std::collections::HashSet;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use xtask::golden;

use xtask::Failure;

/// The size of the recruiters of one `insert`, in bytes.
const PER_INSERT: usize = 4_000_000;

/// With more jobs, a job has no skills of its own: a document must stay below 16 MB.
const MANY_JOBS: usize = 100;

/// The number and the size of the recruiters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub recruiters: usize,
    /// The number of jobs of each recruiter.
    pub jobs: usize,
    /// The size of each recruiter in bytes of BSON. A recruiter is larger where its jobs need more.
    pub weight: usize,
}

impl Shape {
    /// Recruiters as spec 07 describes them.
    pub(super) const fn usual(recruiters: usize) -> Self {
        Self { recruiters, jobs: 3, weight: 8_000 }
    }

    /// The number of jobs of all recruiters, and so of offers.
    pub(super) const fn offers(&self) -> usize {
        self.recruiters * self.jobs
    }
}

/// The ids of the recruiters in the database and of their jobs.
pub(super) struct Population {
    residents: Vec<(ObjectId, Vec<ObjectId>)>,
}

/// A change of the description of one job, which causes one event. The description is projected and is in no index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    pub recruiter: ObjectId,
    pub position: usize,
    pub job: ObjectId,
}

impl Population {
    /// Inserts recruiters into an empty collection.
    pub(super) async fn settle(database: &Database, shape: Shape, random: &mut StdRng) -> Result<Self, Failure> {
        let known = known(database).await?;
        let is_known = |recruiter: &Document| {
            let refers = |field: &str| recruiter.get_str(field).is_ok_and(|key| known.contains(key));
            refers("managed_by")
                && (recruiter.get_bool("is_delegated").is_ok_and(|is| !is) || refers("cfa_delegated_siret"))
        };
        let templates =
            golden::recruiters()?.into_iter().filter(|recruiter| is_plain(recruiter) && is_known(recruiter));
        let mut templates: Vec<Document> = accepted(database, templates.collect()).await?;
        templates.iter_mut().try_for_each(|template| prepare(template, shape))?;
        let mut residents = Vec::with_capacity(shape.recruiters);
        let recruiters = database.collection::<Document>("recruiters");
        while residents.len() < shape.recruiters {
            let batch = (residents.len()..shape.recruiters).take((PER_INSERT / shape.weight).max(1));
            let batch: Vec<Document> = batch.filter_map(|number| recruiter(&templates, number, random)).collect();
            residents.extend(batch.iter().filter_map(resident));
            recruiters.insert_many(batch).await?;
        }
        Ok(Self { residents })
    }

    /// `count` random edits of jobs of the first `recruiters` recruiters.
    pub(super) fn edits(&self, count: usize, recruiters: usize, random: &mut StdRng) -> Vec<Edit> {
        let among = self.residents.get(..recruiters).unwrap_or(&self.residents);
        let edit = |_| {
            let (recruiter, jobs) = among.choose(random)?;
            let position = random.random_range(0..jobs.len());
            Some(Edit { recruiter: *recruiter, position, job: *jobs.get(position)? })
        };
        (0..count).filter_map(edit).collect()
    }
}

/// Those of these recruiters that the validator of the collection accepts. The platform writes no others. Its validators only
/// warn, and a warning costs the server more than the write.
async fn accepted(database: &Database, templates: Vec<Document>) -> Result<Vec<Document>, Failure> {
    let collections = database.list_collections().filter(doc! { "name": "recruiters" }).await?;
    let collections: Vec<_> = collections.try_collect().await?;
    let validator = collections.into_iter().find_map(|it| it.options.validator).unwrap_or_default();
    let judged = database.collection::<Document>("judged_recruiters");
    judged.insert_many(templates).await?;
    let accepted = judged.find(validator).sort(doc! { "_id": 1 }).await?.try_collect().await?;
    judged.drop().await?;
    Ok(accepted)
}

/// The ids of the existing users and the SIRETs of the existing training centres.
async fn known(database: &Database) -> Result<HashSet<String>, Failure> {
    let users = database.collection::<Document>("userswithaccounts").distinct("_id", doc! {}).await?;
    let cfas = database.collection::<Document>("cfas").distinct("siret", doc! {}).await?;
    let key = |key: Bson| match key {
        Bson::ObjectId(id) => Some(id.to_hex()),
        Bson::String(siret) => Some(siret),
        _ => None,
    };
    Ok(users.into_iter().chain(cfas).filter_map(key).collect())
}

/// True for a golden recruiter without faults.
fn is_plain(recruiter: &Document) -> bool {
    let text = |document: &Document, field: &str| document.get_str(field).is_ok_and(|text| text.len() >= 3);
    let jobs = recruiter.get_array("jobs").map(Vec::as_slice).unwrap_or_default();
    let has_place = recruiter.get_document("geopoint").is_ok_and(|point| {
        let numbers = point.get_array("coordinates").map(Vec::as_slice).unwrap_or_default();
        numbers.iter().filter(|number| number.as_f64().is_some_and(|number| number.abs() < 90.0)).count() == 2
    });
    text(recruiter, "address")
        && has_place
        && recruiter.get_str("establishment_siret").is_ok_and(|siret| siret.len() == 14)
        && jobs.iter().any(is_titled)
}

fn is_titled(job: &Bson) -> bool {
    let text = |field: &str| job.as_document().and_then(|job| job.get_str(field).ok()).unwrap_or_default();
    text("job_status") == "Active" && text("offer_title_custom").len() >= 3
}

/// Gives a golden recruiter the size and the number of jobs of `shape`.
fn prepare(recruiter: &mut Document, shape: Shape) -> Result<(), Failure> {
    let jobs = recruiter.get_array("jobs")?.clone();
    let mut titled: Vec<Bson> = jobs.into_iter().filter(is_titled).collect();
    if shape.jobs > MANY_JOBS {
        for job in titled.iter_mut().filter_map(Bson::as_document_mut) {
            job.remove("competences_rome");
        }
    }
    recruiter.insert("jobs", titled.iter().cycle().take(shape.jobs).cloned().collect::<Vec<Bson>>());
    let missing = shape.weight.saturating_sub(recruiter.to_vec()?.len()) / shape.jobs;
    let sentence = "Vous accueillez les clients, tenez le rayon et apprenez le métier avec votre tuteur. ";
    let text: String = sentence.chars().cycle().take(missing.max(100)).collect();
    for job in recruiter.get_array_mut("jobs")?.iter_mut().filter_map(Bson::as_document_mut) {
        job.insert("job_description", &text);
    }
    Ok(())
}

fn recruiter(templates: &[Document], number: usize, random: &mut StdRng) -> Option<Document> {
    let mut recruiter = templates.choose(random)?.clone();
    recruiter.insert("_id", ObjectId::from_bytes(random.random()));
    recruiter.insert("email", format!("recruteur{number}@example.com"));
    // Each recruiter has its own establishment, as on the platform, because offers are searched by it.
    recruiter.insert("establishment_id", format!("{number:08x}-0000-4000-8000-{:012x}", random.random::<u64>() >> 16));
    recruiter.insert("establishment_siret", format!("{:014}", random.random_range(10_u64.pow(13)..10_u64.pow(14))));
    for job in recruiter.get_array_mut("jobs").ok()?.iter_mut().filter_map(Bson::as_document_mut) {
        job.insert("_id", ObjectId::from_bytes(random.random()));
    }
    Some(recruiter)
}

fn resident(recruiter: &Document) -> Option<(ObjectId, Vec<ObjectId>)> {
    let id = |job: &Bson| job.as_document()?.get_object_id("_id").ok();
    let jobs = recruiter.get_array("jobs").ok()?.iter().filter_map(id).collect();
    Some((recruiter.get_object_id("_id").ok()?, jobs))
}

impl Edit {
    /// The statement on `recruiters` that causes the event. A new `mark` makes sure that it changes the document.
    pub(super) fn of_recruiter(&self, mark: u64) -> Document {
        let field = format!("jobs.{}.job_description", self.position);
        doc! { "q": { "_id": self.recruiter }, "u": { "$set": { field: description(mark) } } }
    }

    /// The statement that writes the same change directly to the offer, for the raw limit.
    pub(super) fn of_offer(&self, mark: u64) -> Document {
        doc! { "q": { "_id": self.job }, "u": { "$set": {
            "offer_description": description(mark), "updated_at": DateTime::from_millis(1_700_000_000_000),
        } } }
    }
}

/// A description of the usual length that is different for each mark.
pub(super) fn description(mark: u64) -> String {
    format!("Description {mark:08} : vous accueillez les clients, tenez le rayon et apprenez le métier. ").repeat(4)
}
