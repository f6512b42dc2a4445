//! The checks of the server, the privileges and the target before anything is written. Each fault is one sentence with
//! the remedy. The checks only read.

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::error::{Error as MongoError, ErrorKind};
use mongodb::{Database, IndexModel};
use resume_tokens::{HISTORY_COLLECTION, OLD_WORKER_COLLECTION};

use crate::context::Context;
use crate::error::{command_code, describe};
use crate::model::names::COMMANDS;
use crate::model::names::DEAD_LETTERS;
use crate::model::names::GAPS;
use crate::model::names::JOB_RUNS;
use crate::model::names::LINKS;
use crate::model::names::OFFERS;
use crate::model::names::OUTBOX;
use crate::model::names::ROLES;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::model::names::{
    APPLICATIONS, COURSES, EVENTS, FOREIGN_WRITES, INSTANCES, SIGNALS, SIRET_CACHE, UNSUBSCRIBED,
};
use crate::mongo::first_contact;
use crate::mongo::reads::collection;
use crate::refusal::Exit;
use crate::refusal::Refusal;

/// The first major version of MongoDB with all features that the service uses (wall times in events, `$$NOW` in
/// updates…).
const OLDEST_VERSION: i64 = 6;

/// Checks the privileges and the target. `with_jobs` adds the privileges of the time-based jobs.
///
/// # Errors
/// A [`Refusal`] with the first fault.
pub async fn check(database: &Database, partner_label: &str, with_jobs: bool) -> Result<(), Refusal> {
    match lacking(database, needed(with_jobs)).await? {
        lacking if lacking.is_empty() => {}
        lacking => return Err(refuse_lacking(database, &lacking)),
    }
    unique_indexes(database, partner_label).await
}

/// The MongoDB deployment behind the connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The version, such as `7.0.12`.
    pub version: String,
    /// The name of the replica set; `None` for a router of a sharded cluster.
    pub set: Option<String>,
}

/// Checks the server only, not the privileges and not the target. A fault of the connection string that does not pass
/// is told at once, without the driver's patience.
///
/// # Errors
/// A [`Refusal`] when the server does not answer, is no replica set, or is too old.
pub async fn server(context: &Context) -> Result<Server, Refusal> {
    let database = &context.database;
    let hello = tokio::select! {
        hello = command(database, doc! { "hello": 1 }) => hello?,
        fault = first_contact::fault(&context.settings.mongodb.uri) => {
            return Err(refuse(format!("MongoDB cannot be used: {fault}")));
        }
    };
    // A router of a sharded cluster belongs to no replica set, but its shards are replica sets.
    let is_router = hello.get_str("msg").is_ok_and(|message| message == "isdbgrid");
    if !is_router && hello.get_str("setName").is_err() {
        return Err(refuse(
            "the server is not a replica set, and change streams need one: start mongod with --replSet and run \
             rs.initiate(), or correct mongodb.uri",
        ));
    }
    let build = command(database, doc! { "buildInfo": 1 }).await?;
    let version = build.get_str("version").unwrap_or("of an unknown version");
    if is_too_old(version) {
        return Err(refuse(format!(
            "the server is MongoDB {version}; {OLDEST_VERSION}.0 or later is needed: upgrade it"
        )));
    }
    Ok(Server { version: version.to_owned(), set: hello.get_str("setName").ok().map(str::to_owned) })
}

fn is_too_old(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<i64>().ok());
    major.is_none_or(|major| major < OLDEST_VERSION)
}

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::new(Exit::Database, message)
}

async fn command(database: &Database, command: Document) -> Result<Document, Refusal> {
    database.run_command(command).await.map_err(|error| connection_refusal(&error))
}

