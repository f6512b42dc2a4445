//! The state of our offers, counted by the server in one pass: their statuses, the types of `managed_by`, the marks of
//! e-mails, and everybody who wrote into their history.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::super::{Check, CheckVerdict};
use super::Part;
use super::text::{date, json_date, plain};
use crate::context::Context;
use crate::error::Failure;
use crate::model::names::OFFERS;
use crate::model::offer::GRANTED_BY;
use crate::model::value;
use crate::mongo::deadline::while_server_works;
use crate::mongo::reads::collection;

/// The greatest number of statuses, of types and of writers that are told, the most frequent first.
const TOLD: i32 = 30;
/// The name that the platform's expiry job has in the history.
const EXPIRY: &str = "expireJobsPartners";
/// The writers of the history that spec 09 knows, each with what is to be done about it.
const WRITERS: [(&str, &str); 8] = [
    (EXPIRY, "nothing: the entry may go on, what it closes stays closed"),
    ("application.service", "nothing: it closes an offer at the 80th application, and that closing stands"),
    ("jobs.controller.v2", "nothing: people close their offers by a link in an e-mail, and that closing stands"),
    ("SERVEUR", "run no such script while both sides are compared; what it closed stays closed"),
    (GRANTED_BY, "nothing: these are entries of this service"),
    ("(an id)", PEOPLE),
    ("(an address)", PEOPLE),
    ("(none)", "nothing: entries without granted_by are the old worker's, and a projection may open such offers"),
];
const PEOPLE: &str = "nothing: these are people, and what they closed stays closed";
/// The statuses of offers that spec 09 names.
const STATUSES: [&str; 4] = ["Active", "Filled", "Cancelled", "Pending"];

/// A count with the last date that goes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    count: i64,
    last: Option<DateTime>,
}

/// The state of our offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    partner_label: String,
    statuses: BTreeMap<String, Seen>,
    types: BTreeMap<String, Seen>,
    writers: BTreeMap<String, Seen>,
}

/// Counts our offers.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn read(context: &Context) -> Result<Offers, Failure> {
    let label = &context.settings.target.partner_label;
    let comment = Bson::from(ObjectId::new());
    let offers = collection(&context.database, OFFERS);
    let asked = offers.aggregate(pipeline(label)).allow_disk_use(true).comment(comment.clone());
    let asked = asked.with_type::<RawDocumentBuf>();
    // There is no fixed time limit, because the pass is over all our offers.
    let asked = async { asked.await?.try_collect::<Vec<_>>().await };
    let found = while_server_works(context.database.client(), &comment, asked).await.map_err(Failure::Read)?;
    let mut read = Offers { partner_label: label.clone(), ..Offers::default() };
    if let Some(found) = found.first() {
        read.statuses = groups(found, "statuses");
        read.types = groups(found, "types");
        read.writers = groups(found, "writers");
    }
    Ok(read)
}

fn pipeline(label: &str) -> Vec<Document> {
    let most = [doc! { "$sort": { "count": -1 } }, doc! { "$limit": TOLD }];
    let counted = |key: Document, last: Bson| {
        doc! { "$group": { "_id": key, "count": { "$sum": 1_i64 }, "last": { "$max": last } } }
    };
    let branch = |first: Vec<Document>| [first, most.to_vec()].concat();
    let entry = "$offer_status_history";
    let entry_date = doc! { "$cond": [{ "$eq": [{ "$type": "$offer_status_history.date" }, "date"] }, "$offer_status_history.date", null] };
    let writers =
        vec![doc! { "$unwind": entry }, counted(shortened("$offer_status_history.granted_by"), entry_date.into())];
    let statuses = vec![counted(shortened("$offer_status"), Bson::Null)];
    let types = vec![counted(doc! { "$type": "$managed_by" }, Bson::Null)];
    let fields = doc! {
        "offer_status": 1, "managed_by": 1, "offer_status_history.granted_by": 1, "offer_status_history.date": 1,
    };
    vec![
        doc! { "$match": { "partner_label": label } },
        doc! { "$project": fields },
        doc! { "$facet": { "statuses": branch(statuses), "types": branch(types), "writers": branch(writers) } },
    ]
}

