//! A gentle random load, as the platform's users cause it. Each call makes one write. The load is the only writer of
//! `recruiters` in the demo, so it knows the position of each job.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use mongodb::{Collection, Database};
use rand::Rng as _;
use rand::distr::weighted::WeightedIndex;
use rand::prelude::Distribution as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::population::{Population, Resident};
use crate::Failure;

/// The number of recruiters that must stay for the other operations.
const FEWEST_RECRUITERS: usize = 50;
/// The number of random draws for one operation. One draw in five gives an operation that its recruiter does not allow.
const ATTEMPTS: usize = 10;
/// The fields that identify a person. They are removed when a recruiter is anonymised (spec 01).
const CONTACT_FIELDS: [&str; 5] = ["email", "phone", "first_name", "last_name", "managed_by"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Statistics,
    JobEdit,
    JobStatus,
    RecruiterStatus,
    NewJob,
    RemovedJob,
    NewRecruiter,
    Anonymisation,
}

/// The share of each operation in percent. Statistics are the most frequent write of the platform.
const OPERATIONS: [(Operation, u32); 8] = [
    (Operation::Statistics, 27),
    (Operation::JobEdit, 24),
    (Operation::JobStatus, 16),
    (Operation::RecruiterStatus, 8),
    (Operation::NewJob, 10),
    (Operation::RemovedJob, 5),
    (Operation::NewRecruiter, 5),
    (Operation::Anonymisation, 5),
];

impl Operation {
    const fn plural(self) -> &'static str {
        match self {
            Self::Statistics => "statistics",
            Self::JobEdit => "job edits",
            Self::JobStatus => "job statuses",
            Self::RecruiterStatus => "recruiter statuses",
            Self::NewJob => "new jobs",
            Self::RemovedJob => "removed jobs",
            Self::NewRecruiter => "new recruiters",
            Self::Anonymisation => "anonymisations",
        }
    }
}

/// The writer, and the number of its writes by operation.
pub(super) struct Load {
    recruiters: Collection<Document>,
    anonymized: Collection<Document>,
    population: Population,
    random: StdRng,
    written: BTreeMap<Operation, u64>,
}

impl Load {
    pub(super) fn new(database: &Database, population: Population, random: StdRng) -> Self {
        Self {
            recruiters: database.collection("recruiters"),
            anonymized: database.collection("anonymized_recruiters"),
            population,
            random,
            written: BTreeMap::new(),
        }
    }

    /// The number of operations so far.
    pub(super) fn written(&self) -> u64 {
        self.written.values().sum()
    }

    /// A text such as `101 operations: 27 statistics, 24 job edits, …`.
    pub(super) fn summary(&self) -> String {
        let parts = self.written.iter().map(|(operation, count)| format!("{count} {}", operation.plural()));
        format!("{} operations: {}", self.written(), parts.collect::<Vec<_>>().join(", "))
    }

    /// Writes one random operation.
    pub(super) async fn operation(&mut self) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            if self.attempt().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Draws an operation and a recruiter or job. False when the two do not fit, for instance without a job to edit.
    async fn attempt(&mut self) -> Result<bool, Failure> {
        let weights = WeightedIndex::new(OPERATIONS.map(|(_, weight)| weight))?;
        let Some((operation, _)) = OPERATIONS.get(weights.sample(&mut self.random)) else { return Ok(false) };
        let done = match operation {
            Operation::Statistics => self.statistics().await?,
            Operation::JobEdit => self.job_edit().await?,
            Operation::JobStatus => self.job_status().await?,
            Operation::RecruiterStatus => self.recruiter_status().await?,
            Operation::NewJob => self.new_job().await?,
            Operation::RemovedJob => self.removed_job().await?,
            Operation::NewRecruiter => self.new_recruiter().await?,
            Operation::Anonymisation => self.anonymisation().await?,
        };
        if done {
            *self.written.entry(*operation).or_default() += 1;
        }
        Ok(done)
    }

    async fn statistics(&mut self) -> Result<bool, Failure> {
        let Some((id, job)) = self.some_job() else {
            return Ok(false);
        };
        let counter = format!("{job}.stats_detail_view");
        let views: i32 = self.random.random_range(1..4);
        // Some golden jobs have null in this field, and the server cannot increment null.
        let filter = doc! { "_id": id, &counter: { "$type": "number" } };
        let result = self.recruiters.update_one(filter, doc! { "$inc": { counter: views } }).await?;
        Ok(result.matched_count == 1)
    }

