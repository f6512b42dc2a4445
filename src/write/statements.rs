//! The statements of an `update` command. Each is idempotent, so that a command that may or
//! may not have been applied is sent again as it is (spec 03, "Writing").

use bson::raw::{CStr, RawArrayBuf, cstr};
use bson::{DateTime, RawBsonRef, RawDocument, RawDocumentBuf, oid::ObjectId, rawdoc};

use crate::model::{Offer, OfferStatus};
use crate::project::diff::{DECIDES, OfferChange};
use crate::project::{ON_INSERT, USER_DEACTIVATED};

/// Who changed a status, as history entries name it (spec 02).
pub(crate) const GRANTED_BY: &str = "stream-processor";

/// A document that does not stand yet.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Its `_id`.
    pub id: ObjectId,
    /// All of it.
    pub document: RawDocumentBuf,
}

/// One statement, and the document that it is about.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The document, where its `_id` is an ObjectId.
    pub id: Option<ObjectId>,
    /// `{q, u, upsert?, multi?}`, see the MongoDB manual, "update (database command)".
    pub body: RawDocumentBuf,
}

impl Statement {
    /// It changes nothing where its document is there already.
    pub(super) fn only_creates(&self) -> bool {
        let update = self.body.get_document("u").ok();
        update.and_then(|update| update.iter().next()?.ok()).is_some_and(|(name, _)| name == ON_CREATION)
    }
}

/// The statement that brings an offer to its projection; `None` when it stands already. It does nothing to an offer that
/// has become another one since it was compared, or newer than the projection where the newest wins: then the offer is to be
/// compared anew.
#[must_use]
pub(crate) fn of_change(offer: &Offer, change: &OfferChange, newest_wins: bool) -> Option<Statement> {
    // By `_id` only, which comes from a job: an offer that the old worker stored under another
    // label is taken over, not duplicated.
    let mut filter = rawdoc! { "_id": offer.id };
    let (fields, status_changes, stood) = match change {
        OfferChange::Nothing => return None,
        OfferChange::Create => {
            let mut update = RawDocumentBuf::new();
            update.append(ON_CREATION, whole(offer, RawDocumentBuf::new()));
            return Some(Statement { id: Some(offer.id), body: rawdoc! { "q": filter, "u": update, "upsert": true } });
        }
        // The contact of somebody who was anonymised leaves a newer offer whatever else becomes of it.
        OfferChange::Update { fields, is_newer: true, .. } if newest_wins => (fields, false, None),
        OfferChange::Update { fields, status_changes, stood, .. } => (fields, *status_changes, Some(stood)),
    };
    // Where applications write offers, everything: of what one of them wrote since the comparison nothing must stay
    // beside what is ours.
    let all = newest_wins && stood.is_some();
    if let Some(stood) = stood.filter(|_| all || decides(fields)) {
        let latest = offer.fields.get_datetime("updated_at").ok().filter(|_| newest_wins);
        for name in DECIDES {
            match latest {
                Some(latest) if name == cstr!("updated_at") => filter.append(name, not_later_than(latest)),
                None if newest_wins && name == cstr!("updated_at") => {}
                _ => filter.append(name, still(stood.get(name).ok().flatten())),
            }
        }
    }
    let fields = if all { &offer.fields } else { fields };
    let body = if status_changes {
        let change = &offer.status_change;
        let mut set = literals(fields);
        set.append(cstr!("offer_status_history"), history(offer.status, &change.reason, change.date));
        rawdoc! { "q": filter, "u": [{ "$set": set }] }
    } else {
        rawdoc! { "q": filter, "u": { "$set": fields.clone() } }
    };
    Some(Statement { id: Some(offer.id), body })
}

/// The operator of a statement that [only creates](Statement::only_creates).
const ON_CREATION: &CStr = cstr!("$setOnInsert");

/// An offer as it is created, whole.
#[must_use]
pub(crate) fn created(offer: &Offer) -> Creation {
    Creation { id: offer.id, document: whole(offer, rawdoc! { "_id": offer.id }) }
}

fn whole(offer: &Offer, mut document: RawDocumentBuf) -> RawDocumentBuf {
    for (name, value) in offer.fields.iter().chain(ON_INSERT.iter()).flatten() {
        document.append(name, value);
    }
    document
}

/// True where the comparison of what is written has decided about more than these fields themselves.
fn decides(fields: &RawDocument) -> bool {
    fields.iter().flatten().any(|(name, _)| DECIDES.contains(&name))
}

/// A condition that the field has this value, or is missing.
fn still(value: Option<RawBsonRef<'_>>) -> RawDocumentBuf {
    let mut condition = RawDocumentBuf::new();
    match value {
        None => condition.append(cstr!("$exists"), false),
        // No query may compare with it.
        Some(RawBsonRef::Undefined) => condition.append(cstr!("$type"), 6),
        Some(value) => {
            condition.append(cstr!("$eq"), value);
            // Null is equal to missing.
            condition.append(cstr!("$exists"), true);
        }
    }
    condition
}

/// Null and missing are not later, nor is what is no date.
fn not_later_than(date: DateTime) -> RawDocumentBuf {
    rawdoc! { "$not": { "$gt": date } }
}

/// A job is gone: its offer becomes `Cancelled` (spec 02, "Jobs that disappear"); in `dual-write` unless the
/// offer is later than `unless_later_than` (spec 04).
#[must_use]
pub(crate) fn cancel_removed(
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
pub(crate) fn cancel_of_user(
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
pub(crate) fn history(status: OfferStatus, reason: &str, date: DateTime) -> RawDocumentBuf {
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
pub(crate) fn literals(fields: &RawDocument) -> RawDocumentBuf {
    let mut literals = RawDocumentBuf::new();
    for (name, value) in fields.iter().flatten() {
        let mut literal = RawDocumentBuf::new();
        literal.append(cstr!("$literal"), value);
        literals.append(name, &literal);
    }
    literals
}
