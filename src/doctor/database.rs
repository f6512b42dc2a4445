//! The checks of `doctor` in the database: the server, the user's privileges, collections, indexes, types of `_id`, the
//! validator, the clocks.

use std::collections::BTreeSet;

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::IndexModel;

use super::Check;
use crate::clock;
use crate::config::Environment;
use crate::context::Context;
use crate::counted::counted;
use crate::error::{Failure, command_code};
use crate::lease::StoredLease;
use crate::maintenance::other_ids;
use crate::model::OfferStatus;
use crate::model::names::OFFERS;
use crate::model::names::WatchedCollection;
use crate::model::other_id::OtherId;
use crate::model::time::is_ahead;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::refusal::Exit;
use crate::service::label_guard;
use crate::service::preflight::{self, Lacking, Server};
use crate::service::right_database;
use crate::setup::plan::{COLLECTIONS, index_name, indexes as wanted, same_keys};
use crate::source::scan;
use crate::target::{SEARCHED, meaning};
use crate::write::fence_document::StoredTicker;

/// The number of unusable documents in one collection at which counting ends.
const MANY: usize = 10_000;
const SETUP: &str = "run `stream-processor setup`; `setup --dry-run` shows what it would do";
/// The differences between the clocks, in milliseconds, from which the check is a warning and from which it fails.
const SKEW: [i64; 2] = [2_000, 60_000];

pub(super) async fn server(context: &Context) -> Check {
    match preflight::server(context).await {
        Ok(Server { version, set: Some(set) }) => Check::ok("server", format!("MongoDB {version}, replica set {set}")),
        Ok(Server { version, set: None }) => Check::ok("server", format!("MongoDB {version}, sharded cluster")),
        Err(refusal) => {
            debug_assert!(refusal.exit == Exit::Database, "nothing else is wrong with a server");
            let (found, remedy) = refusal.message.rsplit_once("; ").unwrap_or((&refusal.message, "see the README"));
            Check::failed("server", found, remedy)
        }
    }
}

/// The name of the database, and whether it is one of the platform or of this service.
pub(super) async fn name(context: &Context) -> Check {
    match right_database::check(&context.database).await {
        Ok(()) => Check::ok("database", format!("{} is in use", context.database.name())),
        Err(refusal) => {
            let (found, remedy) = refusal.message.rsplit_once("; ").unwrap_or((&refusal.message, ""));
            Check::failed("database", found, remedy)
        }
    }
}

/// One check for each missing privilege; a single check when none is missing. Without some of them the service works, but
/// tells less.
pub(super) async fn privileges(context: &Context) -> Vec<Check> {
    let (needed, wanted) =
        (preflight::needed(context.settings.ticker.enabled), preflight::wanted(context.settings.signals.enabled));
    let database = &context.database;
    let lacking = match futures::try_join!(preflight::lacking(database, needed), preflight::lacking(database, wanted)) {
        Ok(lacking) => lacking,
        Err(refusal) => return vec![Check::of_refusal("privileges", &refusal)],
    };
    let one = |place: &str, action: &str| {
        let place = if place.is_empty() { "the whole database" } else { place };
        let remedy = format!("grant `{action}` on {place} to the role of the user, see deploy/mongodb-role.js");
        (format!("{action} on {place} is not allowed"), remedy)
    };
    let each = |lacking: &[Lacking]| -> Vec<(String, String)> {
        lacking.iter().flat_map(|lack| lack.actions.iter().map(|action| one(lack.collection, action))).collect()
    };
    let failed = each(&lacking.0).into_iter().map(|(found, remedy)| Check::failed("privileges", found, remedy));
    let told = each(&lacking.1).into_iter().map(|(found, remedy)| Check::warning("privileges", found, remedy));
    let checks: Vec<Check> = failed.chain(told).collect();
    match (checks.is_empty(), has_user(context).await) {
        (false, _) => checks,
        (true, Ok(true)) => vec![Check::ok("privileges", "all present")],
        (true, Ok(false)) if context.settings.environment == Environment::Production => vec![Check::warning(
            "privileges",
            "the server has no access control: every client may do everything",
            "turn on access control, and give the service a user with the role of deploy/mongodb-role.js",
        )],
        (true, Ok(false)) => vec![Check::ok("privileges", "the server has no access control")],
        (true, Err(failure)) => vec![Check::unknown("privileges", &failure)],
    }
}

async fn has_user(context: &Context) -> Result<bool, Failure> {
    let status =
        with_deadline(context.database.run_command(doc! { "connectionStatus": 1 })).await.map_err(Failure::Read)?;
    let users = status.get_document("authInfo").and_then(|info| info.get_array("authenticatedUsers"));
    Ok(users.is_ok_and(|users| !users.is_empty()))
}

