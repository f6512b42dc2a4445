//! Random operations on all watched collections, as applications do them, and a few as they should not. What comes in
//! several steps (moves of jobs, anonymisations) leaves its later steps for later, so that others fall in between.

use std::collections::VecDeque;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use rand::{Rng as _, SeedableRng as _};

use super::documents::{
    CFAS, ENGAGEMENTS, FORGOTTEN_USER, JOB_FIELDS, JOBS, RECRUITER_FIELDS, RECRUITERS, SHEETS, USERS, any_job, cfa,
    cfa_siret, date, engagement, establishment_siret, job_field, job_id, pick, recruiter, recruiter_field,
    recruiter_id, reference_id, rome_code, sheet, user, user_field, user_id,
};

/// What remains of an anonymised document has none of these (spec 01).
const CONTACT: [&str; 5] = ["email", "phone", "first_name", "last_name", "managed_by"];

/// The applications: they write one operation after another. What they do depends on the seed alone, for nobody else
/// writes these collections.
pub(super) struct Applications {
    pub random: StdRng,
    database: Database,
    /// Later steps of what has begun.
    begun: VecDeque<Document>,
    /// Reference documents are deleted, too, and get other keys. Each time that leads to a resync, which makes good
    /// whatever was done wrong until then.
    loses_references: bool,
}

impl Applications {
    pub(super) fn new(database: &Database, seed: u64) -> Self {
        let (random, begun) = (StdRng::seed_from_u64(seed), VecDeque::new());
        Self { random, database: database.clone(), begun, loses_references: seed.is_multiple_of(2) }
    }

    /// Most of what can be there is.
    pub(super) async fn begin(&mut self) {
        for number in 0..RECRUITERS.max(USERS) {
            let random = &mut self.random;
            let documents = [
                ("recruiters", recruiter(random, number % RECRUITERS)),
                ("userswithaccounts", user(random, number % USERS)),
                ("cfas", cfa(random, number % CFAS)),
                ("referentielromes", sheet(random, number % SHEETS)),
                ("referentiel_engagement_entreprise", engagement(random, number % ENGAGEMENTS)),
            ];
            for (collection, document) in documents {
                self.write(insert(collection, document)).await;
            }
        }
    }

    /// One operation, or the next step of one.
    pub(super) async fn act(&mut self) {
        match self.random.random_range(0..20) {
            0 => self.in_one_transaction().await,
            1..6 if !self.begun.is_empty() => {
                let step = self.begun.pop_front().unwrap();
                self.write(step).await;
            }
            _ => {
                let command = self.any().await;
                self.write(command).await;
            }
        }
    }

    /// Everything that has begun comes to its end.
    pub(super) async fn finish_steps(&mut self) {
        while let Some(step) = self.begun.pop_front() {
            self.write(step).await;
        }
    }

    /// Whoever is anonymised is deleted, and every job has one place: nothing is left that may look one way or another.
    pub(super) async fn tidy(&mut self) {
        for (copies, originals) in
            [("anonymized_recruiters", "recruiters"), ("anonymized_userswithaccounts", "userswithaccounts")]
        {
            let ids = self.database.collection::<Document>(copies).distinct("_id", doc! {}).await.unwrap();
            self.write(delete(originals, doc! { "_id": { "$in": ids } })).await;
        }
        let mut seen = Vec::new();
        for number in 0..RECRUITERS {
            let Some(recruiter) = self.find("recruiters", recruiter_id(number)).await else {
                continue;
            };
            let Ok(jobs) = recruiter.get_array("jobs") else {
                continue;
            };
            let is_new = |job: &&Bson| {
                let id = job.as_document().and_then(|job| job.get("_id")).cloned();
                let is_new = !seen.contains(&id);
                seen.push(id);
                is_new
            };
            let kept: Vec<Bson> = jobs.iter().filter(is_new).cloned().collect();
            if kept.len() < jobs.len() {
                self.write(set("recruiters", recruiter_id(number), doc! { "jobs": kept })).await;
            }
        }
    }

