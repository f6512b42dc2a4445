//! Random changes of invented recruiters, the same in every run with the same seed. A change may be sent twice, as a
//! client does that does not know whether the first one arrived.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use mongodb::Database;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::recruiters::{PERSONAL, id, job, recruiter, with};

/// Statements in one command of [`Workload::backlog`].
const TOGETHER: usize = 500;
const BEGIN: i64 = 1_700_000_000_000;

/// A job as the validator wants it. Where a job is not, the server logs a complaint of several kilobytes at each write of its
/// recruiter.
fn whole_job(title: &str) -> Document {
    with(job(title), doc! { "job_start_date": DateTime::from_millis(BEGIN) })
}

/// Recruiters, and what comes next for them.
pub(crate) struct Workload {
    random: StdRng,
    /// Each recruiter, and how many jobs it began with.
    recruiters: Vec<(ObjectId, usize)>,
    sent: i64,
}

impl Workload {
    /// Inserts so many recruiters with one to six jobs.
    pub(crate) async fn insert(database: &Database, seed: u64, count: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut recruiters = Vec::new();
        let mut documents = Vec::new();
        for _ in 0..count {
            let jobs = random.random_range(1..=6);
            let document = recruiter((0..jobs).map(|number| whole_job(&format!("Métier {number}"))));
            let document = with(document, doc! { "opco": "inconnu", "idcc": 1_i32 });
            recruiters.push((id(&document), jobs));
            documents.push(document);
        }
        database.collection("recruiters").insert_many(documents).await.unwrap();
        Self { random, recruiters, sent: 0 }
    }

    /// One change of one recruiter: a field of a job, its status, the contact, the recruiter's status, a job more or
    /// fewer. As a statement of the command `update`.
    pub(crate) fn change(&mut self) -> Document {
        self.sent += 1;
        let number = self.sent;
        let updated = DateTime::from_millis(BEGIN + number);
        let (recruiter, jobs) = *self.recruiters.choose(&mut self.random).unwrap();
        let job_path = format!("jobs.{}", self.random.random_range(0..jobs));
        let change = match self.random.random_range(0..10) {
            0 => doc! { "$set": { "phone": format!("06 {PERSONAL} {number}"), "updatedAt": updated } },
            1 => {
                let status = ["Archivé", "Actif"].choose(&mut self.random).copied().unwrap();
                doc! { "$set": { "status": status, "updatedAt": updated } }
            }
            // Not `$push`: sent twice, the recruiter would hold one job twice.
            2 => doc! { "$addToSet": { "jobs": with(whole_job("Nouveau"), doc! { "_id": ObjectId::new() }) } },
            3 => doc! { "$pull": { "jobs": { "offer_title_custom": "Nouveau" } }, "$set": { "updatedAt": updated } },
            4 => {
                let status = ["Active", "Pourvue", "Annulée"].choose(&mut self.random).copied().unwrap();
                let set = [("job_status", Bson::from(status)), ("job_update_date", updated.into())];
                let set = set.into_iter().map(|(field, value)| (format!("{job_path}.{field}"), value));
                doc! { "$set": set.collect::<Document>() }
            }
            _ => doc! { "$set": { format!("{job_path}.job_count"): number } },
        };
        doc! { "q": { "_id": recruiter }, "u": change }
    }

    /// Sends one change.
    pub(crate) async fn update(&mut self, database: &Database) {
        let change = self.change();
        send(database, vec![change], doc! {}).await.unwrap();
    }

    /// Sends one change again and again until a majority has it: through elections and dead servers.
    pub(crate) async fn update_through_faults(&mut self, database: &Database) {
        let change = self.change();
        let majority = doc! { "w": "majority", "wtimeout": 10_000 };
        while send(database, vec![change.clone()], majority.clone()).await.is_err() {}
    }

    /// Sends so many changes, many in one command.
    pub(crate) async fn backlog(&mut self, database: &Database, count: usize) {
        let changes: Vec<Document> = (0..count).map(|_| self.change()).collect();
        for changes in changes.chunks(TOGETHER) {
            send(database, changes.to_vec(), doc! {}).await.unwrap();
        }
    }
}

async fn send(database: &Database, changes: Vec<Document>, concern: Document) -> mongodb::error::Result<()> {
    let command = doc! { "update": "recruiters", "updates": changes, "writeConcern": concern };
    let reply = database.run_command(command).await?;
    // A statement may fail in an election, when the command around it does not.
    if reply.contains_key("writeErrors") || reply.contains_key("writeConcernError") {
        Err(mongodb::error::Error::custom("not written, or no majority has it"))
    } else {
        Ok(())
    }
}