/// The text of a field, or its kind in brackets: the ids of many persons must not become many groups. The expressions
/// look at bytes, because a damaged text may be no UTF-8.
fn shortened(field: &str) -> Document {
    let is = |condition: Document, text: &str| doc! { "case": condition, "then": text };
    doc! { "$switch": {
        "branches": [
            is(doc! { "$in": [{ "$type": field }, ["missing", "null", "undefined"]] }, "(none)"),
            is(doc! { "$ne": [{ "$type": field }, "string"] }, "(no text)"),
            is(doc! { "$gte": [{ "$indexOfBytes": [field, "@"] }, 0] }, "(an address)"),
            is(doc! { "$eq": [{ "$strLenBytes": field }, 24] }, "(an id)"),
            is(doc! { "$gt": [{ "$strLenBytes": field }, 40] }, "(a text)"),
        ],
        "default": field,
    } }
}

fn groups(found: &RawDocument, name: &str) -> BTreeMap<String, Seen> {
    let mut groups: BTreeMap<String, Seen> = BTreeMap::new();
    for group in value::list(value::field(found, name)).into_iter().flatten().flatten() {
        let Some(group) = value::object(Some(group)) else { continue };
        let key = plain(value::text(value::field(group, "_id")).unwrap_or("(a text)"));
        let seen = groups.entry(key.to_owned()).or_default();
        seen.count += value::field(group, "count").and_then(|count| count.as_i64()).unwrap_or_default();
        seen.last = seen.last.max(value::field(group, "last").and_then(value::date));
    }
    groups
}

impl Offers {
    /// The date of the last closing by the platform's expiry job; `None` when there is none.
    pub(super) fn last_expiry(&self) -> Option<DateTime> {
        self.writers.get(EXPIRY).and_then(|seen| seen.last)
    }

    pub(super) fn parts(self) -> Vec<Part> {
        let counts = |seen: &BTreeMap<String, Seen>| {
            seen.iter().map(|(name, seen)| (name.clone(), seen.count)).collect::<BTreeMap<_, _>>()
        };
        let writers: BTreeMap<&str, Value> = self
            .writers
            .iter()
            .map(|(name, seen)| (name.as_str(), json!({ "entries": seen.count, "last": json_date(seen.last) })))
            .collect();
        vec![
            Part { name: "offer_status", checks: vec![self.told_statuses()], facts: json!(counts(&self.statuses)) },
            Part { name: "managed_by_types", checks: vec![self.told_types()], facts: json!(counts(&self.types)) },
            Part { name: "writers", facts: json!(writers), checks: self.told_writers() },
        ]
    }

    fn told_statuses(&self) -> Check {
        let label = &self.partner_label;
        if self.statuses.is_empty() {
            return Check::ok("offer_status", format!("no offer stands under {label:?}"));
        }
        let found = format!("offers under {label:?}: {}", listed(&self.statuses));
        if self.statuses.keys().all(|status| STATUSES.contains(&status.as_str())) {
            Check::ok("offer_status", found)
        } else {
            let remedy = "correct the offers whose status is none of Active, Filled, Cancelled, Pending: nothing reads \
                          them as open or closed";
            Check::warning("offer_status", found, remedy)
        }
    }

    fn told_types(&self) -> Check {
        let found = format!("types of managed_by: {}", listed(&self.types));
        let types = self.types.keys().filter(|name| !["null", "missing", "undefined"].contains(&name.as_str())).count();
        if types > 1 {
            let remedy = "look at `managed_by` of the first run below: it brings the offers of the other type to one";
            Check::warning("managed_by", found, remedy)
        } else if self.types.is_empty() {
            Check::ok("managed_by", "no offer stands yet")
        } else {
            Check::ok("managed_by", found)
        }
    }

    fn told_writers(&self) -> Vec<Check> {
        let told = |(name, seen): (&String, &Seen)| {
            let known = WRITERS.into_iter().find(|(writer, _)| writer == name);
            let entries = if seen.count == 1 { "entry" } else { "entries" };
            let found = format!("{name}: {} {entries} in the histories, the last one {}", seen.count, date(seen.last));
            let remedy = known.map_or(
                "find out which program this is: search the platform's code for this `granted_by`, and say when it may run",
                |(_, remedy)| remedy,
            );
            let verdict = if known.is_some() { CheckVerdict::Ok } else { CheckVerdict::Warning };
            Check { check: "writers", verdict, found, remedy: Some(remedy.to_owned()) }
        };
        let told: Vec<Check> = self.writers.iter().map(told).collect();
        if told.is_empty() {
            return vec![Check::ok("writers", "nobody has changed the status of an offer yet")];
        }
        told
    }
}

/// Each name with its count, such as `Active 12, Filled 3`.
fn listed(seen: &BTreeMap<String, Seen>) -> String {
    seen.iter().map(|(name, seen)| format!("{name} {}", seen.count)).collect::<Vec<_>>().join(", ")
}
