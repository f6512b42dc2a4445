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

/// A model of the target that the platform has or had. Its processes put the validator made from it into the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetModel {
    /// Before the migration.
    Before,
    /// With the fields of the migration's plan.
    Planned,
    /// The model that went live in the end.
    Live,
}

/// The validator of `jobs_partners` in this model.
///
/// # Errors
/// [`Failure::Damaged`].
pub fn target_validator(model: TargetModel) -> Result<Document, Failure> {
    let mut schema = parse(SCHEMA)?;
    let target = schema.get_document_mut("jobs_partners").map_err(damaged)?;
    let options = target.get_document_mut("options").map_err(damaged)?;
    let validator = options.get_document_mut("validator").map_err(damaged)?;
    let properties = validator.get_document_mut("$jsonSchema").map_err(damaged)?;
    let properties = properties.get_document_mut("properties").map_err(damaged)?;
    let nullable = |kind: &str| doc! { "bsonType": [kind, "null"] };
    let added: &[(&str, &str)] = match model {
        TargetModel::Before => &[],
        TargetModel::Planned => &[("managed_by", "string"), ("recruiter_status", "string")],
        TargetModel::Live => &[("managed_by", "objectId")],
    };
    let in_both = [
        ("establishment_id", "string"),
        ("offer_rome_appellation", "string"),
        ("relance_mail_expiration_J7", "date"),
        ("relance_mail_expiration_J1", "date"),
        ("mer_sent", "date"),
        ("job_last_prolongation_date", "date"),
        ("job_prolongation_count", "int"),
    ];
    let in_both: &[(&str, &str)] = if model == TargetModel::Before { &[] } else { &in_both };
    properties.extend(added.iter().chain(in_both).map(|(name, kind)| ((*name).to_owned(), nullable(kind).into())));
    if model == TargetModel::Live {
        let mut of_history = properties.get_document_mut("offer_status_history").map_err(damaged)?;
        for part in ["items", "properties", "status"] {
            of_history = of_history.get_document_mut(part).map_err(damaged)?;
        }
        of_history.get_array_mut("enum").map_err(damaged)?.push("Pending".into());
        let status = properties.get_document_mut("offer_status").map_err(damaged)?;
        status.get_array_mut("enum").map_err(damaged)?.push("Pending".into());
    }
    Ok(validator.clone())
}

/// Puts this validator into the database, as the platform's processes do at every start. `action` is `error` or `warn`.
///
/// # Errors
/// When the collection does not exist, or MongoDB refuses the command.
pub async fn put_target_validator(database: &Database, model: TargetModel, action: &str) -> Result<(), Failure> {
    let validator = target_validator(model)?;
    let change = doc! { "collMod": "jobs_partners", "validator": validator, "validationAction": action,
    "writeConcern": { "w": "majority" } };
    database.run_command(change).await?;
    Ok(())
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
