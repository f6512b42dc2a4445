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
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

const ROUNDS: usize = 3;
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
            let jobs: BTreeMap<ObjectId, String> =
                jobs.map(|job| (id(job), text(job, "offer_title_custom").to_owned())).collect();
            let offers = offers::read(&self.test.database).await;
            let offers: BTreeMap<ObjectId, String> =
                offers.iter().map(|(id, offer)| (*id, text(offer, "offer_title").to_owned())).collect();
            (jobs == self.newest && offers == self.newest).then_some(())
        })
        .await;
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
        application.step("dual-write").await;
        application.write("both", round % 2, &[Side::Offer, Side::Job]).await;
        kill_one(&application.test, &mut instances, round).await;
        application.write("both again", 0, &[Side::Job, Side::Offer]).await;
        application.until_both_sides_have_the_newest("dual-write").await;

        application.step("shadow").await;
        application.write("offers", 0, &[Side::Offer]).await;
        kill_one(&application.test, &mut instances, round + 1).await;
        application.write("offers again", 1, &[Side::Offer]).await;
        application.write("still both", round % 2, &[Side::Job, Side::Offer]).await;
        application.until_both_sides_have_the_newest("shadow").await;

        application.step("retired").await;
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
    }
    let history = Processor::command(&["phase", "history", "--json"], &application.test, &[]).await;
    let history: serde_json::Value = serde_json::from_str(&history.stdout).unwrap();
    let forced =
        history["steps"].as_array().unwrap().iter().filter(|step| !step["overridden"].as_array().unwrap().is_empty());
    assert_eq!(forced.count(), 0, "{history:#}");
    for instance in instances {
        assert!(!stopped(instance).await.stderr.contains(PERSONAL));
    }
}

/// Kills an instance and starts another one in its place.
async fn kill_one(test: &TestDatabase, instances: &mut [Processor; 2], which: usize) {
    let victim = &mut instances[which % 2];
    victim.sigkill();
    end_lease(&test.database).await;
    *victim = started(test).await;
}