fn connection_refusal(error: &MongoError) -> Refusal {
    let advice = match &*error.kind {
        ErrorKind::Authentication { .. } => "check the user, the password and authSource in mongodb.uri",
        _ if command_code(error) == Some(18) => "check the user, the password and authSource in mongodb.uri",
        ErrorKind::ServerSelection { .. } | ErrorKind::Io(_) => {
            "check that MongoDB runs, and check mongodb.uri, the network and the TLS options"
        }
        _ => "check mongodb.uri and the server's log",
    };
    refuse(format!("MongoDB cannot be used: {}; {advice}", describe(error)))
}

/// The privileges that the service needs: a collection, or an empty name for the whole database, with MongoDB's names
/// of the privilege actions. `with_jobs` adds the privileges of the time-based jobs.
#[must_use]
pub fn needed(with_jobs: bool) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut needed: Vec<(&str, Vec<&str>)> =
        WatchedCollection::ALL.into_iter().map(|watched| (watched.name(), vec!["find"])).collect();
    needed.push((OFFERS, vec!["find", "insert", "update", "listIndexes"]));
    needed.push((LINKS, vec!["find", "insert", "update", "remove", "createIndex"]));
    needed.push((HISTORY_COLLECTION, vec!["find", "insert", "update", "remove", "createIndex"]));
    needed.push((WatchedCollection::Canary.name(), vec!["insert", "update"]));
    for own in [DEAD_LETTERS, STATE, COMMANDS] {
        needed.push((own, vec!["find", "insert", "update", "remove"]));
    }
    for own in [GAPS, OLD_WORKER_COLLECTION] {
        needed.push((own, vec!["find", "insert", "update"]));
    }
    needed.push(("", vec!["changeStream", "find", "listCollections"]));
    if with_jobs {
        needed.extend(needed_for_jobs());
    }
    needed
}

/// The additional privileges of the time-based jobs (spec 05). The time-based jobs read other collections of the
/// platform, change recruiters together with their offers, and move anonymised users and recruiters to other
/// collections.
fn needed_for_jobs() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut needed = vec![
        (JOB_RUNS, vec!["find", "insert", "update", "remove", "createIndex"]),
        (OUTBOX, vec!["find", "insert", "update", "createIndex"]),
        (ROLES, vec!["find", "remove"]),
        (WatchedCollection::Recruiters.name(), vec!["insert", "update", "remove"]),
        (WatchedCollection::Users.name(), vec!["remove"]),
        (WatchedCollection::AnonymizedRecruiters.name(), vec!["insert", "update"]),
        (WatchedCollection::AnonymizedUsers.name(), vec!["insert", "update"]),
    ];
    needed.extend([SIRET_CACHE, APPLICATIONS, COURSES, UNSUBSCRIBED].map(|asked| (asked, vec!["find"])));
    needed
}

/// The privileges without which the service works, but keeps no timeline, gives no signs of life and counts no foreign
/// writes: the role of 1.0.0 has none of them. `with_signals` adds those of `signals.enabled`.
#[must_use]
pub fn wanted(with_signals: bool) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut wanted = [EVENTS, INSTANCES, FOREIGN_WRITES].map(|own| (own, vec!["insert", "update", "remove"])).to_vec();
    wanted.extend(with_signals.then(|| (SIGNALS, vec!["update", "remove"])));
    wanted
}

/// The missing privileges on one collection, or on the whole database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The collection; empty for the whole database.
    pub collection: &'static str,
    /// The privilege actions that the user may not do, such as `find`.
    pub actions: Vec<&'static str>,
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.collection.is_empty() { "the whole database" } else { self.collection };
        write!(formatter, "{} on {place}", self.actions.join(", "))
    }
}

