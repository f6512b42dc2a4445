//! The selection of recruiters for `backfill`: ids of a file, a date, a query. The query is stored with the command, so it
//! may not name a field that holds the contact of a person.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use clap::Args;

use super::time::TimeName;
use crate::context::Context;
use crate::error::Failure;
use crate::model::names::WatchedCollection;
use crate::mongo::deadline::with_deadline;
use crate::refusal::{Exit, Refusal};
use crate::source::scan;

/// The greatest number of ids in a file. They are stored with the command.
const IDS: usize = 10_000;
/// The fields of recruiters that a query may not name.
const CONTACT: [&str; 4] = ["email", "phone", "first_name", "last_name"];
/// The operators that a query may use.
const OPERATORS: [&str; 6] = ["$eq", "$in", "$gt", "$gte", "$lt", "$lte"];

/// Arguments that select recruiters. Several of them select what all of them select.
#[derive(Debug, Args)]
pub struct SelectionArguments {
    /// Only the recruiters of this file: one id in each line, at most 10000; `-` is the standard input.
    #[arg(long, value_name = "FILE", value_parser = ids)]
    pub ids: Option<Ids>,
    /// Only recruiters that changed since this time, by their dates and those of their jobs.
    #[arg(long, value_name = "TIME")]
    pub since: Option<TimeName>,
    /// Only recruiters that this query selects: JSON with equality, $in, $gt, $gte, $lt and $lte on indexed fields.
    #[arg(long, value_name = "JSON", value_parser = query)]
    pub filter: Option<Document>,
}

/// The ids of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids(Vec<ObjectId>);

impl SelectionArguments {
    /// Makes the filter; `None` when nothing is selected.
    ///
    /// # Errors
    /// A [`Refusal`] when no index serves the query, or when the server fails.
    pub(super) async fn filter(&self, context: &Context) -> Result<Option<Document>, Refusal> {
        let mut all = Vec::new();
        if let Some(Ids(ids)) = &self.ids {
            all.push(doc! { "_id": { "$in": ids } });
        }
        if let Some(since) = self.since {
            all.push(scan::changed_since(since.resolve(context).await?));
        }
        if let Some(query) = &self.filter {
            require_index(context, query).await?;
            all.push(query.clone());
        }
        Ok((!all.is_empty()).then(|| doc! { "$and": all }))
    }
}

/// Refuses a query for which the server would read every recruiter at each step.
async fn require_index(context: &Context, query: &Document) -> Result<(), Refusal> {
    let name = WatchedCollection::Recruiters.name();
    let explain = doc! { "explain": { "find": name, "filter": query }, "verbosity": "queryPlanner" };
    let plan = with_deadline(context.database.run_command(explain)).await.map_err(Failure::Read)?;
    let plan = plan.get_document("queryPlanner").and_then(|plan| plan.get_document("winningPlan"));
    if plan.is_ok_and(|plan| plan.to_string().contains("COLLSCAN")) {
        let message =
            format!("--filter: no index of `{name}` serves this query; name a field with which an index begins");
        return Err(Refusal::new(Exit::Usage, message));
    }
    Ok(())
}

/// Reads the ids of a file.
fn ids(path: &str) -> Result<Ids, String> {
    let text = if path == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| format!("cannot be read: {error}"))?;
    let mut ids = BTreeSet::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let id = ObjectId::parse_str(line.trim()).map_err(|_| format!("line {} is not an _id", index + 1))?;
        ids.insert(id);
    }
    match ids.len() {
        0 => Err("has no id".to_owned()),
        1..=IDS => Ok(Ids(ids.into_iter().collect())),
        more => Err(format!("has {more} ids, more than {IDS}: divide it")),
    }
}

/// Reads a query: a JSON document of fields with values, or with operators that an index serves.
fn query(text: &str) -> Result<Document, String> {
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON document: {error}"))?;
    let query = Document::try_from(json).map_err(|error| format!("not extended JSON: {error}"))?;
    if query.is_empty() {
        return Err("selects everything; leave it out".to_owned());
    }
    for (field, condition) in &query {
        if field.starts_with('$') {
            return Err(format!("{field} is not allowed: name fields"));
        }
        if field.split('.').any(|part| CONTACT.contains(&part)) {
            return Err(format!("{field} holds the contact of a person, and the query is stored with the command"));
        }
        let Bson::Document(operators) = condition else { continue };
        if let Some(other) = operators.keys().find(|operator| !OPERATORS.contains(&operator.as_str())) {
            return Err(format!("{field}: {other} is not allowed; allowed are {}", OPERATORS.join(", ")));
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_fields_and_simple_operators_only() {
        let since = query(r#"{ "updatedAt": { "$gte": { "$date": "2026-01-31T00:00:00Z" } }, "status": "Actif" }"#);
        let since = since.unwrap();
        assert!(since.get_document("updatedAt").unwrap().get_datetime("$gte").is_ok(), "{since}");
        for (wrong, told) in [
            ("{}", "everything"),
            ("[1]", "not a JSON document"),
            (r#"{ "$where": "1" }"#, "name fields"),
            (r#"{ "status": { "$regex": "A" } }"#, "$regex is not allowed"),
            (r#"{ "email": "somebody@example.com" }"#, "contact"),
        ] {
            let reason = query(wrong).unwrap_err();
            assert!(reason.contains(told) && !reason.contains('@'), "{wrong}: {reason}");
        }
    }

    #[test]
    fn a_file_has_one_id_in_each_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "65102a7347a6ef7545b05ef0\n\n 65102a7347a6ef7545b05ef1\n65102a7347a6ef7545b05ef0\n")
            .unwrap();
        assert_eq!(ids(path).unwrap().0.len(), 2);
        std::fs::write(path, "65102a7347a6ef7545b05ef0\nx\n").unwrap();
        assert_eq!(ids(path).unwrap_err(), "line 2 is not an _id");
        std::fs::write(path, "\n").unwrap();
        assert_eq!(ids(path).unwrap_err(), "has no id");
    }
}
