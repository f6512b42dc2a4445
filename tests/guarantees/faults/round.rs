//! One of everything that can happen to recruiters, each to one of its own, and the check that each was applied.

use bson::oid::ObjectId;
use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::state::settled;

/// What happens to the recruiters in one round, each thing to one of its own.
pub(super) struct Round {
    newcomer: Document,
    changes: Document,
    loses_job: Document,
    deleted: Document,
    anonymised: Document,
}

impl Round {
    /// Inserts those who are there before, and waits until they are handled.
    pub(super) async fn begin(test: &TestDatabase) -> Self {
        let two_jobs = || recruiter([job("Boulanger"), job("Pâtissier")]);
        let broken = with(job("Vendeur"), doc! { "job_status": "Statut inconnu" });
        let round = Self {
            newcomer: recruiter([job("Boulanger"), broken]),
            changes: two_jobs(),
            loses_job: two_jobs(),
            deleted: two_jobs(),
            anonymised: two_jobs(),
        };
        let there = [&round.changes, &round.loses_job, &round.deleted, &round.anonymised];
        test.collection("recruiters").insert_many(there).await.unwrap();
        settled(&test.database).await;
        round
    }

    /// Lets it happen.
    pub(super) async fn play(&self, test: &TestDatabase) {
        let recruiters = test.collection("recruiters");
        let by_id = |recruiter: &Document| doc! { "_id": id(recruiter) };
        recruiters.insert_one(&self.newcomer).await.unwrap();
        let title = doc! { "$set": { "jobs.0.offer_title_custom": "Fleuriste" } };
        recruiters.update_one(by_id(&self.changes), title).await.unwrap();
        let removal = doc! { "$pull": { "jobs": { "_id": first_job(&self.loses_job) } } };
        recruiters.update_one(by_id(&self.loses_job), removal).await.unwrap();
        recruiters.delete_one(by_id(&self.deleted)).await.unwrap();
        test.collection("anonymized_recruiters").insert_one(&self.anonymised).await.unwrap();
        recruiters.delete_one(by_id(&self.anonymised)).await.unwrap();
    }

    /// Checks each thing: a later resync would hide that one of them was missed.
    pub(super) async fn assert_applied(&self, test: &TestDatabase, what: &str) {
        let offers = offers::read(&test.database).await;
        let field = |job: ObjectId, field| offers.get(&job).map(|offer| text(offer, field)).unwrap_or_default();
        let [lost, kept] = job_ids(&self.loses_job)[..] else { panic!("two jobs") };
        let mut expected = vec![
            (first_job(&self.newcomer), "offer_status", "Active"),
            (first_job(&self.changes), "offer_title", "Fleuriste"),
            (lost, "offer_status", "Cancelled"),
            (kept, "offer_status", "Active"),
        ];
        expected.extend(job_ids(&self.deleted).into_iter().map(|job| (job, "offer_status", "Cancelled")));
        for job in job_ids(&self.anonymised) {
            expected.extend([(job, "offer_status", "Cancelled"), (job, "apply_email", "anonymized@example.com")]);
        }
        for (job, name, value) in expected {
            assert_eq!(field(job, name), value, "{what}: {name} of an offer");
        }
        let dead_letter = doc! { "_id": format!("recruiters/{}/{}", id(&self.newcomer), job_ids(&self.newcomer)[1]) };
        let dead_letter = test.collection("stream_processor_dead_letters").find_one(dead_letter).await.unwrap();
        assert!(dead_letter.is_some(), "{what}: a dead letter is missing");
    }
}
