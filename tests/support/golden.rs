//! The golden documents: what to load, what to play, what must then stand (see `tests/golden/README.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use bson::oid::ObjectId;
use bson::{Document, doc};
use mongodb::Database;
use mongodb::options::{Acknowledgment, CollectionOptions, WriteConcern};
use xtask::golden;

/// One write of `ops.ejson.gz`.
pub(crate) struct Operation {
    pub sequence: i64,
    /// What it stands for, such as `push_job`.
    pub kind: String,
    pub collection: String,
    pub write: Write,
}

pub(crate) enum Write {
    Insert(Document),
    Update { filter: Document, update: Document },
    Replace { filter: Document, document: Document },
    Delete { filter: Document },
}

/// What must stand after the inserts, or after the operations.
pub(crate) struct Expectation {
    /// Every offer whose job has a source that can be projected.
    pub offers: Vec<Document>,
    /// Reasons by job.
    pub dead_letters: BTreeMap<ObjectId, String>,
    /// Jobs of recruiters without an address.
    pub skipped: BTreeSet<ObjectId>,
    /// Jobs that are gone; where an offer was ever written, it is anonymised.
    pub anonymised_if_present: BTreeSet<ObjectId>,
    /// Jobs that are gone; where an offer was ever written, it is cancelled.
    pub cancelled_if_present: BTreeSet<ObjectId>,
}

/// Inserts the references into an empty database.
pub(crate) async fn load_references(database: &Database) {
    golden::insert_references(database).await.expect("references go into an empty database");
}

/// Inserts the recruiters.
pub(crate) async fn load_recruiters(database: &Database) {
    let recruiters = golden::recruiters().expect("golden documents are readable");
    database.collection("recruiters").insert_many(recruiters).await.expect("recruiters go into an empty collection");
}

/// The operations, in order.
pub(crate) fn operations() -> Vec<Operation> {
    let mut operations: Vec<Operation> = compressed("ops.ejson.gz").into_iter().map(Operation::read).collect();
    operations.sort_by_key(|operation| operation.sequence);
    operations
}

/// What stands after [`load_recruiters`].
pub(crate) fn after_inserts() -> Expectation {
    Expectation::read("expected_after_inserts")
}

/// What stands after [`load_recruiters`] and all [`operations`].
pub(crate) fn after_operations() -> Expectation {
    Expectation::read("expected_after_ops")
}

impl Operation {
    fn read(mut line: Document) -> Self {
        let operation = line.get_str("op").unwrap().to_owned();
        let mut take = |name: &str| match line.remove(name) {
            Some(bson::Bson::Document(document)) => document,
            other => panic!("`{name}` of an operation is {other:?}"),
        };
        let write = match operation.as_str() {
            "insertOne" => Write::Insert(take("doc")),
            "updateOne" => Write::Update { filter: take("filter"), update: take("update") },
            "replaceOne" => Write::Replace { filter: take("filter"), document: take("doc") },
            "deleteOne" => Write::Delete { filter: take("filter") },
            other => panic!("an operation is called {other}"),
        };
        Self {
            sequence: line.get_i32("seq").unwrap().into(),
            kind: line.get_str("kind").unwrap().to_owned(),
            collection: line.get_str("coll").unwrap().to_owned(),
            write,
        }
    }

    /// Writes it. It does not wait for a majority: the next operation, or who reads the stream, waits long enough.
    pub(crate) async fn apply(&self, database: &Database) {
        let alone = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let options = CollectionOptions::builder().write_concern(alone).build();
        let collection = database.collection_with_options::<Document>(&self.collection, options);
        let outcome = match &self.write {
            Write::Insert(document) => collection.insert_one(document).await.map(drop),
            Write::Update { filter, update } => collection.update_one(filter.clone(), update.clone()).await.map(drop),
            Write::Replace { filter, document } => collection.replace_one(filter.clone(), document).await.map(drop),
            Write::Delete { filter } => collection.delete_one(filter.clone()).await.map(drop),
        };
        if let Err(failure) = outcome {
            panic!("operation {} ({}) failed: {:?}", self.sequence, self.kind, failure.kind);
        }
    }
}

impl Expectation {
    fn read(name: &str) -> Self {
        let text = fs::read(folder().join(format!("{name}.json"))).expect("golden files are in the repository");
        let lists: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let id = |text: &str| ObjectId::parse_str(text).unwrap();
        let ids = |key: &str| -> BTreeSet<ObjectId> {
            let list = lists.get(key).and_then(|list| list.as_array());
            list.into_iter().flatten().map(|job| id(job.as_str().unwrap())).collect()
        };
        let reasons = lists["dead_letters"].as_object().unwrap();
        Self {
            offers: compressed(&format!("{name}.ejson.gz")),
            dead_letters: reasons.iter().map(|(job, why)| (id(job), why.as_str().unwrap().to_owned())).collect(),
            skipped: ids("skipped_no_address"),
            anonymised_if_present: ids("anonymised_if_present"),
            cancelled_if_present: ids("cancelled_if_present"),
        }
    }
}

/// Checks that the dead letters are exactly those expected, with their reasons.
pub(crate) async fn assert_dead_letters(database: &Database, expected: &BTreeMap<ObjectId, String>) {
    let dead_letters = database.collection::<Document>("stream_processor_dead_letters");
    let mut cursor = dead_letters.find(doc! {}).await.unwrap();
    let mut found = BTreeMap::new();
    while cursor.advance().await.unwrap() {
        let dead_letter = cursor.deserialize_current().unwrap();
        let job = dead_letter.get_str("_id").unwrap().rsplit('/').next().unwrap().to_owned();
        let job = ObjectId::parse_str(&job).unwrap_or_else(|_| panic!("a dead letter is about no job: {job}"));
        found.insert(job, dead_letter.get_str("reason").unwrap().to_owned());
    }
    assert_eq!(&found, expected, "dead letters by job");
}

fn compressed(name: &str) -> Vec<Document> {
    let bytes = fs::read(folder().join(name)).expect("golden files are in the repository");
    golden::read(&bytes).expect("golden files are readable")
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
