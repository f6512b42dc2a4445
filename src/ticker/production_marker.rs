//! The mark of the live database. A leader with `environment = "production"` sets it, so that `obfuscate` is refused in
//! this database, whatever the configuration of the process that gives the command. The mark names the members of its
//! replica set, because a copy of the database on another replica set has the mark too.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use mongodb::Database;

use crate::error::Failure;
use crate::model::names::STATE;
use crate::model::names::state_id::PRODUCTION;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// Marks the database with the current members of its replica set.
///
/// # Errors
/// [`Failure::Read`], [`Failure::Write`].
pub(crate) async fn mark(database: &Database) -> Result<(), Failure> {
    let members: Vec<Bson> = members(database).await?.into_iter().map(Bson::from).collect();
    let marked = doc! { "$addToSet": { "members": { "$each": members } } };
    let state = collection(database, STATE);
    with_deadline(state.update_one(doc! { "_id": PRODUCTION }, marked).upsert(true)).await.map_err(Failure::Write)?;
    Ok(())
}

/// True when an instance in production has ever been the leader on this replica set.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn is_marked(database: &Database) -> Result<bool, Failure> {
    let mark =
        with_deadline(collection(database, STATE).find_one(doc! { "_id": PRODUCTION })).await.map_err(Failure::Read)?;
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
