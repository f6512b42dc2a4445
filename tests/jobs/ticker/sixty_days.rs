//! Sixty days of the platform, as fast as they go: a load every day, all jobs that are on by default, two instances of
//! which one is killed now and then. Autumn, so that one day has 25 hours.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::database::TestDatabase;
use crate::support::mail_server::MailServer;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{end_lease, settled};
use crate::support::ticking::{ON, Time, date, later, text, time, until_run};
use crate::support::waiting::{PATIENCE, eventually};

const DAYS: i64 = 60;
const BEGIN: &str = "2026-09-10T10:00:00Z";
const DAY: i64 = 24 * 3_600_000;
const USERS: usize = 5;
/// Every so many days the leader dies.
const KILLED: i64 = 7;

/// The jobs that are off by default.
const TURNED_ON: [&str; 4] = [
    "STREAM_PROCESSOR__TICKER__JOBS__CAP_OFFER_EXPIRATIONS__ENABLED",
    "STREAM_PROCESSOR__TICKER__JOBS__FILL_MISSING_START_DATES__ENABLED",
    "STREAM_PROCESSOR__TICKER__JOBS__REPAIR_OFFER_DATA__ENABLED",
    "STREAM_PROCESSOR__TICKER__JOBS__FULL_SYNC__ENABLED",
];
/// All that run by themselves here, with their expressions.
const JOBS: [(&str, &[&str]); 13] = [
    ("remind-expiring-offers-j7", &["20 9 * * *"]),
    ("remind-expiring-offers-j1", &["25 9 * * *"]),
    ("cancel-expired-offers", &["15 0 * * *", "0 * * * *"]),
    ("cap-offer-expirations", &["30 0 * * *"]),
    ("fill-missing-start-dates", &["35 0 * * *"]),
    ("repair-offer-data", &["40 0 * * *"]),
    ("refresh-pending-establishments", &["10 0 * * *"]),
    ("send-introductions", &["55 1 * * *"]),
    ("full-sync", &["0 3 * * *"]),
    ("anonymize-inactive-users", &["0 1 * * *"]),
    ("sync-recruiter-status", &["*/15 * * * *"]),
    ("retry-dead-letters", &["* * * * *"]),
    ("verify", &["30 4 * * *"]),
];

/// What the applications do.
struct Load {
    random: StdRng,
    users: Vec<ObjectId>,
    /// Offers whose end nothing moves, and whose recruiters stay: both reminders are due.
    plain: BTreeMap<ObjectId, DateTime>,
}

impl Load {
    async fn begin(test: &TestDatabase, now: DateTime) -> Self {
        let user = |place: usize| {
            // The last one has done nothing for two years on the thirtieth day.
            let last_action = if place == USERS { later(date("2024-09-10T10:00:00Z"), 30 * DAY) } else { now };
            doc! {
                "_id": ObjectId::new(), "email": format!("{PERSONAL}{place}@example.com"), "first_name": PERSONAL,
                "last_name": PERSONAL, "last_action_date": last_action, "status": [{ "status": "ACTIF" }],
            }
        };
        let users: Vec<Document> = (0..=USERS).map(user).collect();
        test.collection("userswithaccounts").insert_many(&users).await.unwrap();
        let ids = users.iter().map(id).collect();
        Self { random: StdRng::seed_from_u64(60), users: ids, plain: BTreeMap::new() }
    }

    /// A new recruiter, another one that goes, and all that can be wrong with their jobs.
    async fn day(&mut self, test: &TestDatabase, day: i64, now: DateTime) {
        let user = self.users[self.random.random_range(0..USERS)];
        let expires = |random: &mut StdRng| later(now, random.random_range(8 * DAY..20 * DAY));
        let mut jobs = Vec::new();
        for _ in 0..2 {
            let end = expires(&mut self.random);
            let fields = doc! { "job_expiration_date": end, "job_creation_date": now, "job_update_date": now };
            let job = with(job("Boulanger"), fields);
            self.plain.insert(id(&job), end);
            jobs.push(job);
        }
        let managed = |jobs: Vec<Document>, user: ObjectId| with(recruiter(jobs), doc! { "managed_by": user.to_hex() });
        let rythm = ["", "1 jours / 4 jours", "Non renseigné"][usize::try_from(day % 3).unwrap()];
        let odd = doc! {
            "job_expiration_date": later(now, 200 * DAY), "job_creation_date": now, "job_update_date": now,
            "job_rythm": rythm,
        };
        let leaves = managed(vec![with(job("Vendeur"), odd)], user);
        let left = id(&leaves);
        test.collection("recruiters").insert_many([managed(jobs, user), leaves]).await.unwrap();
        if day % 10 == 0 {
            let inactive = managed(vec![job("Cuisinier")], self.users[USERS]);
            test.collection("recruiters").insert_one(inactive).await.unwrap();
        }
        if day % 4 == 1 {
            let archived = doc! { "$set": { "status": "Archivé", "updatedAt": now } };
            test.collection("recruiters").update_one(doc! { "_id": left }, archived).await.unwrap();
        }
        if day % 5 == 2 {
            let prolonged = doc! { "jobs.0.job_expiration_date": later(now, 25 * DAY), "jobs.0.job_update_date": now };
            test.collection("recruiters").update_one(doc! { "_id": left }, doc! { "$set": prolonged }).await.unwrap();
        }
        settled(&test.database).await;
    }
}

