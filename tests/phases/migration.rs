//! The whole story of the four phases, forth and back (spec 04): an application writes as the phase says, all the time,
//! while the stream runs and is killed now and then; after each step the newest write of every offer is what stands.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::support::database::TestDatabase;
use crate::support::fields::text;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::started_with;
use crate::support::state::{settled, until_no_resync};

/// Where the application writes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    RecruitersOnly,
    Both,
    OffersWithBackup,
    OffersOnly,
}

/// What the application does last, by offer.
struct Written {
    recruiter: ObjectId,
    title: String,
    status: &'static str,
    date: DateTime,
    /// The job is in `recruiters` too.
    has_job: bool,
}

struct Application<'a> {
    test: &'a TestDatabase,
    random: StdRng,
    /// Its clock: every write has a later date than the one before.
    now: i64,
    recruiters: Vec<ObjectId>,
    newest: BTreeMap<ObjectId, Written>,
}

const STATUSES: [(&str, &str); 3] = [("Active", "Active"), ("Pourvue", "Filled"), ("Annulée", "Cancelled")];

#[tokio::test(flavor = "multi_thread")]
async fn through_all_phases_forth_and_back_the_newest_write_of_every_offer_is_what_stands() {
    let test = TestDatabase::with_planned_schema("migration").await;
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    let mut application = Application::begin(&test).await;
    // The application keeps the backup itself, so the mirror is off.
    let lease =
        [("STREAM_PROCESSOR__LEASE__DURATION", "2s"), ("STREAM_PROCESSOR__PHASE__KEEP_RECRUITERS_BACKUP", "false")];
    let mut processor = started_with(&test, &lease).await;
    until_no_resync(&test.database).await;
    // To which phase, and how the application writes before the step and after it.
    let story = [
        ("dual-write", Mode::RecruitersOnly, Mode::Both),
        ("shadow", Mode::Both, Mode::OffersWithBackup),
        ("retired", Mode::OffersOnly, Mode::OffersOnly),
        ("shadow", Mode::OffersOnly, Mode::OffersWithBackup),
        ("dual-write", Mode::Both, Mode::Both),
        ("sync", Mode::RecruitersOnly, Mode::RecruitersOnly),
    ];
    for (place, (to, before, after)) in story.into_iter().enumerate() {
        application.work(before, 25).await;
        if place % 2 == 1 {
            processor.sigkill();
            application.work(before, 10).await;
            processor = started_with(&test, &lease).await;
        }
        if to == "sync" {
            // Where recruiters become the authority again, what only offers had must be in them first.
            application.write_all_to_both().await;
        }
        // The application goes on while the step is made: as before it where the step is forward, as after it where the
        // step is back, so that at every instant it writes at least where the phase reads.
        let meanwhile = if place < 3 { before } else { after };
        let step = ["phase", "set", to, "--force", "--reason", "a trial"];
        let mut step = Processor::spawn(&step, &test, &lease);
        for _ in 0..30 {
            application.work(meanwhile, 1).await;
        }
        let ended = step.until_ended().await;
        assert_eq!(ended.code, 0, "{to}: {}", ended.stderr);
        application.work(after, 25).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        application.assert_stands(to).await;
    }
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 0, "{}", verified.stdout);
}