    /// Sends a command. What the server refuses of it (an `_id` that is there, a path that leads nowhere) is an
    /// operation that did not happen.
    async fn write(&self, command: Document) {
        let _: Result<Document, mongodb::error::Error> = self.database.run_command(command).await;
    }

    async fn in_one_transaction(&mut self) {
        let mut session = self.database.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        for _ in 0..self.random.random_range(2..5) {
            let command = self.any().await;
            if command.contains_key("aggregate") {
                // `$merge` is not allowed in one.
                self.write(command).await;
                continue;
            }
            let reply = self.database.run_command(command).session(&mut session).await;
            if !reply.is_ok_and(|reply| !reply.contains_key("writeErrors")) {
                // The server has ended it.
                let _: mongodb::error::Result<()> = session.abort_transaction().await;
                return;
            }
        }
        if self.random.random_bool(0.8) {
            session.commit_transaction().await.unwrap()
        } else {
            session.abort_transaction().await.unwrap()
        }
    }

    async fn any(&mut self) -> Document {
        match self.random.random_range(0..100) {
            0..12 => self.whole_recruiter(),
            12..26 => self.fields_of_recruiter(),
            26..50 => self.fields_of_jobs(),
            50..66 => self.list_of_jobs(),
            66..72 => self.move_job().await,
            72..74 => self.delete_recruiter(),
            74..77 => self.anonymise_recruiter().await,
            77..85 => self.a_user(),
            85..88 => self.anonymise_user().await,
            _ => self.a_reference(),
        }
    }

    fn any_recruiter(&mut self) -> u8 {
        self.random.random_range(0..RECRUITERS)
    }

    fn whole_recruiter(&mut self) -> Document {
        let number = self.any_recruiter();
        let document = recruiter(&mut self.random, number);
        if self.random.random_bool(0.5) {
            insert("recruiters", document)
        } else {
            replace("recruiters", document, true)
        }
    }

    fn fields_of_recruiter(&mut self) -> Document {
        let number = self.any_recruiter();
        let mut update = Document::new();
        for _ in 0..self.random.random_range(1..4) {
            let field = RECRUITER_FIELDS.split(' ').choose(&mut self.random).unwrap();
            add(&mut update, field, recruiter_field(&mut self.random, number, field));
        }
        update_one("recruiters", recruiter_id(number), update)
    }

    /// Single fields of jobs by their positions, with counters among them.
    fn fields_of_jobs(&mut self) -> Document {
        let number = self.any_recruiter();
        let mut update = Document::new();
        let mut last = 0;
        for _ in 0..self.random.random_range(1..3) {
            let position = self.random.random_range(0..4);
            last = last.max(position);
            match self.random.random_range(0..10) {
                0..2 => {
                    add(&mut update, &format!("jobs.{position}.stats_detail_view"), Some(Bson::Int32(number.into())))
                }
                2 => add(&mut update, &format!("jobs.{position}._id"), Some(self.any_job_id().into())),
                _ => {
                    let field = JOB_FIELDS.split(' ').choose(&mut self.random).unwrap();
                    let value = job_field(&mut self.random, number, field);
                    add(&mut update, &format!("jobs.{position}.{field}"), value);
                }
            }
        }
        if self.random.random_bool(0.2) {
            add(&mut update, "updatedAt", Some(date(&mut self.random)));
        }
        // A position that is not there would be filled up to with nulls; that may happen, but rarely.
        let there = if self.random.random_bool(0.95) { last } else { 0 };
        let filter = doc! { "_id": recruiter_id(number), format!("jobs.{there}"): { "$exists": true } };
        command("update", "updates", "recruiters", doc! { "q": filter, "u": update })
    }

    fn any_job_id(&mut self) -> ObjectId {
        job_id(self.random.random_range(0..JOBS))
    }