/// Who leads, first.
async fn in_order(first: Processor, second: Processor) -> [Processor; 2] {
    match first.metric("stream_processor_leader").await {
        Some(1.0) => [first, second],
        _ => [second, first],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sixty_days_with_kills_everything_is_reminded_cancelled_and_accounted_for_once() {
    let test = TestDatabase::create("ticker_sixty_days").await;
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    let begin = date(BEGIN);
    let clock = Time::at(BEGIN);
    let mail = [("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__SMTP__RATE", "1000")];
    let mut settings = vec![ON, clock.variable(), mail[0], mail[1]];
    settings.extend(TURNED_ON.map(|key| (key, "true")));
    let mut load = Load::begin(&test, begin).await;
    let mut instances = in_order(started_with(&test, &settings).await, started_with(&test, &settings).await).await;
    let state = test.collection("stream_processor_state");
    let counts_from_here = doc! { "_id": "ticker", "through.verify": begin };
    eventually(PATIENCE, "the ticker has begun", async || state.find_one(counts_from_here.clone()).await.unwrap())
        .await;
    for day in 1..=DAYS {
        let now = later(begin, day * DAY);
        load.day(&test, day, later(now, -DAY)).await;
        clock.set(now);
        if day % KILLED == 0 {
            // Somewhere in the middle of the runs of the day.
            let runs = test.collection("stream_processor_job_runs");
            let some = load.random.random_range(1..8);
            eventually(PATIENCE, "the day has begun", async || {
                let ended = doc! { "state": "ended", "finished": now };
                (runs.count_documents(ended).await.unwrap() >= some).then_some(())
            })
            .await;
            let [mut leader, standby] = instances;
            leader.sigkill();
            end_lease(&test.database).await;
            instances = [standby, started_with(&test, &settings).await];
        }
        until_run(&test, &JOBS, now).await;
    }
    settled(&test.database).await;
    let now = later(begin, DAYS * DAY);
    assert_cancelled(&test, now).await;
    assert_reminded(&test, &load, now).await;
    assert_accounted_for(&test).await;
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    for instance in instances {
        let ended = stopped(instance).await;
        assert!(!ended.stderr.contains(PERSONAL), "personal data in the log");
    }
}

async fn all(test: &TestDatabase, collection: &str, filter: Document) -> Vec<Document> {
    test.collection(collection).find(filter).await.unwrap().try_collect().await.unwrap()
}

async fn assert_cancelled(test: &TestDatabase, now: DateTime) {
    let expired = all(test, "jobs_partners", doc! { "offer_expiration": { "$lt": now } }).await;
    assert!(expired.len() > 50, "{}", expired.len());
    for offer in &expired {
        assert_eq!(text(offer, "offer_status"), Some("Cancelled"));
        // That of a recruiter which was archived at once was never anything else.
        let entries = offer.get_array("offer_status_history").unwrap().len();
        assert!(entries == 1 || entries == 0 && text(offer, "recruiter_status") != Some("Actif"), "{}", id(offer));
    }
    for recruiter in all(test, "recruiters", doc! {}).await {
        for job in recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document) {
            let is_expired = time(job, "job_expiration_date").is_some_and(|end| end < now);
            assert!(
                !is_expired
                    || text(job, "job_status") == Some("Annulée")
                    || text(&recruiter, "status") != Some("Actif")
            );
        }
    }
    let late = doc! { "offer_expiration": { "$gt": later(now, 62 * DAY) } };
    assert_eq!(all(test, "jobs_partners", late).await, []);
    let anonymised = doc! { "apply_email": "anonymized@example.com", "offer_status": "Cancelled" };
    // Three recruiters of the user who became inactive, and three that came after.
    assert_eq!(all(test, "jobs_partners", anonymised).await.len(), 6);
}

async fn assert_reminded(test: &TestDatabase, load: &Load, now: DateTime) {
    let outbox = all(test, "stream_processor_outbox", doc! {}).await;
    let offers = all(test, "jobs_partners", doc! {}).await;
    let mut reminded = 0;
    for (threshold, days) in [("J7", 7), ("J1", 1)] {
        let prefix = format!("remind-{threshold}/");
        let mut emails: BTreeMap<ObjectId, Vec<&str>> = BTreeMap::new();
        for email in outbox.iter().filter(|email| text(email, "_id").unwrap().starts_with(&prefix)) {
            for offer in email.get_array("offers").unwrap() {
                emails.entry(offer.as_object_id().unwrap()).or_default().push(text(email, "state").unwrap());
            }
        }
        for (offer, end) in load.plain.iter().filter(|(_, end)| later(**end, -days * DAY) <= now) {
            assert_eq!(emails.get(offer).map(Vec::as_slice), Some(&["sent"][..]), "{threshold} of {offer}, {end}");
            let stored = offers.iter().find(|stored| id(stored) == *offer).unwrap();
            assert!(time(stored, &format!("relance_mail_expiration_{threshold}")).is_some());
            reminded += 1;
        }
    }
    assert!(reminded > 150, "{reminded}");
}

async fn assert_accounted_for(test: &TestDatabase) {
    let runs = all(test, "stream_processor_job_runs", doc! {}).await;
    for (job, _) in JOBS {
        let done = runs.iter().filter(|run| text(run, "job") == Some(job) && text(run, "outcome") == Some("done"));
        assert_eq!(done.count(), usize::try_from(DAYS).unwrap(), "{job}: one run a day");
    }
    for run in runs {
        let outcome = text(&run, "outcome").unwrap_or("none");
        assert!(["done", "skipped", "missed"].contains(&outcome), "{run}");
    }
}
