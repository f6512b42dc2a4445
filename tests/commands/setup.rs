//! The command `setup` (spec 06): what it adds, that it does nothing twice, and that `--down` restores the bytes.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::options::{ValidationAction, ValidationLevel};
use stream_processor::inside::NEW;

use xtask::mongod::TestServer;

use crate::support::database::TestDatabase;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, state};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const MIGRATION: [&str; 6] = [
    "managed_by_1",
    "establishment_id_1",
    "relance_mail_expiration_J7_1_offer_status_1",
    "relance_mail_expiration_J1_1_offer_status_1",
    "recruiter_status_1",
    "managed_by_1_offer_status_1_offer_expiration_-1",
];
const OURS: &str = "RECRUTEURS_LBA";

#[tokio::test(flavor = "multi_thread")]
async fn setup_adds_what_is_missing_and_down_restores_every_byte() {
    let test = TestDatabase::with_live_schema("setup_down").await;
    let offers = old_offers(2_500);
    test.collection("jobs_partners").insert_many(&offers).bypass_document_validation(true).await.unwrap();
    let before = Everything::read(&test.database).await;

    let done = setup(&test, &[]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let names = index_names(&test.database, "jobs_partners").await;
    assert!(MIGRATION.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
    let properties = properties(&test.database).await;
    assert!(NEW.iter().all(|name| properties.contains_key(name)), "the validator knows the new fields");
    let changed: Vec<Document> = read_all(&test.database).await;
    for (before, after) in offers.iter().zip(&changed) {
        let mut expected = before.clone();
        if before.get_str("partner_label").unwrap() == OURS {
            for name in NEW.into_iter().filter(|name| !before.contains_key(name)) {
                let default = if name == "job_prolongation_count" { Bson::Int32(0) } else { Bson::Null };
                expected.insert(name, default);
            }
        }
        let sorted = |offer: &Document| offer.clone().into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(sorted(after), sorted(&expected), "only what was missing, only in offers of ours");
    }

    let done = setup(&test, &["--down"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(Everything::read(&test.database).await, before);
    assert_eq!(setup(&test, &["--down"]).await.stdout, "nothing to do\n");
    assert_eq!(Everything::read(&test.database).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_setup_says_that_there_is_nothing_to_do_and_writes_nothing() {
    let test = TestDatabase::with_live_schema("setup_twice").await;
    test.collection("jobs_partners").insert_many(old_offers(20)).await.unwrap();
    assert_eq!(setup(&test, &[]).await.code, 0);

    let (before, time) = (Everything::read(&test.database).await, cluster_time_now(&test.database).await);
    let again = setup(&test, &[]).await;
    assert_eq!((again.code, again.stdout.as_str()), (0, "nothing to do\n"));
    assert_eq!(Everything::read(&test.database).await, before);
    let oplog = test.database.client().database("local").collection::<Document>("oplog.rs");
    let of_this_database = doc! { "$regex": format!("^{}[.]", test.name()) };
    let entries = oplog.count_documents(doc! { "ts": { "$gt": time }, "ns": of_this_database }).await.unwrap();
    assert_eq!(entries, 0, "entries of the oplog");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_each_step_and_changes_nothing() {
    let test = TestDatabase::with_live_schema("setup_dry").await;
    test.collection("jobs_partners").insert_many(old_offers(20)).await.unwrap();
    let before = Everything::read(&test.database).await;
    let said = setup(&test, &["--dry-run"]).await.stdout;
    let told: serde_json::Value = serde_json::from_str(&setup(&test, &["--dry-run", "--json"]).await.stdout).unwrap();
    assert_eq!(told["steps"].as_array().unwrap().len(), said.lines().count(), "{told}");
    for name in MIGRATION.iter().chain(&NEW).chain(&["stream_processor_links", "to 12 offers"]) {
        assert!(said.contains(name), "{name} is not in:\n{said}");
    }
    assert_eq!(Everything::read(&test.database).await, before);

    let done = setup(&test, &[]).await.stdout;
    assert_eq!(done.replace("done: ", "would "), said, "the real run does what the dry run said");
    let before = Everything::read(&test.database).await;
    let said = setup(&test, &["--down", "--dry-run"]).await.stdout;
    assert_eq!(Everything::read(&test.database).await, before);
    let done = setup(&test, &["--down"]).await.stdout;
    assert_eq!(done.replace("done: ", "would "), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_setup_a_strict_validator_takes_the_new_fields_and_refuses_any_other() {
    let test = TestDatabase::create("setup_strict").await;
    let validator = doc! { "$jsonSchema": {
        "bsonType": "object", "additionalProperties": false,
        "properties": { "_id": {}, "partner_label": { "bsonType": "string" }, "managed_by": { "bsonType": "string" } },
    } };
    let create = test.database.create_collection("jobs_partners").validator(validator);
    create.validation_level(ValidationLevel::Moderate).validation_action(ValidationAction::Error).await.unwrap();
    let offers = test.collection("jobs_partners");
    let managed = ObjectId::new();
    offers.insert_one(doc! { "partner_label": OURS, "managed_by": "somebody", "_id": managed }).await.unwrap();
    let before = Everything::read(&test.database).await;
    let with_new = doc! { "partner_label": OURS, "mer_sent": "dirty", "managed_by": "x" };
    offers.insert_one(&with_new).await.unwrap_err();

    let done = setup(&test, &[]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let stored = offers.find_one(doc! { "_id": managed }).await.unwrap().unwrap();
    assert_eq!(stored.get_str("managed_by").unwrap(), "somebody");
    assert_eq!(stored.get("mer_sent"), Some(&Bson::Null));
    let inserted = offers.insert_one(&with_new).await.unwrap().inserted_id;
    offers.insert_one(doc! { "partner_label": OURS, "unheard_of": 1 }).await.unwrap_err();
    offers.delete_one(doc! { "_id": inserted }).await.unwrap();
    assert_eq!(setup(&test, &["--down"]).await.code, 0);
    assert_eq!(Everything::read(&test.database).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn down_is_refused_beside_an_instance_and_says_which_values_go_that_came_since() {
    let test = TestDatabase::with_live_schema("setup_since").await;
    test.collection("jobs_partners").insert_many(old_offers(20)).await.unwrap();
    let before = Everything::read(&test.database).await;
    assert_eq!(setup(&test, &[]).await.code, 0);

    let processor = started(&test).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger"), job("Fleuriste")])).await.unwrap();
    settled(&test.database).await;
    let refused = setup(&test, &["--down"]).await;
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(refused.stderr.contains("an instance is running"), "{}", refused.stderr);
    assert!(state(&test.database, "setup").await.is_some(), "nothing is taken back");
    assert_eq!(setup(&test, &[]).await.code, 0, "beside an instance, setup itself is no harm");
    stopped(processor).await;

    let done = setup(&test, &["--down"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("these are lost"), "{}", done.stdout);
    let left = read_all(&test.database).await;
    let written_since: Vec<&Document> = left.iter().filter(|offer| offer.contains_key("lba_url")).collect();
    assert_eq!(written_since.len(), 2);
    assert!(written_since.iter().all(|offer| NEW.iter().all(|name| !offer.contains_key(name))));

    for collection in ["recruiters", "stream_processor_canary", "resumetokens"] {
        test.collection(collection).delete_many(doc! {}).await.unwrap();
    }
    test.collection("jobs_partners").delete_many(doc! { "lba_url": { "$exists": true } }).await.unwrap();
    test.collection("stream_processor_canary").drop().await.unwrap();
    let after = Everything::read(&test.database).await;
    assert_eq!(after.collections, before.collections);
    assert_eq!(after.indexes, before.indexes);
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_come_without_the_new_fields_after_a_setup_get_them_by_the_next() {
    let test = TestDatabase::with_live_schema("setup_later").await;
    let offers = test.collection("jobs_partners");
    offers.insert_many(old_offers(20)).await.unwrap();
    let before = Everything::read(&test.database).await;
    assert_eq!(setup(&test, &[]).await.code, 0);
    let late = doc! { "partner_label": OURS, "partner_job_id": "late" };
    let late = offers.insert_one(late).await.unwrap().inserted_id;

    assert_eq!(setup(&test, &[]).await.code, 0);
    let stored = offers.find_one(doc! { "_id": &late }).await.unwrap().unwrap();
    assert!(NEW.iter().all(|name| stored.contains_key(name)), "{stored}");
    assert_eq!(setup(&test, &["--down"]).await.code, 0);
    assert_eq!(offers.find_one(doc! { "_id": &late }).await.unwrap().unwrap().len(), 3);
    offers.delete_one(doc! { "_id": &late }).await.unwrap();
    assert_eq!(Everything::read(&test.database).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_setup_goes_on_when_it_is_started_again_and_down_still_restores_every_byte() {
    for field in ["partner_label", "remembered", "added"] {
        let test = TestDatabase::with_live_schema("setup_killed").await;
        test.collection("jobs_partners").insert_many(old_offers(2_500)).bypass_document_validation(true).await.unwrap();
        let before = Everything::read(&test.database).await;
        let mut killed = Processor::spawn(&["setup"], &test, &[]);
        eventually(PATIENCE, "setup has come so far", async || {
            state(&test.database, "setup").await.filter(|memory| memory.contains_key(field))
        })
        .await;
        killed.sigkill();

        assert_eq!(setup(&test, &[]).await.code, 0);
        assert_eq!(setup(&test, &[]).await.stdout, "nothing to do\n");
        assert_eq!(setup(&test, &["--down"]).await.code, 0);
        assert_eq!(Everything::read(&test.database).await, before, "killed after `{field}` was remembered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_empty_database_setup_creates_everything_and_down_leaves_nothing() {
    let test = TestDatabase::without_collections(TestServer::obtain().uri(), "setup_empty").await;
    assert_eq!(setup(&test, &["--allow-empty"]).await.code, 0);
    assert_eq!(index_names(&test.database, "stream_processor_links").await, ["_id_", "jobs_1"]);
    assert_eq!(setup(&test, &[]).await.stdout, "nothing to do\n");
    assert_eq!(setup(&test, &["--down"]).await.code, 0);
    assert!(test.database.list_collection_names().await.unwrap().is_empty());
}

async fn setup(test: &TestDatabase, arguments: &[&str]) -> Ended {
    Processor::command(&[&["setup"], arguments].concat(), test, &[]).await
}

/// Offers in the order of their ids: every third is another partner's; of ours, some have some new fields or all.
fn old_offers(count: u32) -> Vec<Document> {
    let offer = |number: u32| {
        let mut offer = doc! { "_id": ObjectId::new(), "partner_job_id": number.to_string(), "offer_status": "Active" };
        offer.insert("partner_label", if number % 3 == 1 { "France Travail" } else { OURS });
        match number % 50 {
            2 => offer.extend(NEW.map(|name| (name.to_owned(), Bson::from("from before")))),
            3 => offer.extend(doc! { "mer_sent": null, "job_prolongation_count": 3_i64, "managed_by": "somebody" }),
            _ => {}
        }
        offer.insert("rank", 1.5);
        offer
    };
    (0..count).map(offer).collect()
}

/// All that `--down` must restore, as the server's own bytes.
#[derive(PartialEq)]
struct Everything {
    collections: Vec<Document>,
    indexes: BTreeMap<String, Vec<Document>>,
    documents: BTreeMap<String, Vec<RawDocumentBuf>>,
}

impl Everything {
    async fn read(database: &Database) -> Self {
        let reply = database.run_command(doc! { "listCollections": 1 }).await.unwrap();
        let mut all = Self { collections: batch(&reply), indexes: <_>::default(), documents: <_>::default() };
        all.collections.sort_by_key(|collection| collection.get_str("name").unwrap().to_owned());
        for collection in &all.collections {
            let name = collection.get_str("name").unwrap();
            let reply = database.run_command(doc! { "listIndexes": name }).await.unwrap();
            all.indexes.insert(name.to_owned(), batch(&reply));
            let documents = database.collection::<RawDocumentBuf>(name);
            let documents = documents.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
            all.documents.insert(name.to_owned(), documents.try_collect().await.unwrap());
        }
        all
    }
}

/// Says what differs by the names of collections: documents may be personal.
impl std::fmt::Debug for Everything {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for collection in &self.collections {
            let name = collection.get_str("name").unwrap();
            let options = bson::serialize_to_vec(collection).unwrap();
            let documents = self.documents[name].iter().map(|document| document.as_bytes());
            let hash = |bytes: &[u8]| bytes.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte));
            let keys = self.indexes[name].iter().map(|index| index.get_document("key").unwrap().to_string());
            let documents = hash(&documents.flatten().copied().collect::<Vec<_>>());
            writeln!(f, "{name}: options {:x}, documents {documents:x}", hash(&options))?;
            writeln!(f, "    {:?}", keys.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

fn batch(reply: &Document) -> Vec<Document> {
    let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    batch.iter().map(|document| document.as_document().unwrap().clone()).collect()
}

async fn index_names(database: &Database, collection: &str) -> Vec<String> {
    database.collection::<Document>(collection).list_index_names().await.unwrap()
}

async fn properties(database: &Database) -> Document {
    let mut found = database.list_collections().filter(doc! { "name": "jobs_partners" }).await.unwrap();
    let validator = found.try_next().await.unwrap().unwrap().options.validator.unwrap();
    validator.get_document("$jsonSchema").unwrap().get_document("properties").unwrap().clone()
}

async fn read_all(database: &Database) -> Vec<Document> {
    let offers = database.collection::<Document>("jobs_partners");
    offers.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap().try_collect().await.unwrap()
}
