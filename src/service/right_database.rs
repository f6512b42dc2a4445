//! Refuses a database that is not the platform's: one without `recruiters` and without documents of this service. A wrong
//! name would otherwise look like an installation in which all is well.

use bson::doc;
use mongodb::Database;
use mongodb::error::Error as MongoError;

use crate::error::{Failure, command_code};
use crate::model::names::{STATE, WatchedCollection};
use crate::mongo::deadline::with_deadline;
use crate::refusal::{Exit, Refusal};

/// The server's code `Unauthorized`.
const UNAUTHORIZED: i32 = 13;
/// The databases of MongoDB itself.
const OWN: [&str; 3] = ["admin", "config", "local"];
/// The number of other databases that are searched for `recruiters`.
const SEARCHED: usize = 100;

/// Checks that the database has `recruiters`, or that this service has worked in it. A collection that was dropped since is
/// another matter: readiness tells it.
///
/// # Errors
/// A [`Refusal`] that names the databases with `recruiters`, as far as the user may list them.
pub(crate) async fn check(database: &Database) -> Result<(), Refusal> {
    match is_known(database).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        // Who may not list collections is told so by the check of the privileges.
        Err(error) if command_code(&error) == Some(UNAUTHORIZED) => return Ok(()),
        Err(error) => return Err(Failure::Read(error).into()),
    }
    // Without the privilege to list databases there is nothing to name.
    let others = with_recruiters(database).await.unwrap_or_default();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!(" (these databases have it: {})", others.join(", ")),
    };
    let message = format!(
        "the database `{}` has no collection `recruiters`{others}; correct mongodb.database, or give --allow-empty for a \
         new installation",
        database.name()
    );
    Err(Refusal::new(Exit::Database, message))
}

async fn is_known(database: &Database) -> Result<bool, MongoError> {
    let names = doc! { "name": { "$in": [WatchedCollection::Recruiters.name(), STATE] } };
    let listed = with_deadline(database.list_collection_names().filter(names)).await?;
    Ok(!listed.is_empty())
}

async fn with_recruiters(database: &Database) -> Result<Vec<String>, MongoError> {
    let client = database.client();
    let names = with_deadline(client.list_database_names().authorized_databases(true)).await?;
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !OWN.contains(&name.as_str())).take(SEARCHED) {
        let named = doc! { "name": WatchedCollection::Recruiters.name() };
        // A database whose collections may not be listed is not named.
        let listed = with_deadline(client.database(&name).list_collection_names().filter(named)).await;
        if listed.is_ok_and(|listed| !listed.is_empty()) {
            found.push(name);
        }
    }
    Ok(found)
}
