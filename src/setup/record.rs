//! The memory of `setup`: the document `setup` of `stream_processor_state` lists the changes that `setup` made, so that
//! `--down` takes back exactly these. The offers that had new fields before are remembered in a collection of their own
//! (see [`crate::setup::new_fields::remember`]). Each change is remembered before it is made, so a crash in between forgets
//! nothing.

use bson::{Bson, Document, doc};
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::STATE;
use crate::model::names::state_id::SETUP_MEMORY;
use crate::mongo::reads::collection;

/// The changes that `setup` made, or was about to make when it was interrupted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The `partner_label` of the offers that got the fields.
    pub partner_label: String,
    /// Collections that were created.
    pub collections: Vec<String>,
    /// Indexes that were created, each as the collection and the name of the index.
    pub indexes: Vec<(String, String)>,
    /// Fields that were added to the validator.
    pub allowed: Vec<String>,
    /// True once all offers that had new fields before `setup` are remembered.
    pub remembered: bool,
    /// True once `setup` began to add fields to offers.
    pub added: bool,
}

impl Memory {
    /// Reads the memory; `None` when `setup` has changed nothing yet.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn load(database: &Database) -> Result<Option<Self>, Failure> {
        let document = collection(database, STATE).find_one(mine()).await.map_err(Failure::Read)?;
        Ok(document.as_ref().map(Self::read))
    }

    fn read(document: &Document) -> Self {
        let list = |key: &str| document.get_array(key).map(Vec::as_slice).unwrap_or_default();
        let texts = |key: &str| list(key).iter().filter_map(Bson::as_str).map(ToOwned::to_owned).collect();
        let index = |index: &Bson| {
            let index = index.as_document()?;
            Some((index.get_str("collection").ok()?.to_owned(), index.get_str("name").ok()?.to_owned()))
        };
        Self {
            partner_label: document.get_str("partner_label").unwrap_or_default().to_owned(),
            collections: texts("collections"),
            indexes: list("indexes").iter().filter_map(index).collect(),
            allowed: texts("allowed"),
            remembered: document.get_bool("remembered").unwrap_or_default(),
            added: document.get_bool("added").unwrap_or_default(),
        }
    }
}

/// Adds to the memory: the items of `lists` are added to the stored lists, `flags` are set.
///
/// # Errors
/// [`Failure::Write`].
pub(super) async fn store(
    database: &Database,
    partner_label: &str,
    lists: Document,
    flags: Document,
) -> Result<(), Failure> {
    let mut update = doc! { "$setOnInsert": { "partner_label": partner_label } };
    if !lists.is_empty() {
        let each = lists.into_iter().map(|(key, list)| (key, Bson::from(doc! { "$each": list })));
        update.insert("$addToSet", each.collect::<Document>());
    }
    if !flags.is_empty() {
        update.insert("$set", flags);
    }
    collection(database, STATE).update_one(mine(), update).upsert(true).await.map_err(Failure::Write)?;
    Ok(())
}

/// Deletes the memory. The collection of remembered offers stays.
///
/// # Errors
/// [`Failure::Write`].
pub(super) async fn forget(database: &Database) -> Result<(), Failure> {
    collection(database, STATE).delete_one(mine()).await.map_err(Failure::Write)?;
    Ok(())
}

fn mine() -> Document {
    doc! { "_id": SETUP_MEMORY }
}