pub(super) async fn collections(context: &Context) -> Vec<Check> {
    let names = match names(context).await {
        Ok(names) => names,
        Err(failure) => return vec![Check::unknown("collections", &failure)],
    };
    let mut checks = Vec::new();
    let own: Vec<&str> = COLLECTIONS.into_iter().filter(|name| !names.contains(*name)).collect();
    if !own.is_empty() {
        checks.push(Check::warning("collections", format!("missing: {}", own.join(", ")), SETUP));
    }
    // The collections of anonymised documents are left out: they do not exist before the first anonymisation.
    let sources = [
        WatchedCollection::Recruiters,
        WatchedCollection::Users,
        WatchedCollection::Cfas,
        WatchedCollection::RomeSheets,
    ];
    let missing: Vec<&str> =
        sources.map(WatchedCollection::name).into_iter().filter(|name| !names.contains(*name)).collect();
    if !missing.is_empty() {
        checks.push(Check::warning(
            "collections",
            format!("the applications' collections {} are missing", missing.join(", ")),
            "check that mongodb.database is the right one",
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok("collections", "all present"));
    }
    checks
}

async fn names(context: &Context) -> Result<BTreeSet<String>, Failure> {
    // With `authorizedCollections`, every user may list the collections that the user may read.
    let command = doc! {
        "listCollections": 1, "nameOnly": true, "authorizedCollections": true, "cursor": { "batchSize": 100_000 },
    };
    let reply = with_deadline(context.database.run_command(command)).await.map_err(Failure::Read)?;
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let batch = batch.map_err(|_| Failure::Reply("cursor.firstBatch"))?;
    let name = |collection: &Bson| Some(collection.as_document()?.get_str("name").ok()?.to_owned());
    Ok(batch.iter().filter_map(name).collect())
}

/// The label of the offers that stand for our jobs (spec 09, "Label").
pub(super) async fn label(context: &Context) -> Check {
    let configured = context.settings.target.partner_label.as_str();
    match label_guard::sample(&context.database).await {
        Ok(labels) => match label_guard::other(&labels, configured) {
            Some(other) => {
                let [found, remedy] = label_guard::complaint(&other, configured);
                Check::failed("label", found, remedy)
            }
            None if labels.is_empty() => Check::ok("label", "no offer of our jobs stands yet"),
            None => Check::ok("label", format!("the offers of our jobs stand under {configured:?}")),
        },
        Err(failure) => Check::unknown("label", &failure),
    }
}

pub(super) async fn indexes(context: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Err(refusal) = preflight::unique_indexes(&context.database, &context.settings.target.partner_label).await {
        checks.push(Check::of_refusal("indexes", &refusal));
    }
    for (collection, wanted) in wanted() {
        match present(context, collection).await {
            // A missing collection lacks no index. `setup` or the service creates its own collections with indexes.
            Ok(None) => {}
            Ok(Some(present)) => {
                let missing: Vec<String> = wanted
                    .iter()
                    .filter(|keys| !present.iter().any(|present| same_keys(present, keys)))
                    .map(index_name)
                    .collect();
                if !missing.is_empty() {
                    let found = format!("{collection} lacks {}", missing.join(", "));
                    checks.push(Check::warning("indexes", found, SETUP));
                }
            }
            Err(failure) => checks.push(Check::unknown("indexes", &failure)),
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok("indexes", "all present, and none in which offers collide"));
    }
    checks
}

/// One check for each collection with unusable documents, whose `_id` is no ObjectId. The check tells their number and
/// an example.
pub(super) async fn ids(context: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    for collection in other_ids::COLLECTIONS {
        match others(context, collection).await {
            Ok((0, _)) => {}
            Ok((count, first)) => {
                let many = if count >= MANY { "at least " } else { "" };
                let name = collection.name();
                let documents = counted(count, "document", "documents");
                let found = format!("{many}{documents} of {name} with an `_id` that is no ObjectId, such as {first}");
                let remedy = "insert them again with an ObjectId: until then the service cannot project them";
                checks.push(Check::failed("ids", found, remedy));
            }
            Err(failure) => checks.push(Check::unknown("ids", &failure)),
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok("ids", "all documents that are read have an ObjectId as `_id`"));
    }
    checks
}

/// The number of unusable documents of a collection, counted up to [`MANY`], and the `_id` of the first as text.
async fn others(context: &Context, collection: WatchedCollection) -> Result<(usize, String), Failure> {
    let filter = other_ids::filter(collection, &context.settings.target.partner_label);
    let (mut count, mut first, mut after) = (0, String::new(), None);
    while count < MANY {
        let others = scan::others_after(&context.database, collection.name(), &filter, after.as_ref()).await?;
        if count == 0 {
            first = others.first().map(OtherId::text).unwrap_or_default();
        }
        count += others.len();
        after = others.into_iter().last();
        if after.is_none() {
            break;
        }
    }
    Ok((count, first))
}

/// The keys of the indexes of a collection; `None` when the collection does not exist.
pub(super) async fn present(context: &Context, name: &str) -> Result<Option<Vec<Document>>, Failure> {
    match with_deadline(collection(&context.database, name).list_indexes()).await {
        Ok(indexes) => {
            let indexes: Vec<IndexModel> = with_deadline(indexes.try_collect()).await.map_err(Failure::Read)?;
            Ok(Some(indexes.into_iter().map(|index| index.keys).collect()))
        }
        Err(error) if command_code(&error) == Some(26) => Ok(None),
        Err(error) => Err(Failure::Read(error)),
    }
}

/// What the target's validator leaves out of offers, and the searches of offers without an index (spec 09, "The target's
/// schema decides").
pub(super) async fn validator(context: &Context) -> Vec<Check> {
    if let Err(failure) = context.target.refresh(&context.database).await {
        return vec![Check::unknown("validator", &failure)];
    }
    let state = context.target.state();
    if state.is_hidden {
        let found = format!("unknown: the user may not read the validator and the indexes of {OFFERS}");
        let remedy = format!("grant `listCollections` on the database and `listIndexes` on {OFFERS} to see them");
        return vec![Check::warning("validator", found, remedy)];
    }
    let (omitted, managed_by) = (state.schema.omitted(), state.schema.managed_by().name());
    let waiting = state.schema.status(OfferStatus::Pending).as_str();
    let action = match state.action {
        Some(action) => format!("action {action}: {}", meaning(action)),
        None => "no validator is in force: the server accepts every offer".to_owned(),
    };
    let written =
        format!("managed_by is written as {managed_by}, and the offer of a job that waits is {waiting}; {action}");
    let mut checks = vec![if omitted.is_empty() {
        Check::ok("validator", format!("{OFFERS} accepts the fields that the service writes; {written}"))
    } else {
        let names = omitted.join(", ");
        let found = format!("{OFFERS} does not accept {names}, so offers are written without these fields; {written}");
        Check::warning("validator", found, SETUP)
    }];
    for field in SEARCHED.iter().filter(|field| state.unindexed.contains(&field.name)) {
        let found = format!("{OFFERS} has no index that begins with {}; slower: {}", field.name, field.slower);
        checks.push(Check::warning("indexes", found, format!("create an index that begins with {}", field.name)));
    }
    checks
}

/// Checks the stored times and the difference between the clocks. Decisions go by the server's clock; the clock of this
/// machine is only for times that are shown.
pub(super) async fn clock(context: &Context) -> Check {
    let asked = clock::now();
    let hello = with_deadline(context.database.run_command(doc! { "hello": 1 })).await.map_err(Failure::Read);
    let answered_at = clock::now();
    let there = match hello.map(|hello| hello.get_datetime("localTime").copied()) {
        Ok(Ok(there)) => there,
        Ok(Err(_)) => {
            return Check::warning("clock", "unknown: the server did not return its time", "check its clock");
        }
        Err(failure) => return Check::unknown("clock", &failure),
    };
    // A clock that was ahead may be right by now, but the times that it stored still do harm.
    match stored_ahead(context, there).await {
        Ok(None) => {}
        Ok(Some(found)) => {
            let remedy = "a clock was ahead: synchronise the clocks with NTP; the leader corrects the stored time";
            return Check::failed("clock", found, remedy);
        }
        Err(failure) => return Check::unknown("clock", &failure),
    }
    let skew = skew(asked, there, answered_at);
    let found = format!("this machine and the server are {:.1} s apart", skew as f64 / 1_000.0);
    let remedy = "synchronise the clocks of this machine and of the servers with NTP";
    match SKEW {
        [_, most] if skew >= most => Check::failed("clock", found, remedy),
        [some, _] if skew >= some => Check::warning("clock", found, remedy),
        _ => Check::ok("clock", found),
    }
}

/// A sentence about a stored time that lies too far ahead. Until such a time comes, the time-based jobs would not run,
/// or no instance could take the lease. `None` when all is well.
async fn stored_ahead(context: &Context, now: DateTime) -> Result<Option<String>, Failure> {
    let through = StoredTicker::read(&context.database).await?.through;
    let text = |time: DateTime| time.try_to_rfc3339_string().unwrap_or_default();
    let ahead = |time: Option<DateTime>| time.filter(|time| is_ahead(*time, now)).map(text);
    if let Some(time) = ahead(through.into_values().max()) {
        return Ok(Some(format!("occurrences of jobs are recorded up to {time}, which is in the future")));
    }
    let lease = StoredLease::read(&context.database).await?;
    // The longest lease is one hour, so a lease ends an hour from now at the latest.
    let hour = DateTime::from_millis(now.timestamp_millis().saturating_add(3_600_000));
    let held = lease.and_then(|lease| lease.expires_at).filter(|time| is_ahead(*time, hour));
    Ok(held.map(|time| format!("the lease expires at {}, later than any lease can", text(time))))
}

/// The difference between the clocks in milliseconds, without the part that the time of the answer explains. `there` is
/// the server's time.
fn skew(asked: DateTime, there: DateTime, answered_at: DateTime) -> i64 {
    let [asked, there, answered_at] = [asked, there, answered_at].map(DateTime::timestamp_millis);
    (asked - there).max(there - answered_at).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_skew() {
        let at = DateTime::from_millis;
        assert_eq!(skew(at(1_000), at(1_500), at(4_000)), 0);
        assert_eq!(skew(at(1_000), at(7_000), at(4_000)), 3_000);
        assert_eq!(skew(at(1_000), at(400), at(4_000)), 600);
    }
}