    /// The list itself: longer, shorter, in another order, another one.
    fn list_of_jobs(&mut self) -> Document {
        let number = self.any_recruiter();
        let mut random = StdRng::from_rng(&mut self.random);
        let new = any_job(&mut random, number);
        let update = match random.random_range(0..18) {
            0..8 => doc! { "$push": { "jobs": new } },
            8..10 => doc! { "$push": { "jobs": { "$each": [new], "$position": 0, "$slice": 4 } } },
            10..12 => doc! { "$pull": { "jobs": { "_id": self.any_job_id() } } },
            12 => doc! { "$pop": { "jobs": pick(&mut random, [1, -1]) } },
            13..15 => doc! { "$push": { "jobs": { "$each": [], "$sort": { "job_update_date": 1 } } } },
            15 => doc! { "$set": { "jobs": (0..3).map(|_| any_job(&mut random, number)).collect::<Vec<_>>() } },
            16 => doc! { "$set": { "jobs.1": new } },
            _ => {
                doc! { "$set": { "jobs": pick(&mut random, [Bson::Null, Vec::<Bson>::new().into(), "texte".into()]) } }
            }
        };
        if random.random_bool(0.1) {
            // By a pipeline the server finds out itself what differs: the event tells of a truncated list.
            let shorter = doc! { "$set": { "jobs": { "$cond": [
                { "$isArray": "$jobs" }, { "$slice": ["$jobs", 3] }, "$jobs",
            ] } } };
            let statement = doc! { "q": { "_id": recruiter_id(number) }, "u": [shorter] };
            return command("update", "updates", "recruiters", statement);
        }
        update_one("recruiters", recruiter_id(number), update)
    }

    /// A job goes from one recruiter to another, with the same `_id`: for a while both hold it, or neither does.
    async fn move_job(&mut self) -> Document {
        let (from, to) = (self.any_recruiter(), self.any_recruiter());
        let source = self.find("recruiters", recruiter_id(from)).await.unwrap_or_default();
        let jobs = source.get_array("jobs").cloned().unwrap_or_default();
        let moved = jobs.choose(&mut self.random).and_then(Bson::as_document).cloned();
        let moved = moved.unwrap_or_else(|| any_job(&mut self.random, from));
        let id = moved.get("_id").cloned().unwrap_or(Bson::Null);
        let leave = update_one("recruiters", recruiter_id(from), doc! { "$pull": { "jobs": { "_id": id } } });
        let arrive = update_one("recruiters", recruiter_id(to), doc! { "$push": { "jobs": moved } });
        self.either_first(leave, arrive)
    }

    fn delete_recruiter(&mut self) -> Document {
        delete("recruiters", doc! { "_id": recruiter_id(self.any_recruiter()) })
    }

    async fn anonymise_recruiter(&mut self) -> Document {
        let id = recruiter_id(self.any_recruiter());
        self.anonymise("recruiters", "anonymized_recruiters", id).await
    }

    async fn anonymise_user(&mut self) -> Document {
        let id = user_id(self.random.random_range(0..FORGOTTEN_USER));
        self.anonymise("userswithaccounts", "anonymized_userswithaccounts", id).await
    }

    /// Copied and deleted, in either order. The copy is made by `$merge` where the original is still there.
    async fn anonymise(&mut self, from: &str, to: &str, id: ObjectId) -> Document {
        let without: Document = CONTACT.iter().map(|field| ((*field).to_owned(), Bson::Int32(0))).collect();
        let merge = doc! {
            "aggregate": from, "cursor": {},
            "pipeline": [{ "$match": { "_id": id } }, { "$project": without }, { "$merge": to }],
        };
        let Some(mut copy) = self.find(from, id).await else {
            return merge;
        };
        for field in CONTACT {
            copy.remove(field);
        }
        let gone = delete(from, doc! { "_id": id });
        if self.random.random_bool(0.6) {
            self.begun.push_back(gone);
            merge
        } else {
            self.begun.push_back(replace(to, copy, true));
            gone
        }
    }