    async fn job_edit(&mut self) -> Result<bool, Failure> {
        let Some((id, job)) = self.some_job() else {
            return Ok(false);
        };
        let title = ["Apprenti boulanger (H/F)", "Développeur Web (H/F)", "Vendeuse en alternance", "Assistant RH"];
        let title = title.choose(&mut self.random).copied().unwrap_or_default();
        let count: i32 = self.random.random_range(1..6);
        let fields = doc! {
            format!("{job}.offer_title_custom"): title,
            format!("{job}.job_count"): count,
            format!("{job}.job_update_date"): DateTime::now(),
        };
        self.update(id, doc! { "$set": fields }).await
    }

    async fn job_status(&mut self) -> Result<bool, Failure> {
        let Some((id, job)) = self.some_job() else {
            return Ok(false);
        };
        let status = ["Active", "Active", "Pourvue", "Annulée"].choose(&mut self.random).copied().unwrap_or_default();
        let fields = doc! { format!("{job}.job_status"): status, format!("{job}.job_update_date"): DateTime::now() };
        self.update(id, doc! { "$set": fields }).await
    }

    async fn recruiter_status(&mut self) -> Result<bool, Failure> {
        let Some(index) = self.some_recruiter() else {
            return Ok(false);
        };
        let Some(resident) = self.population.residents.get(index) else {
            return Ok(false);
        };
        let status = if self.random.random_bool(0.7) { "Actif" } else { "Archivé" };
        self.update(resident.id, doc! { "$set": { "status": status, "updatedAt": DateTime::now() } }).await
    }

    async fn new_job(&mut self) -> Result<bool, Failure> {
        let Some(job) = self.population.new_job(&mut self.random) else {
            return Ok(false);
        };
        let Some(index) = self.some_recruiter() else {
            return Ok(false);
        };
        let Some(resident) = self.population.residents.get_mut(index) else {
            return Ok(false);
        };
        resident.jobs.push(job.get_object_id("_id")?);
        let id = resident.id;
        self.update(id, doc! { "$push": { "jobs": job } }).await
    }

    async fn removed_job(&mut self) -> Result<bool, Failure> {
        let Some(index) = self.some_recruiter() else {
            return Ok(false);
        };
        let Some(resident) = self.population.residents.get_mut(index) else {
            return Ok(false);
        };
        let Some(job) = resident.jobs.pop() else {
            return Ok(false);
        };
        let id = resident.id;
        self.update(id, doc! { "$pull": { "jobs": { "_id": job } } }).await
    }

    async fn new_recruiter(&mut self) -> Result<bool, Failure> {
        let Some(recruiter) = self.population.newcomer(&mut self.random) else {
            return Ok(false);
        };
        self.recruiters.insert_one(&recruiter).await?;
        self.population.residents.extend(Resident::of(&recruiter));
        Ok(true)
    }

    /// Inserts the copy without contact first, and then deletes the recruiter, as the platform does.
    async fn anonymisation(&mut self) -> Result<bool, Failure> {
        if self.population.residents.len() <= FEWEST_RECRUITERS {
            return Ok(false);
        }
        let Some(index) = self.some_recruiter() else {
            return Ok(false);
        };
        let resident = self.population.residents.swap_remove(index);
        let Some(mut recruiter) = self.recruiters.find_one(doc! { "_id": resident.id }).await? else {
            return Ok(false);
        };
        for field in CONTACT_FIELDS {
            recruiter.remove(field);
        }
        self.anonymized.insert_one(recruiter).await?;
        self.recruiters.delete_one(doc! { "_id": resident.id }).await?;
        Ok(true)
    }

    async fn update(&self, id: ObjectId, update: Document) -> Result<bool, Failure> {
        self.recruiters.update_one(doc! { "_id": id }, update).await?;
        Ok(true)
    }

    fn some_recruiter(&mut self) -> Option<usize> {
        let count = self.population.residents.len();
        (count > 0).then(|| self.random.random_range(0..count))
    }

    /// A recruiter and the path of one of its jobs, such as `jobs.2`.
    fn some_job(&mut self) -> Option<(ObjectId, String)> {
        let index = self.some_recruiter()?;
        let resident = self.population.residents.get(index)?;
        let positions: Vec<usize> = (0..resident.jobs.len()).collect();
        let position = positions.choose(&mut self.random)?;
        Some((resident.id, format!("jobs.{position}")))
    }
}
