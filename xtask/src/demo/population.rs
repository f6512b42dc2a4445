//! The recruiters of the demo with the positions of their jobs. New recruiters and jobs are copies of golden documents.

use bson::oid::ObjectId;
use bson::{Bson, Document};
use mongodb::Database;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use xtask::golden;

use crate::Failure;

/// A recruiter of the database, with the ids of its jobs in their order.
pub(super) struct Resident {
    pub id: ObjectId,
    pub jobs: Vec<ObjectId>,
}

/// All recruiters of the database, and the golden documents from which new ones are made.
pub(super) struct Population {
    pub residents: Vec<Resident>,
    templates: Vec<Document>,
}

impl Population {
    /// Inserts the first `count` golden recruiters.
    pub(super) async fn settle(database: &Database, count: usize) -> Result<Self, Failure> {
        let mut recruiters = golden::recruiters()?;
        recruiters.retain(|recruiter| Resident::of(recruiter).is_some());
        let newcomers: Vec<Document> = recruiters.iter().take(count).cloned().collect();
        let residents = newcomers.iter().filter_map(Resident::of).collect();
        database.collection::<Document>("recruiters").insert_many(newcomers).await?;
        Ok(Self { residents, templates: recruiters })
    }

    /// The number of jobs of all recruiters.
    pub(super) fn jobs(&self) -> usize {
        self.residents.iter().map(|resident| resident.jobs.len()).sum()
    }

    /// A copy of a random golden recruiter with new ids and a new SIRET.
    pub(super) fn newcomer(&self, random: &mut StdRng) -> Option<Document> {
        let mut recruiter = self.templates.choose(random)?.clone();
        recruiter.insert("_id", object_id(random));
        recruiter.insert("establishment_siret", format!("{:014}", random.random_range(10_u64.pow(13)..10_u64.pow(14))));
        for job in recruiter.get_array_mut("jobs").ok()?.iter_mut().filter_map(Bson::as_document_mut) {
            job.insert("_id", object_id(random));
        }
        Some(recruiter)
    }

    /// A copy of a random golden job with a new id and the status `Active`.
    pub(super) fn new_job(&self, random: &mut StdRng) -> Option<Document> {
        let recruiter = self.templates.choose(random)?;
        let mut job = recruiter.get_array("jobs").ok()?.choose(random)?.as_document()?.clone();
        job.insert("_id", object_id(random));
        job.insert("job_status", "Active");
        Some(job)
    }
}

impl Resident {
    /// `None` for a recruiter without a list of jobs, or with a job whose `_id` is no ObjectId.
    pub(super) fn of(recruiter: &Document) -> Option<Self> {
        let id_of = |job: &Bson| job.as_document()?.get_object_id("_id").ok();
        let jobs = recruiter.get_array("jobs").ok()?;
        let jobs = jobs.iter().map(id_of).collect::<Option<Vec<ObjectId>>>()?;
        Some(Self { id: recruiter.get_object_id("_id").ok()?, jobs })
    }
}

/// An id from the seeded generator, so that each demo has the same ids.
fn object_id(random: &mut StdRng) -> ObjectId {
    ObjectId::from_bytes(random.random())
}
