//! A dead letter remembers what failed, and a retry repeats that: a cancellation or an anonymisation that the target
//! refused is made good once it does not refuse any more, though nobody is left who could be touched.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::ticking::ON;
use crate::support::waiting::{PATIENCE, eventually};

const ANONYMISED: &str = "anonymized@example.com";

/// Recruiters that are gone while the target refuses what follows from that.
struct Gone {
    deleted: Document,
    anonymised: Document,
    /// Deleted, and its user was anonymised after that.
    of_user: Document,
    user: ObjectId,
}

impl Gone {
    async fn create(test: &TestDatabase) -> Self {
        let create = doc! { "create": "jobs_partners", "validationLevel": "strict", "validationAction": "error" };
        test.database.run_command(create).await.unwrap();
        let [deleted, anonymised, of_user] = [(); 3].map(|()| recruiter([job("Boulanger")]));
        let user = ObjectId::parse_str(text(&of_user, "managed_by")).unwrap();
        let contact = doc! { "_id": user, "email": format!("{PERSONAL}@example.com") };
        test.collection("userswithaccounts").insert_one(contact).await.unwrap();
        test.collection("recruiters").insert_many([&deleted, &anonymised, &of_user]).await.unwrap();
        Self { deleted, anonymised, of_user, user }
    }

    /// What the target refuses is all that follows.
    async fn happen(&self, test: &TestDatabase) {
        let not = |value: &str| doc! { "not": { "enum": [value] } };
        validate(test, doc! { "offer_status": not("Cancelled"), "apply_email": not(ANONYMISED) }).await;
        let recruiters = test.collection("recruiters");
        test.collection("anonymized_recruiters").insert_one(&self.anonymised).await.unwrap();
        for gone in [&self.deleted, &self.anonymised, &self.of_user] {
            recruiters.delete_one(doc! { "_id": id(gone) }).await.unwrap();
        }
        settled(&test.database).await;
        test.collection("anonymized_userswithaccounts").insert_one(doc! { "_id": self.user }).await.unwrap();
        test.collection("userswithaccounts").delete_one(doc! { "_id": self.user }).await.unwrap();
        settled(&test.database).await;
        assert_eq!(actions(test).await, self.actions());
    }

    fn actions(&self) -> BTreeMap<String, String> {
        let address = |recruiter: &Document| format!("recruiters/{}/{}", id(recruiter), first_job(recruiter));
        let actions = [
            (address(&self.deleted), "cancel"),
            (address(&self.anonymised), "anonymize_recruiter"),
            (address(&self.of_user), "cancel"),
            (format!("jobs_partners/{}", first_job(&self.of_user)), "anonymize_user"),
        ];
        actions.into_iter().map(|(address, action)| (address, action.to_owned())).collect()
    }

    /// All is as it would be had nothing been refused.
    async fn assert_made_good(&self, test: &TestDatabase) {
        assert_eq!(actions(test).await, BTreeMap::new());
        let offers = offers::read(&test.database).await;
        let all = [
            (&self.deleted, "removed from recruiter"),
            (&self.anonymised, "recruiter has been anonymized"),
            (&self.of_user, "removed from recruiter"),
        ];
        for (recruiter, reason) in all {
            let offer = &offers[&first_job(recruiter)];
            assert_eq!(text(offer, "offer_status"), "Cancelled", "{reason}");
            let [Bson::Document(entry)] = offer.get_array("offer_status_history").unwrap().as_slice() else {
                panic!("one entry: {reason}")
            };
            assert_eq!(text(entry, "reason"), reason);
        }
        assert_eq!(text(&offers[&first_job(&self.of_user)], "apply_email"), ANONYMISED);
        assert!(!offers[&first_job(&self.anonymised)].to_string().contains(PERSONAL), "the contact is gone");
        assert_eq!(Processor::command(&["verify"], test, &[]).await.code, 0);
        assert_eq!(test.collection("stream_processor_links").count_documents(doc! {}).await.unwrap(), 0);
    }
}

async fn validate(test: &TestDatabase, properties: Document) {
    let change = doc! { "collMod": "jobs_partners", "validator": { "$jsonSchema": { "properties": properties } } };
    test.database.run_command(change).await.unwrap();
}

async fn actions(test: &TestDatabase) -> BTreeMap<String, String> {
    let dead_letters = test.collection("stream_processor_dead_letters").find(doc! {}).await.unwrap();
    let dead_letters: Vec<Document> = dead_letters.try_collect().await.unwrap();
    dead_letters
        .iter()
        .map(|dead_letter| (text(dead_letter, "_id").to_owned(), text(dead_letter, "action").to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_repeats_the_cancellations_and_anonymisations_that_were_refused() {
    let test = TestDatabase::create("actions_retry").await;
    let gone = Gone::create(&test).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    gone.happen(&test).await;
    // The copies need not be kept for as long as somebody refuses.
    test.collection("anonymized_recruiters").delete_many(doc! {}).await.unwrap();
    test.collection("anonymized_userswithaccounts").delete_many(doc! {}).await.unwrap();
    let ended = Processor::command(&["dead-letters", "retry"], &test, &[]).await;
    assert_eq!((ended.code, ended.stdout.trim()), (1, "4 dead letters before, 4 now"));
    assert_eq!(actions(&test).await, gone.actions(), "what failed is not forgotten when it fails again");

    validate(&test, doc! {}).await;
    let ended = Processor::command(&["dead-letters", "retry"], &test, &[]).await;
    assert_eq!((ended.code, ended.stdout.trim()), (0, "4 dead letters before, 0 now"));
    gone.assert_made_good(&test).await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_and_the_job_repeat_them_too_and_letters_of_an_earlier_version_are_read() {
    for way in ["resync", "job"] {
        let test = TestDatabase::create("actions_ways").await;
        let gone = Gone::create(&test).await;
        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        gone.happen(&test).await;
        stopped(processor).await;
        as_1_0_0(&test, &gone).await;
        validate(&test, doc! {}).await;
        let mut settings = Vec::new();
        match way {
            "resync" => {
                test.collection("stream_processor_state").delete_one(doc! { "_id": "checkpoint" }).await.unwrap();
                test.collection("resumetokens").delete_many(doc! {}).await.unwrap();
            }
            _ => settings.push(ON),
        }
        let processor = started_with(&test, &settings).await;
        if way == "job" {
            let due = doc! { "$set": { "next_retry": bson::DateTime::from_millis(0) } };
            test.collection("stream_processor_dead_letters").update_many(doc! {}, due).await.unwrap();
            let ended = Processor::command(&["jobs", "run", "retry-dead-letters"], &test, &[]).await;
            assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        }
        until_no_resync(&test.database).await;
        eventually(PATIENCE, "no dead letter stands", async || actions(&test).await.is_empty().then_some(())).await;
        gone.assert_made_good(&test).await;
        stopped(processor).await;
    }
}

/// Without an action, and with the offer in the place of its recruiter.
async fn as_1_0_0(test: &TestDatabase, gone: &Gone) {
    let dead_letters = test.collection("stream_processor_dead_letters");
    dead_letters.update_many(doc! {}, doc! { "$unset": { "action": 1, "date": 1 } }).await.unwrap();
    let offer = first_job(&gone.of_user);
    let now = doc! { "_id": format!("jobs_partners/{offer}") };
    let mut dead_letter = dead_letters.find_one_and_delete(now).await.unwrap().unwrap();
    dead_letter.insert("_id", format!("recruiters/{offer}/{offer}"));
    dead_letters.insert_one(dead_letter).await.unwrap();
}
