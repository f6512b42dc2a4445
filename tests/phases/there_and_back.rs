//! The whole way there and back, three times (spec 10, "The mirror (phase `shadow`)"): applications write where the phase
//! lets them, instances are killed, and no step is forced. At the end the newest write of every job stands on both sides.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;

use crate::support::database::TestDatabase;
use crate::support::fields::{job_ids, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const ROUNDS: usize = 3;
/// In the contact of everybody who is anonymised.
const FORGOTTEN: &str = "Xochipilli";
/// Later than every date of a new recruiter.
const BEGIN: i64 = 1_760_000_000_000;

/// An application, with what it wrote last.
struct Application {
    test: TestDatabase,
    /// The recruiter of each job.
    jobs: BTreeMap<ObjectId, ObjectId>,
    /// The title that was written last, by job.
    newest: BTreeMap<ObjectId, String>,
    writes: i64,
}

impl Application {
    /// Writes a new title of every second job, beginning with `first`, to these sides.
    async fn write(&mut self, name: &str, first: usize, sides: &[Side]) {
        let jobs: Vec<(ObjectId, ObjectId)> =
            self.jobs.iter().skip(first).step_by(2).map(|(job, recruiter)| (*job, *recruiter)).collect();
        for (job, recruiter) in jobs {
            self.writes += 1;
            let (title, date) = (format!("{name} {}", self.writes), DateTime::from_millis(BEGIN + self.writes * 1_000));
            for side in sides {
                match side {
                    Side::Offer => {
                        let set = doc! { "$set": { "offer_title": &title, "updated_at": date } };
                        self.test.collection("jobs_partners").update_one(doc! { "_id": job }, set).await.unwrap();
                    }
                    Side::Job => {
                        let set = doc! { "jobs.$.offer_title_custom": &title, "jobs.$.job_update_date": date };
                        let one = doc! { "_id": recruiter, "jobs._id": job };
                        self.test.collection("recruiters").update_one(one, doc! { "$set": set }).await.unwrap();
                    }
                }
            }
            self.newest.insert(job, title);
        }
    }

    /// Waits until the newest write of every job stands on both sides.
    async fn until_both_sides_have_the_newest(&self, what: &str) {
        eventually(PATIENCE, what, async || {
            let recruiters = self.test.collection("recruiters").find(doc! {}).await.unwrap();
            let recruiters: Vec<Document> = recruiters.try_collect().await.unwrap();
            let jobs = recruiters.iter().flat_map(|it| it.get_array("jobs").unwrap()).filter_map(Bson::as_document);
            let jobs = jobs.filter(|job| self.jobs.contains_key(&id(job)));
            let jobs: BTreeMap<ObjectId, String> =
                jobs.map(|job| (id(job), text(job, "offer_title_custom").to_owned())).collect();
            let offers = offers::read(&self.test.database).await;
            let offers: BTreeMap<ObjectId, String> = offers
                .iter()
                .filter(|(id, _)| self.jobs.contains_key(id))
                .map(|(id, offer)| (*id, text(offer, "offer_title").to_owned()))
                .collect();
            (jobs == self.newest && offers == self.newest).then_some(())
        })
        .await;
    }

    /// A person signs up with a recruiter and an offer, in a phase in which `recruiters` is read.
    async fn join(&self, contact: &str) -> Person {
        let user = ObjectId::new();
        let email = format!("{contact}@example.com");
        let contact = doc! { "first_name": contact, "last_name": contact, "phone": contact, "email": email };
        let account = with(contact.clone(), doc! { "_id": user, "status": [{ "status": "ACTIF" }] });
        let recruiter = with(with(recruiter([job("A")]), contact), doc! { "managed_by": user.to_hex() });
        self.test.collection("userswithaccounts").insert_one(account).await.unwrap();
        self.test.collection("recruiters").insert_one(&recruiter).await.unwrap();
        settled(&self.test.database).await;
        Person { user, recruiter }
    }

    /// The command anonymises the person's user.
    async fn forget(&self, person: &Person) {
        let user = person.user.to_hex();
        let forgotten = Processor::command(&["anonymize", "user", &user], &self.test, &[]).await;
        assert_eq!(forgotten.code, 0, "{}", forgotten.stderr);
    }

    /// The platform anonymises the person's recruiter and user, in its order.
    async fn forget_on_the_platform(&self, person: &Person) {
        let named = ["first_name", "last_name", "phone", "email"];
        let fields = person.recruiter.clone().into_iter().filter(|(name, _)| !named.contains(&name.as_str()));
        let copy: Document = fields.collect();
        self.test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
        self.test.collection("recruiters").delete_one(doc! { "_id": id(&person.recruiter) }).await.unwrap();
        let copy = doc! { "_id": person.user };
        self.test.collection("anonymized_userswithaccounts").insert_one(&copy).await.unwrap();
        self.test.collection("userswithaccounts").delete_one(copy).await.unwrap();
    }

    /// Checks that no contact of a forgotten person is in any document of the database.
    async fn assert_forgotten(&self) {
        settled(&self.test.database).await;
        for name in self.test.database.list_collection_names().await.unwrap() {
            let all = self.test.collection(&name).find(doc! {}).await.unwrap();
            let all: Vec<Document> = all.try_collect().await.unwrap();
            let left = all.iter().find(|document| document.to_string().contains(FORGOTTEN));
            assert!(left.is_none(), "{name}: {left:?}");
        }
    }

    /// Makes a step without force.
    async fn step(&self, to: &str) {
        settled(&self.test.database).await;
        until_no_resync(&self.test.database).await;
        assert_eq!(Processor::command(&["verify"], &self.test, &[]).await.code, 0, "before {to}");
        eventually(PATIENCE, "the step is made", async || {
            // The lag may be unknown for an instant, after a new stream.
            let step = Processor::command(&["phase", "set", to], &self.test, &[]).await;
            assert!(step.code == 0 || step.stderr.contains("lag"), "{to}: {}", step.stderr);
            (step.code == 0).then_some(())
        })
        .await;
    }
}

/// Somebody who is anonymised on the way.
struct Person {
    user: ObjectId,
    recruiter: Document,
}

#[derive(Clone, Copy)]
enum Side {
    Offer,
    Job,
}

#[tokio::test(flavor = "multi_thread")]
async fn three_times_there_and_back_with_kills_the_newest_write_stands_on_both_sides_and_nothing_is_forced() {
    let test = TestDatabase::create("there_and_back").await;
    let world: Vec<Document> = (0..6).map(|_| recruiter(["A", "B", "C"].map(job))).collect();
    test.collection("recruiters").insert_many(&world).await.unwrap();
    for recruiter in &world {
        let user = ObjectId::parse_str(text(recruiter, "managed_by")).unwrap();
        let email = format!("{user}@example.com");
        test.collection("userswithaccounts").insert_one(doc! { "_id": user, "email": email }).await.unwrap();
    }
    let jobs: BTreeMap<ObjectId, ObjectId> =
        world.iter().flat_map(|it| job_ids(it).into_iter().map(|job| (job, id(it)))).collect();
    let newest = BTreeMap::new();
    let mut application = Application { test, jobs, newest, writes: 0 };
    application.write("first", 0, &[Side::Job]).await;
    application.write("first", 1, &[Side::Job]).await;
    let mut instances = [started(&application.test).await, started(&application.test).await];
    application.until_both_sides_have_the_newest("sync").await;
    for round in 0..ROUNDS {
        let people = futures::future::join_all([(); 4].map(|()| application.join(FORGOTTEN))).await;
        application.forget_on_the_platform(&people[0]).await;
        application.step("dual-write").await;
        application.forget(&people[1]).await;
        application.write("both", round % 2, &[Side::Offer, Side::Job]).await;
        kill_one(&application.test, &mut instances, round).await;
        application.write("both again", 0, &[Side::Job, Side::Offer]).await;
        application.until_both_sides_have_the_newest("dual-write").await;

        application.step("shadow").await;
        application.write("offers", 0, &[Side::Offer]).await;
        application.forget(&people[2]).await;
        kill_one(&application.test, &mut instances, round + 1).await;
        application.write("offers again", 1, &[Side::Offer]).await;
        application.write("still both", round % 2, &[Side::Job, Side::Offer]).await;
        application.until_both_sides_have_the_newest("shadow").await;

        application.step("retired").await;
        application.forget(&people[3]).await;
        application.step("shadow").await;
        application.write("offers only", 1, &[Side::Offer]).await;
        application.until_both_sides_have_the_newest("shadow again").await;

        application.step("dual-write").await;
        kill_one(&application.test, &mut instances, round).await;
        application.write("both on the way back", 1, &[Side::Offer, Side::Job]).await;
        application.until_both_sides_have_the_newest("dual-write again").await;

        application.step("sync").await;
        application.write("recruiters", round % 2, &[Side::Job]).await;
        kill_one(&application.test, &mut instances, round + 1).await;
        application.until_both_sides_have_the_newest("sync again").await;
        application.assert_forgotten().await;
    }
    assert_nothing_was_forced(&application.test).await;
    for instance in instances {
        assert!(!stopped(instance).await.stderr.contains(PERSONAL));
    }
}

async fn assert_nothing_was_forced(test: &TestDatabase) {
    let history = Processor::command(&["phase", "history", "--json"], test, &[]).await;
    let history: serde_json::Value = serde_json::from_str(&history.stdout).unwrap();
    let forced =
        history["steps"].as_array().unwrap().iter().filter(|step| !step["overridden"].as_array().unwrap().is_empty());
    assert_eq!(forced.count(), 0, "{history:#}");
}

/// Kills an instance and starts another one in its place.
async fn kill_one(test: &TestDatabase, instances: &mut [Processor; 2], which: usize) {
    let victim = &mut instances[which % 2];
    victim.sigkill();
    end_lease(&test.database).await;
    *victim = started(test).await;
}
