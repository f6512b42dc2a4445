//! The platform's own writers of `jobs_partners` (spec 09, "A closing stands"), with the statements that the platform
//! sends. They are sent by a client of the test, not by the service.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};

use super::database::TestDatabase;
use super::runs::{started_with, stopped};
use super::state::{settled, until_no_resync};

/// A way in which the platform closes an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// `expireJobsPartners`, every 30 minutes. It does not move `updated_at`.
    Expired,
    /// The 80th application.
    Capped,
    /// The link "filled" in an e-mail.
    Provided,
    /// A one-off script.
    Script,
}

impl Closing {
    pub(crate) const ALL: [Self; 4] = [Self::Expired, Self::Capped, Self::Provided, Self::Script];

    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::Provided => "Filled",
            Self::Expired | Self::Capped | Self::Script => "Cancelled",
        }
    }

    /// The name of the writer in the history.
    pub(crate) fn granted_by(self) -> &'static str {
        self.entry().1
    }

    /// The reason in the history.
    pub(crate) fn reason(self) -> &'static str {
        self.entry().0
    }

    fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::Expired => ("offre expirée (date dépassée)", "expireJobsPartners"),
            Self::Capped => ("nombre maximum de candidatures atteint (80)", "application.service"),
            Self::Provided => ("offre pourvue", "jobs.controller.v2"),
            Self::Script => ("entreprise fermée", "SERVEUR"),
        }
    }
}

/// Closes an offer as the platform does, at this time. An offer that does not exist stays so.
pub(crate) async fn close(test: &TestDatabase, offer: ObjectId, closing: Closing, at: DateTime) {
    let (reason, granted_by) = closing.entry();
    let mut set = doc! { "offer_status": closing.status() };
    if closing == Closing::Capped {
        set.insert("updated_at", at);
    }
    let entry = doc! { "date": at, "status": closing.status(), "reason": reason, "granted_by": granted_by };
    let update = doc! { "$set": set, "$push": { "offer_status_history": entry } };
    test.collection("jobs_partners").update_one(doc! { "_id": offer }, update).await.unwrap();
}

/// Edits one job as the platform's form does: the job's own date moves, and that of the recruiter.
pub(crate) async fn edit_job(test: &TestDatabase, job: ObjectId, fields: Document, at: DateTime) {
    let mut set = doc! { "updatedAt": at, "jobs.$.job_update_date": at };
    set.extend(fields.into_iter().map(|(name, value)| (format!("jobs.$.{name}"), value)));
    test.collection("recruiters").update_one(doc! { "jobs._id": job }, doc! { "$set": set }).await.unwrap();
}

/// Gives each job of `recruiters` its offer, and leaves no trace of the service: what the old worker left.
pub(crate) async fn write_as_old_worker(test: &TestDatabase, settings: &[(&str, &str)]) {
    let processor = started_with(test, settings).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    for name in test.database.list_collection_names().await.unwrap() {
        if name.starts_with("stream_processor_") || name == "resumetokens" {
            test.collection(&name).drop().await.unwrap();
        }
    }
}

/// `expireJobsPartners`: closes each open offer whose end has passed.
pub(crate) async fn expire_offers(test: &TestDatabase, now: DateTime) {
    let (reason, granted_by) = Closing::Expired.entry();
    let entry = doc! { "date": now, "status": "Cancelled", "reason": reason, "granted_by": granted_by };
    let expired = doc! { "offer_status": "Active", "offer_expiration": { "$lt": now } };
    let update = doc! { "$set": { "offer_status": "Cancelled" }, "$push": { "offer_status_history": entry } };
    test.collection("jobs_partners").update_many(expired, update).await.unwrap();
}
