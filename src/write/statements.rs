//! The statements of an `update` command. Each is idempotent, so that a command that may or
//! may not have been applied is sent again as it is (spec 03, "Writing").

use bson::raw::{RawArrayBuf, cstr};
use bson::{DateTime, RawDocument, RawDocumentBuf, oid::ObjectId, rawdoc};

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

/// The statement that brings an offer to its projection; `None` when it stands already.
#[must_use]
pub fn of_change(offer: &Offer, change: &Change) -> Option<Statement> {
    // By `_id` only, which comes from a job: an offer that the old worker stored under another
    // label is taken over, not duplicated.
    let filter = rawdoc! { "_id": offer.id };
    let body = match change {
        Change::Nothing => return None,
        Change::Create => {
            let update = rawdoc! { "$set": offer.fields.clone(), "$setOnInsert": ON_INSERT.clone() };
            rawdoc! { "q": filter, "u": update, "upsert": true }
        }
        Change::Update { fields, status_changes: false } => {
            rawdoc! { "q": filter, "u": { "$set": fields.clone() } }
        }
        Change::Update { fields, status_changes: true } => {
            let change = &offer.status_change;
            let mut set = literals(fields);
            set.append(cstr!("offer_status_history"), history(offer.status, &change.reason, change.date));
            rawdoc! { "q": filter, "u": [{ "$set": set }] }
        }
    };
    Some(Statement { id: Some(offer.id), body })
}

/// A job is gone: its offer becomes `Cancelled` (spec 02, "Jobs that disappear").
#[must_use]
pub fn cancel_removed(offer: ObjectId, partner_label: &str, date: DateTime) -> Statement {
    cancel(offer, partner_label, "removed from recruiter", date)
}

/// The user who manages the offer is deactivated, and that cancels it (spec 03, "Reactions").
#[must_use]
pub fn cancel_of_user(offer: ObjectId, partner_label: &str, date: DateTime) -> Statement {
    cancel(offer, partner_label, USER_DEACTIVATED, date)
}

fn cancel(offer: ObjectId, partner_label: &str, reason: &str, date: DateTime) -> Statement {
    let cancelled = OfferStatus::Cancelled;
    let set = rawdoc! {
        "offer_status": cancelled.as_str(),
        "offer_status_history": history(cancelled, reason, date),
    };
    let filter =
        rawdoc! { "_id": offer, "partner_label": partner_label, "offer_status": { "$ne": cancelled.as_str() } };
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
fn literals(fields: &RawDocument) -> RawDocumentBuf {
    let mut literals = RawDocumentBuf::new();
    for (name, value) in fields.iter().flatten() {
        let mut literal = RawDocumentBuf::new();
        literal.append(cstr!("$literal"), value);
        literals.append(name, &literal);
    }
    literals
}
