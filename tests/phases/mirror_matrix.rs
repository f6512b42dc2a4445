//! The fault matrix in the direction of the mirror: applications write offers alone in `shadow`, while the process ends at
//! every named point, the position is lost, or the set gets other primaries. At the end the newest write of each offer
//! stands on both sides, and each offer has one job.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::options::WriteConcern;
use xtask::mongod::{Options, ReplicaSet};

use super::mirror::in_shadow_of;
use crate::support::database::TestDatabase;
use crate::support::elections::elect_twice;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, gaps, settled, until_no_resync};

/// The points of a process that mirrors, each with the signal and the exit code. One process per row: each continues
/// where the one before was ended.
const POINTS: [(&str, &str, i32); 14] = [
    ("beginning/1", "KILL", 137),
    ("fetched/1", "KILL", 137),
    ("projected/1", "KILL", 137),
    ("mirror-read/1", "KILL", 137),
    ("mirror-read/1", "TERM", 0),
    ("mirror-made/1", "KILL", 137),
    ("mirror-linked/1", "KILL", 137),
    ("mirror-added/1", "KILL", 137),
    ("mirror-added/1", "TERM", 0),
    ("mirrored/2", "KILL", 137),
    ("applied/1", "KILL", 137),
    ("saving/1", "KILL", 137),
    ("checkpointed/1", "KILL", 137),
    ("checkpointed/1", "TERM", 0),
];
const BEGIN: i64 = 1_760_000_000_000;
const STATUSES: [(&str, &str); 3] = [("Active", "Active"), ("Filled", "Pourvue"), ("Cancelled", "Annulée")];
const BATCHES: (&str, &str) = ("STREAM_PROCESSOR__STREAM__BATCH_MAX", "20");

/// An application that writes `jobs_partners` alone, with what it wrote last.
struct Application {
    test: TestDatabase,
    world: Vec<Document>,
    template: Document,
    /// Title and status of the offer's last write, by offer.
    newest: BTreeMap<ObjectId, (String, usize)>,
    writes: i64,
}

impl Application {
    async fn begin(test: TestDatabase) -> Self {
        let world: Vec<Document> = (0..8).map(|_| recruiter(["A", "B", "C"].map(job))).collect();
        in_shadow_of(&test, &world).await;
        let one = doc! { "_id": first_job(&world[0]) };
        let template = test.collection("jobs_partners").find_one(one).await.unwrap().unwrap();
        Self { test, world, template, newest: BTreeMap::new(), writes: 0 }
    }

    /// Edits and closes each offer, and makes one of a new establishment. A straggler writes something else in a job.
    async fn write(&mut self) {
        let offers: Vec<ObjectId> = self.world.iter().flat_map(job_ids).collect();
        for offer in offers {
            self.edit(offer, None).await;
        }
        let new = ObjectId::new();
        let siret = format!("{:014}", self.writes);
        let own = doc! { "partner_job_id": new.to_hex(), "establishment_id": new.to_hex(), "workplace_siret": siret };
        self.edit(new, Some(with(self.template.clone(), own))).await;
        let straggler = doc! { "$inc": { "jobs.0.stats_detail_view": 1 } };
        let one = doc! { "_id": id(&self.world[0]) };
        self.test.collection("recruiters").update_one(one, straggler).await.unwrap();
    }

    /// Writes an offer again and again until a majority has it.
    async fn edit(&mut self, offer: ObjectId, new: Option<Document>) {
        self.writes += 1;
        let status = usize::try_from(self.writes).unwrap() % 3;
        // A new offer that is closed gets no job.
        let status = if new.is_some() { 0 } else { status };
        let (title, date) = (format!("Titre {}", self.writes), DateTime::from_millis(BEGIN + self.writes * 1_000));
        let set = doc! { "offer_title": &title, "offer_status": STATUSES[status].0, "updated_at": date };
        let fields = with(new.unwrap_or_default(), set);
        let fields: Document = fields.into_iter().filter(|(name, _)| name != "_id").collect();
        let offers = self.test.collection("jobs_partners");
        let write = || {
            let update = offers.update_one(doc! { "_id": offer }, doc! { "$set": &fields }).upsert(true);
            update.write_concern(WriteConcern::majority())
        };
        while write().await.is_err() {}
        self.newest.insert(offer, (title, status));
    }

