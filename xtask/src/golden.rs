//! The invented documents of `tests/golden`, and the validators and indexes of the live collections. The files are
//! compiled in, so that the demo works from any folder. The golden operations and expected offers are not in here: only
//! the tests use them.

use std::io::Read as _;

use bson::{Bson, Document, doc};
use flate2::read::GzDecoder;
use mongodb::Database;

macro_rules! golden {
    ($file:literal) => {
        include_bytes!(concat!("../../tests/golden/", $file))
    };
}

const SCHEMA: &[u8] = golden!("schema.json");
const RECRUITERS: &[u8] = golden!("recruiters.ejson.gz");
const REFERENCES: [(&str, &[u8]); 4] = [
    ("cfas", golden!("references/cfas.ejson.gz")),
    ("referentiel_engagement_entreprise", golden!("references/referentiel_engagement_entreprise.ejson.gz")),
    ("referentielromes", golden!("references/referentielromes.ejson.gz")),
    ("userswithaccounts", golden!("references/userswithaccounts.ejson.gz")),
];

/// The reason why golden documents could not be read or inserted.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the golden documents are damaged: {0}")]
    Damaged(String),
    #[error("MongoDB refused: {0}")]
    Driver(#[from] mongodb::error::Error),
}

/// The documents of a compressed file of canonical Extended JSON v2, one document per line.
///
/// # Errors
/// [`Failure::Damaged`] when the bytes are no such file.
pub fn read(compressed: &[u8]) -> Result<Vec<Document>, Failure> {
    let mut text = String::new();
    GzDecoder::new(compressed).read_to_string(&mut text).map_err(damaged)?;
    text.lines().map(|line| parse(line.as_bytes())).collect()
}

/// The 366 golden recruiters in the order of their ids.
///
/// # Errors
/// [`Failure::Damaged`].
pub fn recruiters() -> Result<Vec<Document>, Failure> {
    read(RECRUITERS)
}

/// Creates the collections of the live database, with their validators and indexes.
///
/// # Errors
/// When a collection exists already, or MongoDB refuses a command.
pub async fn create_collections(database: &Database) -> Result<(), Failure> {
    for (collection, entry) in &parse(SCHEMA)? {
        let entry = entry.as_document().ok_or_else(|| damaged("a collection without a description"))?;
        let mut create = doc! { "create": collection };
        create.extend(entry.get_document("options").map_err(damaged)?.clone());
        database.run_command(create).await?;

        let entries = entry.get_array("indexes").map_err(damaged)?;
        let indexes = entries.iter().map(index).collect::<Result<Vec<Document>, Failure>>()?;
        if !indexes.is_empty() {
            database.run_command(doc! { "createIndexes": collection, "indexes": indexes }).await?;
        }
    }
    Ok(())
}

/// Inserts the references into the collections of the same names.
///
/// # Errors
/// When MongoDB refuses an insert, for instance because the document exists already.
pub async fn insert_references(database: &Database) -> Result<(), Failure> {
    for (collection, compressed) in REFERENCES {
        database.collection::<Document>(collection).insert_many(read(compressed)?).await?;
    }
    Ok(())
}

/// Turns `{key: [[name, kind], …], unique}` into an index of the `createIndexes` command.
fn index(entry: &Bson) -> Result<Document, Failure> {
    let entry = entry.as_document().ok_or_else(|| damaged("an index that is no document"))?;
    let mut key = Document::new();
    for pair in entry.get_array("key").map_err(damaged)? {
        let Some([Bson::String(name), kind]) = pair.as_array().map(Vec::as_slice) else {
            return Err(damaged("an index key that is no pair"));
        };
        key.insert(name, kind.clone());
    }
    let parts: Vec<String> = key
        .iter()
        .map(|(name, kind)| format!("{name}_{}", kind.as_str().map_or_else(|| kind.to_string(), str::to_owned)))
        .collect();
    let unique = entry.get_bool("unique").map_err(damaged)?;
    Ok(doc! { "name": parts.join("_"), "key": key, "unique": unique })
}

fn parse(json: &[u8]) -> Result<Document, Failure> {
    // `serde_json::Value` is avoided: it sorts the fields, and their order is part of a BSON value.
    serde_json::from_slice(json).map_err(damaged)
}

fn damaged(detail: impl ToString) -> Failure {
    Failure::Damaged(detail.to_string())
}