    fn a_user(&mut self) -> Document {
        let number = self.random.random_range(0..USERS);
        let id = user_id(number);
        match self.random.random_range(0..10) {
            0..3 => insert("userswithaccounts", user(&mut self.random, number)),
            3 => replace("userswithaccounts", user(&mut self.random, number), true),
            4 => delete("userswithaccounts", doc! { "_id": user_id(FORGOTTEN_USER) }),
            5 => set("userswithaccounts", id, doc! { "last_action_date": date(&mut self.random) }),
            _ => {
                let field = *["email", "phone", "status"].choose(&mut self.random).unwrap();
                set("userswithaccounts", id, doc! { field: user_field(&mut self.random, number, field) })
            }
        }
    }

    fn a_reference(&mut self) -> Document {
        let random = &mut self.random;
        let (collection, document) = match random.random_range(0..3) {
            0 => ("cfas", random.random_range(0..CFAS)),
            1 => ("referentielromes", random.random_range(0..SHEETS)),
            _ => ("referentiel_engagement_entreprise", random.random_range(0..ENGAGEMENTS)),
        };
        let id = reference_id(document);
        let document = match collection {
            "cfas" => cfa(random, document),
            "referentielromes" => sheet(random, document),
            _ => engagement(random, document),
        };
        match random.random_range(0..10) {
            0 if self.loses_references => replace(collection, document, false),
            1 if self.loses_references => delete(collection, doc! { "_id": id }),
            // It refuses when the key is taken.
            2 if self.loses_references => match collection {
                "cfas" => set(collection, id, doc! { "siret": cfa_siret(random) }),
                "referentielromes" => set(collection, id, doc! { "rome.code_rome": rome_code(random) }),
                _ => set(collection, id, doc! { "siret": establishment_siret(random) }),
            },
            0..5 => insert(collection, document),
            _ => {
                let (field, value) = document.into_iter().last().unwrap();
                set(collection, id, doc! { field: value })
            }
        }
    }

    /// The first step now, the other one later.
    fn either_first(&mut self, one: Document, other: Document) -> Document {
        let (first, second) = if self.random.random_bool(0.5) { (one, other) } else { (other, one) };
        self.begun.push_back(second);
        first
    }

    async fn find(&self, collection: &str, id: ObjectId) -> Option<Document> {
        let found = self.database.collection::<Document>(collection).find(doc! { "_id": id }).await.unwrap();
        found.try_collect::<Vec<Document>>().await.unwrap().pop()
    }
}

fn insert(collection: &str, document: Document) -> Document {
    command("insert", "documents", collection, document)
}

fn replace(collection: &str, document: Document, upsert: bool) -> Document {
    let filter = doc! { "_id": document.get("_id") };
    command("update", "updates", collection, doc! { "q": filter, "u": document, "upsert": upsert })
}

fn set(collection: &str, id: ObjectId, fields: Document) -> Document {
    update_one(collection, id, doc! { "$set": fields })
}

fn update_one(collection: &str, id: ObjectId, update: Document) -> Document {
    command("update", "updates", collection, doc! { "q": { "_id": id }, "u": update })
}

fn delete(collection: &str, filter: Document) -> Document {
    command("delete", "deletes", collection, doc! { "q": filter, "limit": 0 })
}

fn command(name: &str, list: &str, collection: &str, item: Document) -> Document {
    doc! { name: collection, list: [item] }
}

/// A field with this value, or without any.
fn add(update: &mut Document, field: &str, value: Option<Bson>) {
    let (operator, value) = value.map_or(("$unset", "".into()), |value| ("$set", value));
    let fields = update.entry(operator.to_owned()).or_insert_with(|| Document::new().into());
    fields.as_document_mut().unwrap().insert(field, value);
}