impl<'a> Application<'a> {
    async fn begin(test: &'a TestDatabase) -> Self {
        let recruiters: Vec<Document> = (0..12).map(|_| recruiter([job("Boulanger"), job("Vendeur")])).collect();
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        let now = 1_750_000_000_000;
        let random = StdRng::seed_from_u64(7);
        let mut application =
            Self { test, random, now, recruiters: recruiters.iter().map(id).collect(), newest: BTreeMap::new() };
        for recruiter in &recruiters {
            for job in recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document) {
                let written = Written {
                    recruiter: id(recruiter),
                    title: text(job, "offer_title_custom").to_owned(),
                    status: "Active",
                    date: *job.get_datetime("job_update_date").unwrap(),
                    has_job: true,
                };
                application.newest.insert(id(job), written);
            }
        }
        application
    }

    /// So many edits, and now and then a new offer.
    async fn work(&mut self, mode: Mode, edits: usize) {
        for _ in 0..edits {
            self.now += 1_000;
            let date = DateTime::from_millis(self.now);
            let title = format!("Titre {}", self.now);
            if self.random.random_ratio(1, 12) {
                self.create(mode, title, date).await;
                continue;
            }
            let offers: Vec<ObjectId> = self.newest.keys().copied().collect();
            let offer = *offers.choose(&mut self.random).unwrap();
            let (job_status, status) = *STATUSES.choose(&mut self.random).unwrap();
            let written = self.newest.get_mut(&offer).unwrap();
            // A job that only `jobs_partners` has cannot be edited where nobody has it.
            let mode = if written.has_job || mode == Mode::RecruitersOnly { mode } else { Mode::OffersOnly };
            if mode == Mode::RecruitersOnly && !written.has_job {
                continue;
            }
            (written.title, written.status, written.date) = (title.clone(), status, date);
            let to_job = doc! { "jobs.$.offer_title_custom": &title, "jobs.$.job_status": job_status, "jobs.$.job_update_date": date };
            let to_offer = doc! { "offer_title": &title, "offer_status": status, "updated_at": date };
            self.write(mode, offer, to_job, to_offer).await;
        }
    }

    async fn write(&mut self, mode: Mode, offer: ObjectId, to_job: Document, to_offer: Document) {
        // Which one is first is as it happens; a backup may be lost.
        let offer_first = self.random.random_bool(0.5);
        let backup_is_lost = self.random.random_ratio(1, 4);
        let steps: &[bool] = match mode {
            Mode::RecruitersOnly => &[false],
            Mode::OffersOnly => &[true],
            Mode::OffersWithBackup if backup_is_lost => &[true],
            Mode::OffersWithBackup => &[true, false],
            Mode::Both if offer_first => &[true, false],
            Mode::Both => &[false, true],
        };
        for is_offer in steps {
            if *is_offer {
                // An application that writes both may be faster than the stream.
                let create = doc! { "partner_label": "RECRUTEURS_LBA", "partner_job_id": offer.to_hex() };
                let update = doc! { "$set": &to_offer, "$setOnInsert": create };
                let offers = self.test.collection("jobs_partners");
                offers.update_one(doc! { "_id": offer }, update).upsert(true).await.unwrap();
            } else {
                let recruiters = self.test.collection("recruiters");
                recruiters.update_one(doc! { "jobs._id": offer }, doc! { "$set": &to_job }).await.unwrap();
            }
        }
    }

    async fn create(&mut self, mode: Mode, title: String, date: DateTime) {
        let recruiter = *self.recruiters.choose(&mut self.random).unwrap();
        let new = job(&title);
        let has_job = matches!(mode, Mode::RecruitersOnly | Mode::Both);
        let offer = id(&new);
        if has_job {
            self.push(recruiter, &new, date).await;
        }
        if mode != Mode::RecruitersOnly {
            let fields = doc! { "offer_title": &title, "offer_status": "Active", "updated_at": date };
            self.write(Mode::OffersOnly, offer, doc! {}, fields).await;
        }
        self.newest.insert(offer, Written { recruiter, title, status: "Active", date, has_job });
    }

    async fn push(&self, recruiter: ObjectId, job: &Document, date: DateTime) {
        let mut job = job.clone();
        job.insert("job_update_date", date);
        let push = doc! { "$push": { "jobs": job } };
        self.test.collection("recruiters").update_one(doc! { "_id": recruiter }, push).await.unwrap();
    }

    /// The newest state of every offer, in both collections.
    async fn write_all_to_both(&mut self) {
        let offers: Vec<ObjectId> = self.newest.keys().copied().collect();
        for offer in offers {
            self.now += 1_000;
            let date = DateTime::from_millis(self.now);
            let written = self.newest.get_mut(&offer).unwrap();
            written.date = date;
            let (recruiter, title, status) = (written.recruiter, written.title.clone(), written.status);
            let (job_status, _) = STATUSES.iter().find(|(_, known)| *known == status).unwrap();
            if !std::mem::replace(&mut written.has_job, true) {
                let mut new = job(&title);
                new.extend(doc! { "_id": offer, "job_status": *job_status });
                self.push(recruiter, &new, date).await;
            }
            let to_job = doc! { "jobs.$.offer_title_custom": &title, "jobs.$.job_status": *job_status, "jobs.$.job_update_date": date };
            let to_offer = doc! { "offer_title": &title, "offer_status": status, "updated_at": date };
            self.write(Mode::Both, offer, to_job, to_offer).await;
        }
    }

    async fn assert_stands(&self, phase: &str) {
        let standing = offers::read(&self.test.database).await;
        for (offer, written) in &self.newest {
            let Some(stands) = standing.get(offer) else { panic!("{phase}: {offer} is missing") };
            let found =
                (text(stands, "offer_title"), text(stands, "offer_status"), stands.get_datetime("updated_at").ok());
            assert_eq!(found, (written.title.as_str(), written.status, Some(&written.date)), "{phase}: {offer}");
        }
        assert_eq!(standing.len(), self.newest.len(), "{phase}");
    }
}
