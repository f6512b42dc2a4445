//! Reads the state of the database for `setup`: collections, indexes, the validator, the number of offers with the new
//! fields, and the memory of an earlier `setup`. Writes nothing.

use futures::TryStreamExt as _;
use mongodb::{Database, IndexModel};

use super::new_fields;
use super::plan::{DatabaseContents, indexes};
use super::record::Memory;
use crate::error::{command_code, describe};
use crate::mongo::reads::collection;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::target;
use mongodb::error::Error as MongoError;

/// Reads the contents of the database. Only offers with this `partner_label` are counted.
///
/// # Errors
/// A [`Refusal`] when a part of the database cannot be read.
pub async fn inspect(database: &Database, partner_label: &str) -> Result<DatabaseContents, Refusal> {
    let unreadable = |error| could_not("list the collections and indexes", &error);
    let mut found = DatabaseContents { memory: Memory::load(database).await?, ..DatabaseContents::default() };
    found.collections = database.list_collection_names().await.map_err(unreadable)?.into_iter().collect();
    found.validator = target::validator(database).await?.rules;
    for (name, _) in indexes() {
        if found.collections.contains(name) {
            let present = collection(database, name).list_indexes().await.map_err(unreadable)?;
            let present: Vec<IndexModel> = present.try_collect().await.map_err(unreadable)?;
            found.indexes.insert(name, present.into_iter().map(|index| index.keys).collect());
        }
    }
    found.counts = new_fields::count(database, partner_label).await?;
    Ok(found)
}

/// The refusal for a step that failed, with the remedy. `what` completes the sentence "could not …".
pub(super) fn could_not(what: &str, error: &MongoError) -> Refusal {
    let advice = match command_code(error) {
        Some(13) => "the user of mongodb.uri needs the role dbAdmin on this database for setup",
        Some(85 | 86) => "an index of the same name has other options: drop or rename it",
        _ => "see the server's log, then run setup again: it repeats no finished step",
    };
    Refusal::new(Exit::Database, format!("could not {what}: {}; {advice}", describe(error)))
}