/// The privileges among `asked` that the user does not have; empty where the server has no access control.
///
/// # Errors
/// A [`Refusal`] when the server does not answer, or when it requires a user and the connection string names none.
pub async fn lacking(
    database: &Database,
    asked: Vec<(&'static str, Vec<&'static str>)>,
) -> Result<Vec<Lacking>, Refusal> {
    let status = command(database, doc! { "connectionStatus": 1, "showPrivileges": true }).await?;
    let info = status.get_document("authInfo").cloned().unwrap_or_default();
    let documents = |name: &str| -> Vec<Document> {
        let list = info.get_array(name).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Bson::as_document).cloned().collect()
    };
    if documents("authenticatedUsers").is_empty() {
        // Without a user there are no privileges to list. A command tells whether everything is allowed, or nothing.
        return command(database, doc! { "listCollections": 1, "nameOnly": true })
            .await
            .map(|_| Vec::new())
            .map_err(|_| refuse("the server requires a user: add user:password@ and authSource to mongodb.uri"));
    }
    let granted = documents("authenticatedUserPrivileges");
    let missing = |(collection, mut actions): (&'static str, Vec<&'static str>)| {
        actions.retain(|action| !allows(&granted, database.name(), collection, action));
        (!actions.is_empty()).then_some(Lacking { collection, actions })
    };
    Ok(asked.into_iter().filter_map(missing).collect())
}

fn refuse_lacking(database: &Database, lacking: &[Lacking]) -> Refusal {
    let lacking: Vec<String> = lacking.iter().map(Lacking::to_string).collect();
    refuse(format!(
        "the user of mongodb.uri lacks privileges in `{}`: {}; grant them to its role (deploy/mongodb-role.js)",
        database.name(),
        lacking.join("; ")
    ))
}

/// True when one of the granted privileges covers the action. An empty name of a database or a collection covers all of
/// them (MongoDB manual, "Resource Document").
fn allows(granted: &[Document], database: &str, collection: &str, action: &str) -> bool {
    granted.iter().any(|privilege| {
        let resource = privilege.get_document("resource").cloned().unwrap_or_default();
        let any = resource.get_bool("anyResource").unwrap_or_default();
        let in_database = resource.get_str("db").is_ok_and(|db| db.is_empty() || db == database);
        let in_collection = resource.get_str("collection").is_ok_and(|name| name.is_empty() || name == collection);
        let actions = privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default();
        let named =
            actions.iter().any(|named| matches!(named.as_str(), Some(name) if name == action || name == "anyAction"));
        (any || (in_database && in_collection)) && named
    })
}

/// Checks that the target has no unique index in which two of our offers may collide: such an index would refuse offers
/// for ever.
///
/// # Errors
/// A [`Refusal`] that names the index, or when the indexes cannot be read.
pub async fn unique_indexes(database: &Database, partner_label: &str) -> Result<(), Refusal> {
    let indexes = match collection(database, OFFERS).list_indexes().await {
        Ok(indexes) => indexes.try_collect::<Vec<IndexModel>>().await,
        // `NamespaceNotFound`: the collection does not exist yet.
        Err(error) if command_code(&error) == Some(26) => return Ok(()),
        Err(error) => Err(error),
    };
    for index in indexes.map_err(|error| connection_refusal(&error))? {
        let options = index.options.unwrap_or_default();
        let distinguishes = |key: &String| ["_id", "partner_job_id", "lba_url"].contains(&key.as_str());
        let partial = options.partial_filter_expression.unwrap_or_default();
        let is_of_others = partial.get_str("partner_label").is_ok_and(|label| label != partner_label);
        if options.unique == Some(true) && !index.keys.keys().any(distinguishes) && !is_of_others {
            let name = options.name.unwrap_or_else(|| index.keys.to_string());
            return Err(refuse(format!(
                "`{OFFERS}` has the unique index `{name}`, in which two offers of one establishment collide: drop it, or \
                 restrict it to other partners with a partialFilterExpression on partner_label",
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_before_6_0_and_unreadable_versions_are_too_old() {
        for version in ["5.0.31", "4.4.0", "3.6.23", "unknown", ""] {
            assert!(is_too_old(version), "{version}");
        }
        for version in ["6.0.0", "6.0.5-rc1", "7.0.12", "8.2.0", "10.0.0"] {
            assert!(!is_too_old(version), "{version}");
        }
    }
}
