//! The statements of an `update` command. Each is idempotent, so that a command that may or
//! may not have been applied is sent again as it is (spec 03, "Writing").

use bson::raw::{RawArrayBuf, cstr};
use bson::{DateTime, RawDocument, RawDocumentBuf, oid::ObjectId, rawdoc};

use super::create::Creation;
use crate::model::{Offer, OfferStatus};
use crate::project::diff::Change;
use crate::project::{ON_INSERT, USER_DEACTIVATED};

/// Who changed a status, as history entries name it (spec 02).
pub const GRANTED_BY: &str = "stream-processor";

/// One statement, and the document that it is about.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The document, where its `_id` is an ObjectId.
    pub id: Option<ObjectId>,
    /// `{q, u, upsert?, multi?}`, see the MongoDB manual, "update (database command)".
    pub body: RawDocumentBuf,
}

/// The statement that brings an offer to its projection; `None` when it stands already. `unless_newer`: it
/// does nothing to an offer that has become newer than the projection since it was read (spec 04).
#[must_use]
pub fn of_change(offer: &Offer, change: &Change, unless_newer: bool) -> Option<Statement> {
    // By `_id` only, which comes from a job: an offer that the old worker stored under another
    // label is taken over, not duplicated.
    let mut filter = rawdoc! { "_id": offer.id };
    let latest = offer.fields.get_datetime("updated_at").ok().filter(|_| unless_newer);
    if let (Some(latest), Change::Update { is_newer: false, .. }) = (latest, change) {
        filter.append(cstr!("updated_at"), not_later_than(latest));
    }
    let body = match (change, latest) {
        (Change::Nothing, _) => return None,
        (Change::Create, Some(latest)) => {
            let update = rawdoc! { "$replaceWith": created_unless_newer(offer, latest) };
            rawdoc! { "q": filter, "u": [update], "upsert": true }
        }
        (Change::Create, None) => {
            let update = rawdoc! { "$set": offer.fields.clone(), "$setOnInsert": ON_INSERT.clone() };
            rawdoc! { "q": filter, "u": update, "upsert": true }
        }
        (Change::Update { fields, status_changes: false, .. }, _) => {
            rawdoc! { "q": filter, "u": { "$set": fields.clone() } }
        }
        (Change::Update { fields, status_changes: true, .. }, _) => {
            let change = &offer.status_change;
            let mut set = literals(fields);
            set.append(cstr!("offer_status_history"), history(offer.status, &change.reason, change.date));
            rawdoc! { "q": filter, "u": [{ "$set": set }] }
        }
    };
    Some(Statement { id: Some(offer.id), body })
}

/// An offer as it is created, whole.
#[must_use]
pub fn created(offer: &Offer) -> Creation {
    let mut document = rawdoc! { "_id": offer.id };
    for (name, value) in offer.fields.iter().chain(ON_INSERT.iter()).flatten() {
        document.append(name, value);
    }
    Creation { id: offer.id, document }
}

/// The offer, unless somebody else has created a newer one since there was none. An upsert whose filter
/// passed over that one would collide with it.
fn created_unless_newer(offer: &Offer, projected: DateTime) -> RawDocumentBuf {
    let is_newer = rawdoc! { "$and": [
        { "$eq": [{ "$type": "$updated_at" }, "date"] },
        { "$gt": ["$updated_at", projected] },
    ] };
    let created = rawdoc! { "$mergeObjects": [
        { "_id": offer.id }, literals(&ON_INSERT), "$$ROOT", literals(&offer.fields),
    ] };
    rawdoc! { "$cond": [is_newer, "$$ROOT", created] }
}

/// Null and missing are not later, nor is what is no date.
fn not_later_than(date: DateTime) -> RawDocumentBuf {
    rawdoc! { "$not": { "$gt": date } }
}

/// A job is gone: its offer becomes `Cancelled` (spec 02, "Jobs that disappear"); in `dual-write` unless the
/// offer is later than `unless_later_than` (spec 04).
#[must_use]
pub fn cancel_removed(
    offer: ObjectId,
    partner_label: &str,
    date: DateTime,
    unless_later_than: Option<DateTime>,
) -> Statement {
    cancel(offer, partner_label, ("removed from recruiter", date), unless_later_than)
}

/// The user who manages the offer is deactivated, and that cancels it (spec 03, "Reactions"); in `dual-write`
/// unless the offer is later.
#[must_use]
pub fn cancel_of_user(
    offer: ObjectId,
    partner_label: &str,
    date: DateTime,
    unless_later_than: Option<DateTime>,
) -> Statement {
    cancel(offer, partner_label, (USER_DEACTIVATED, date), unless_later_than)
}

fn cancel(
    offer: ObjectId,
    partner_label: &str,
    (reason, date): (&str, DateTime),
    unless_later_than: Option<DateTime>,
) -> Statement {
    let cancelled = OfferStatus::Cancelled;
    let set = rawdoc! {
        "offer_status": cancelled.as_str(),
        "offer_status_history": history(cancelled, reason, date),
    };
    let mut filter =
        rawdoc! { "_id": offer, "partner_label": partner_label, "offer_status": { "$ne": cancelled.as_str() } };
    if let Some(latest) = unless_later_than {
        filter.append(cstr!("updated_at"), not_later_than(latest));
    }
    Statement { id: Some(offer), body: rawdoc! { "q": filter, "u": [{ "$set": set }] } }
}

/// The history with one more entry, unless its last entry has this status already.
#[must_use]
pub fn history(status: OfferStatus, reason: &str, date: DateTime) -> RawDocumentBuf {
    let entry = rawdoc! { "$literal": {
        "status": status.as_str(), "reason": reason, "date": date, "granted_by": GRANTED_BY,
    } };
    let mut longer = RawArrayBuf::new();
    longer.push("$$history");
    let mut entries = RawArrayBuf::new();
    entries.push(&entry);
    longer.push(&entries);
    rawdoc! { "$let": {
        // Old or dirty offers may lack the list.
        "vars": { "history": { "$cond": [{ "$isArray": "$offer_status_history" }, "$offer_status_history", []] } },
        "in": { "$cond": [
            { "$eq": [{ "$last": "$$history.status" }, status.as_str()] },
            "$$history",
            { "$concatArrays": longer },
        ] },
    } }
}

/// The fields as values of an aggregation stage, where a bare text could be read as an expression.
#[must_use]
pub fn literals(fields: &RawDocument) -> RawDocumentBuf {
    let mut literals = RawDocumentBuf::new();
    for (name, value) in fields.iter().flatten() {
        let mut literal = RawDocumentBuf::new();
        literal.append(cstr!("$literal"), value);
        literals.append(name, &literal);
    }
    literals
}