    /// Checks that both sides say what was written last, when everything is applied.
    async fn assert_mirrored(&self) {
        until_no_resync(&self.test.database).await;
        settled(&self.test.database).await;
        settled(&self.test.database).await;
        let all = async |name: &str| -> Vec<Document> {
            self.test.collection(name).find(doc! {}).await.unwrap().try_collect().await.unwrap()
        };
        let mut jobs: BTreeMap<ObjectId, (String, String)> = BTreeMap::new();
        for recruiter in all("recruiters").await {
            for job in recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document) {
                let stands = ["offer_title_custom", "job_status"].map(|name| text(job, name).to_owned());
                assert!(jobs.insert(id(job), stands.into()).is_none(), "two jobs of one offer: {job}");
            }
        }
        let offers: BTreeMap<ObjectId, (String, String)> = all("jobs_partners")
            .await
            .iter()
            .map(|offer| (id(offer), ["offer_title", "offer_status"].map(|name| text(offer, name).to_owned()).into()))
            .collect();
        let newest = |side: fn(&(&'static str, &'static str)) -> &'static str| -> BTreeMap<ObjectId, (String, String)> {
            let of = |(title, status): &(String, usize)| (title.clone(), side(&STATUSES[*status]).to_owned());
            self.newest.iter().map(|(id, written)| (*id, of(written))).collect()
        };
        assert_eq!(offers, newest(|status| status.0), "nobody else writes offers");
        assert_eq!(jobs, newest(|status| status.1));
        assert!(all("stream_processor_dead_letters").await.is_empty());
        let verified = Processor::command(&["verify"], &self.test, &[]).await;
        assert_eq!(verified.code, 0, "{}", verified.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_at_every_point_and_after_a_lost_position_the_mirror_loses_nothing() {
    let mut application = Application::begin(TestDatabase::create("mirror_points").await).await;
    for (point, signal, code) in POINTS {
        application.write().await;
        let order = format!("{point}/{signal}");
        let settings = [("STREAM_PROCESSOR_FAILPOINT", order.as_str()), BATCHES];
        let mut ends = Processor::start(&application.test, &settings);
        // The events of what it mirrors bring it to points of the other direction.
        let ended = ends.until_ended().await;
        assert_eq!(ended.code, code, "{order}:\n{}", ended.stderr);
        assert!(!ended.stderr.contains(PERSONAL), "personal data in the log");
        end_lease(&application.test.database).await;
    }
    let processor = started(&application.test).await;
    application.assert_mirrored().await;
    stopped(processor).await;

    application.write().await;
    let lost = ["tokens", "reset", "--force", "--reason", "a test"];
    assert_eq!(Processor::command(&lost, &application.test, &[]).await.code, 0);
    application.write().await;
    // The gap hides the events, and the resync ends in the middle of the mirror.
    let mut ends = Processor::start(&application.test, &[("STREAM_PROCESSOR_FAILPOINT", "mirrored/1/KILL")]);
    assert_eq!(ends.until_ended().await.code, 137);
    end_lease(&application.test.database).await;
    let processor = started(&application.test).await;
    application.assert_mirrored().await;
    let open = gaps(&application.test.database).await.into_iter().filter(|gap| text(gap, "state") != "repaired");
    assert_eq!(open.count(), 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_elections_while_applications_write_offers_lose_nothing_of_the_mirror() {
    let mut set = ReplicaSet::start(&Options { members: 3, ..Options::default() }).unwrap();
    let mut application = Application::begin(TestDatabase::create_on(&set.uri(), "mirror_elections").await).await;
    let processor = started(&application.test).await;
    let over = AtomicBool::new(false);
    let database = application.test.database.clone();
    let offers: Vec<ObjectId> = application.world.iter().flat_map(job_ids).collect();
    let edits = async {
        for offer in offers.iter().cycle() {
            application.edit(*offer, None).await;
            if over.load(Ordering::Relaxed) && application.writes > 50 {
                break;
            }
        }
    };
    let elections = async {
        elect_twice(&mut set, &database).await;
        over.store(true, Ordering::Relaxed);
    };
    futures::join!(edits, elections);
    application.assert_mirrored().await;
    stopped(processor).await;
}
