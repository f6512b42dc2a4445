//! Reads what is there: collections, indexes, the validator, how many offers have the new fields, and
//! what an earlier `setup` did. Writes nothing.

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{Database, IndexModel};

use super::memory::Memory;
use super::plan::{Found, indexes};
use super::{could_not, fields};
use crate::app::Refusal;
use crate::fetch::raw;
use crate::source::OFFERS;

/// What is there, for offers with this label.
///
/// # Errors
/// A [`Refusal`] when something cannot be read.
pub async fn inspect(database: &Database, partner_label: &str) -> Result<Found, Refusal> {
    let unreadable = |error| could_not("list the collections and indexes", &error);
    let mut found = Found { memory: Memory::load(database).await?, ..Found::default() };
    found.collections = database.list_collection_names().await.map_err(unreadable)?.into_iter().collect();
    found.validator = validator(database).await?;
    for (collection, _) in indexes() {
        if found.collections.contains(collection) {
            let present = raw(database, collection).list_indexes().await.map_err(unreadable)?;
            let present: Vec<IndexModel> = present.try_collect().await.map_err(unreadable)?;
            found.indexes.insert(collection, present.into_iter().map(|index| index.keys).collect());
        }
    }
    found.counts = fields::count(database, partner_label).await?;
    Ok(found)
}

/// The validator of the target; empty where there is none.
///
/// # Errors
/// A [`Refusal`] when it cannot be read.
pub async fn validator(database: &Database) -> Result<Document, Refusal> {
    let unreadable = |error| could_not("read the validator", &error);
    let mut target = database.list_collections().filter(doc! { "name": OFFERS }).await.map_err(unreadable)?;
    let target = target.try_next().await.map_err(unreadable)?;
    Ok(target.and_then(|target| target.options.validator).unwrap_or_default())
}
