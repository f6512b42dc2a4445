//! The mark of the live database: an instance that leads in production leaves it, so that `obfuscate` is refused there
//! whatever the configuration of who asks. A copy that was restored elsewhere brings the mark along; it names the
//! members of the replica set on which it was made.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::STATE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

const MARK: &str = "production";

/// Marks the database.
///
/// # Errors
/// [`Failure::Read`], [`Failure::Write`].
pub async fn mark(database: &Database) -> Result<(), Failure> {
    let members: Vec<Bson> = members(database).await?.into_iter().map(Bson::from).collect();
    let marked = doc! { "$addToSet": { "members": { "$each": members } } };
    let state = collection(database, STATE);
    with_deadline(state.update_one(doc! { "_id": MARK }, marked).upsert(true)).await.map_err(Failure::Write)?;
    Ok(())
}

/// True when an instance has ever led here in production.
///
/// # Errors
/// [`Failure::Read`].
pub async fn is_marked(database: &Database) -> Result<bool, Failure> {
    let mark =
        with_deadline(collection(database, STATE).find_one(doc! { "_id": MARK })).await.map_err(Failure::Read)?;
    let Some(mark) = mark else { return Ok(false) };
    let members = members(database).await?;
    Ok(texts(&mark, "members").any(|member| members.contains(&member)))
}

async fn members(database: &Database) -> Result<BTreeSet<String>, Failure> {
    let hello = with_deadline(database.run_command(doc! { "hello": 1 })).await.map_err(Failure::Read)?;
    let own = hello.get_str("me").ok().map(ToOwned::to_owned);
    Ok(texts(&hello, "hosts").chain(own).collect())
}

fn texts(document: &Document, field: &str) -> impl Iterator<Item = String> {
    let texts = document.get_array(field).map(Vec::as_slice).unwrap_or_default();
    texts.iter().filter_map(Bson::as_str).map(ToOwned::to_owned)
}
