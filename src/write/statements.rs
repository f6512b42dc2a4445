//! Makes the statements of an `update` command. Each statement is idempotent, so that a command can be sent again when
//! nobody knows whether it was applied (spec 03, "Writing").

use bson::raw::{CStr, RawArrayBuf, cstr};
use bson::{DateTime, RawBsonRef, RawDocument, RawDocumentBuf, oid::ObjectId, rawdoc};

use crate::model::ids::JobId;
use crate::model::offer::GRANTED_BY;
use crate::model::{Offer, OfferStatus};
use crate::project::closing::HISTORY;
use crate::project::diff::{DECIDES, OfferChange};
use crate::project::{USER_DEACTIVATED, on_insert};

/// A document to insert.
#[derive(Debug, Clone)]
pub struct Creation {
    pub id: ObjectId,
    /// The whole document, with its `_id`.
    pub document: RawDocumentBuf,
}

/// One statement of an `update` command.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The `_id` of the document, by which results name the statement; `None` if it is no ObjectId or is not needed.
    pub id: Option<ObjectId>,
    /// `{q, u, upsert?, multi?}`, see the MongoDB manual, "update (database command)".
    pub body: RawDocumentBuf,
}

impl Statement {
    /// True if the statement changes nothing when its document exists already.
    pub(crate) fn only_creates(&self) -> bool {
        let update = self.body.get_document("u").ok();
        update.and_then(|update| update.iter().next()?.ok()).is_some_and(|(name, _)| name == ON_CREATION)
    }
}

/// Makes the statement that changes an offer to its projection; `None` if nothing differs. The statement fails with
/// [`NOT_AS_COMPARED`] if the offer has changed since the comparison, or if the newest wins and the offer is newer. Then
/// the offer must be compared again.
#[must_use]
pub fn of_change(offer: &Offer, change: &OfferChange, newest_wins: bool) -> Option<Statement> {
    let filter = rawdoc! { "_id": offer.id };
    let (fields, retyped, status_changes, stood) = match change {
        OfferChange::Nothing | OfferChange::OtherLabel => return None,
        OfferChange::Create => {
            let mut update = RawDocumentBuf::new();
            update.append(ON_CREATION, whole(offer, RawDocumentBuf::new()));
            return Some(Statement {
                id: Some(offer.id.0),
                body: rawdoc! { "q": filter, "u": update, "upsert": true },
            });
        }
        // Such a change only removes the contact of an anonymised user, so it needs no condition.
        OfferChange::Update { fields, retyped, is_newer: true, .. } if newest_wins => (fields, retyped, false, None),
        OfferChange::Update { fields, retyped, status_changes, stood, .. } => {
            (fields, retyped, *status_changes, Some(stood))
        }
    };
    // In `dual-write` all fields are set. An application may have written some of them since the comparison, and the
    // offer must not be a mixture.
    let all = newest_wins && stood.is_some();
    let mut written = match stood.filter(|_| all) {
        Some(stood) => complete(offer, fields, stood, status_changes),
        None => fields.clone(),
    };
    if !all {
        retyped.iter().flatten().for_each(|(name, value)| written.append(name, value));
    }
    let stood = stood.filter(|_| all || decides(fields));
    let mut set = rawdoc! { "_id": id_if(conditions(offer, fields, stood, newest_wins.then_some(status_changes))) };
    add_literals(&mut set, &written);
    if status_changes {
        let change = &offer.status_change;
        set.append(HISTORY, history(offer.status, &change.reason, change.date));
    }
    Some(Statement { id: Some(offer.id.0), body: rawdoc! { "q": filter, "u": [{ "$set": set }] } })
}

/// Makes the conditions of a change: expressions that are true as long as the offer is as it was compared. `stood` is
/// `None` where only the label matters. `newest` is `None` where the date does not decide, and else tells whether the
/// status changes.
fn conditions(
    offer: &Offer,
    fields: &RawDocument,
    stood: Option<&RawDocumentBuf>,
    newest: Option<bool>,
) -> RawArrayBuf {
    let mut conditions = StillConditions::default();
    // The label of an existing offer is never changed (spec 09, "Label").
    if let Some(label) = offer.fields.get("partner_label").ok().flatten() {
        conditions.add(cstr!("partner_label"), Some(label));
    }
    let Some(stood) = stood else { return conditions.all() };
    let latest = newest.and_then(|status_changes| latest(offer, fields, stood, status_changes));
    for name in DECIDES {
        match latest {
            Some(latest) if name == cstr!("updated_at") => conditions.add_expression(update_is_not_after(latest)),
            None if newest.is_some() && name == cstr!("updated_at") => {}
            _ => conditions.add(name, stood.get(name).ok().flatten()),
        }
    }
    if let Some(last) = stood.get(HISTORY).ok().flatten() {
        conditions.add_expression(last_entry_is(last));
    }
    conditions.all()
}

/// Conditions that fields still have their values. One comparison of two lists takes the place of many comparisons: it is
/// cheaper to make and to carry out.
#[derive(Default)]
pub(crate) struct StillConditions {
    paths: RawArrayBuf,
    values: RawArrayBuf,
    /// The conditions that are no part of the comparison.
    others: RawArrayBuf,
}

impl StillConditions {
    /// Adds that the field has this value; `None` means that it is missing. The name may have dots.
    pub(crate) fn add(&mut self, name: &CStr, value: Option<RawBsonRef<'_>>) {
        match value {
            // In a list, a missing field and undefined become null.
            None | Some(RawBsonRef::Null | RawBsonRef::Undefined) => self.others.push(is_still(name, value)),
            Some(value) => {
                self.paths.push(format!("${}", name.as_str()));
                self.values.push(value);
            }
        }
    }

    /// Adds an expression that must be true.
    pub(crate) fn add_expression(&mut self, expression: RawDocumentBuf) {
        self.others.push(expression);
    }

    /// All conditions, as expressions.
    pub(crate) fn all(mut self) -> RawArrayBuf {
        if !self.paths.is_empty() {
            self.others.push(rawdoc! { "$eq": [self.paths, { "$literal": self.values }] });
        }
        self.others
    }
}

/// Makes the expression of the `_id` that fails with [`NOT_AS_COMPARED`] unless all conditions hold. The server finds a
/// document by a filter on `_id` alone in about a quarter less time than by a filter that also has these conditions
/// (`docs/performance.md`, "Cost of conditions on a write").
pub(crate) fn id_if(conditions: RawArrayBuf) -> RawDocumentBuf {
    rawdoc! { "$cond": [{ "$and": conditions }, "$_id", { "$size": "$_id" }] }
}

/// The server's code for `$size` of a value that is no list. A statement with [`id_if`] fails with it, and so changes
/// nothing, when the document is not as it was compared.
pub(crate) const NOT_AS_COMPARED: i32 = 17124;

/// The operator of a statement that [only creates](Statement::only_creates).
const ON_CREATION: &CStr = cstr!("$setOnInsert");

/// Makes the creation of an offer, with the fields that are written only then.
#[must_use]
pub(crate) fn created(offer: &Offer) -> Creation {
    Creation { id: offer.id.0, document: whole(offer, rawdoc! { "_id": offer.id }) }
}

fn whole(offer: &Offer, mut document: RawDocumentBuf) -> RawDocumentBuf {
    for (name, value) in offer.fields.iter().chain(on_insert(offer).iter()).flatten() {
        document.append(name, value);
    }
    document
}

/// All fields of the projection, for `dual-write`. The status is that of the comparison: the new one, or where it does
/// not differ, the one that stands. The date never goes back (spec 09, "Dates").
fn complete(offer: &Offer, fields: &RawDocument, stood: &RawDocument, status_changes: bool) -> RawDocumentBuf {
    let decided = |name| fields.get(name).ok().flatten().or(stood.get(name).ok().flatten());
    let mut complete = RawDocumentBuf::new();
    for (name, projected) in offer.fields.iter().flatten() {
        let value = match name.as_str() {
            "offer_status" => decided(name),
            "updated_at" => {
                latest(offer, fields, stood, status_changes).map(RawBsonRef::DateTime).or_else(|| decided(name))
            }
            _ => None,
        };
        complete.append(name, value.unwrap_or(projected));
    }
    complete
}

/// The latest of the new `updated_at`, the one that stands, and the date of the history entry where the status changes
/// (spec 09, "Dates"). With the date of its entry the offer is known as changed by us, so later changes of the recruiter
/// reach it.
fn latest(offer: &Offer, fields: &RawDocument, stood: &RawDocument, status_changes: bool) -> Option<DateTime> {
    let dates = fields.get_datetime("updated_at").ok().max(stood.get_datetime("updated_at").ok());
    dates.max(dates.is_some().then_some(offer.status_change.date).filter(|_| status_changes))
}

/// Makes the expression that the history still ends with this entry; null means that the history is empty. Some writers
/// add an entry and change neither the status nor the date.
fn last_entry_is(entry: RawBsonRef<'_>) -> RawDocumentBuf {
    let mut literal = RawDocumentBuf::new();
    literal.append(cstr!("$literal"), entry);
    let is_list = rawdoc! { "$isArray": "$offer_status_history" };
    let last = rawdoc! { "$cond": [is_list, { "$ifNull": [{ "$last": "$offer_status_history" }, null] }, null] };
    rawdoc! { "$eq": [last, literal] }
}

/// True if one of these fields is the status or the date. Other processes write them too, so such a change needs a
/// condition.
fn decides(fields: &RawDocument) -> bool {
    fields.iter().flatten().any(|(name, _)| DECIDES.contains(&name))
}

/// Makes the condition that a field still has this value; `None` means that it is still missing.
pub(crate) fn still(value: Option<RawBsonRef<'_>>) -> RawDocumentBuf {
    let mut condition = RawDocumentBuf::new();
    match value {
        None => condition.append(cstr!("$exists"), false),
        // The server refuses comparisons with undefined, so the condition goes by the type.
        Some(RawBsonRef::Undefined) => condition.append(cstr!("$type"), 6),
        Some(value) => {
            condition.append(cstr!("$eq"), value);
            // For `$eq`, null equals a missing field.
            condition.append(cstr!("$exists"), true);
        }
    }
    condition
}

/// Makes the expression that a field still has this value; `None` means that it is still missing.
fn is_still(name: &CStr, value: Option<RawBsonRef<'_>>) -> RawDocumentBuf {
    let path = format!("${}", name.as_str());
    let is_of_type = |of_type: &str| rawdoc! { "$eq": [{ "$type": path.as_str() }, of_type] };
    match value {
        None => is_of_type("missing"),
        Some(RawBsonRef::Undefined) => is_of_type("undefined"),
        Some(value) => {
            let mut literal = RawDocumentBuf::new();
            literal.append(cstr!("$literal"), value);
            rawdoc! { "$eq": [path.as_str(), literal] }
        }
    }
}

/// Makes the condition that a field is not later than `date`. A missing field, null and other types are not later.
fn not_later_than(date: DateTime) -> RawDocumentBuf {
    rawdoc! { "$not": { "$gt": date } }
}

/// Makes the expression that `updated_at` is not later than `date`. A missing field, null and other types are not later.
fn update_is_not_after(date: DateTime) -> RawDocumentBuf {
    rawdoc! { "$or": [{ "$ne": [{ "$type": "$updated_at" }, "date"] }, { "$lte": ["$updated_at", date] }] }
}

/// Makes the statement that cancels the offer of a removed job (spec 02, "Jobs that disappear"). With a time, an offer
/// that is newer stays; that is for `dual-write` (spec 04).
#[must_use]
pub fn cancel_removed(
    offer: JobId,
    partner_label: &str,
    date: DateTime,
    unless_later_than: Option<DateTime>,
) -> Statement {
    cancel(offer, (partner_label, &[OfferStatus::Cancelled]), "removed from recruiter", date, unless_later_than)
}

/// Makes the statement that cancels the offer of a deactivated user (spec 03, "Reactions"). A filled offer stays:
/// somebody may have filled it after the touch left it, and it collects no applications. With a time, an offer that is newer stays; that is for `dual-write`.
#[must_use]
pub(crate) fn cancel_of_user(
    offer: JobId,
    partner_label: &str,
    date: DateTime,
    unless_later_than: Option<DateTime>,
) -> Statement {
    let stays = [OfferStatus::Cancelled, OfferStatus::Filled];
    cancel(offer, (partner_label, &stays), USER_DEACTIVATED, date, unless_later_than)
}

/// An offer under another label, or with one of the statuses that stay, is left alone.
fn cancel(
    offer: JobId,
    (partner_label, stays): (&str, &[OfferStatus]),
    reason: &str,
    date: DateTime,
    unless_later_than: Option<DateTime>,
) -> Statement {
    let cancelled = OfferStatus::Cancelled;
    let set = rawdoc! {
        "offer_status": cancelled.as_str(),
        "offer_status_history": history(cancelled, reason, date),
        "updated_at": later_update(date),
    };
    let mut statuses = RawArrayBuf::new();
    stays.iter().for_each(|status| statuses.push(status.as_str()));
    let mut filter = rawdoc! { "_id": offer, "partner_label": partner_label, "offer_status": { "$nin": statuses } };
    if let Some(latest) = unless_later_than {
        filter.append(cstr!("updated_at"), not_later_than(latest));
    }
    Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": [{ "$set": set }] } }
}

/// Makes the expression of a history with one more entry, unless its last entry has this status already.
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

/// Makes the expression of `updated_at` after a change at this date (spec 09, "Dates"). A later date stays. A value
/// that is no date gives way to one, as all types that occur are lower in the server's order.
#[must_use]
pub(crate) fn later_update(date: DateTime) -> RawDocumentBuf {
    rawdoc! { "$max": ["$updated_at", { "$literal": date }] }
}

/// Wraps the fields for an aggregation stage. There a text could otherwise be read as an expression.
#[must_use]
pub(crate) fn literals(fields: &RawDocument) -> RawDocumentBuf {
    let mut literals = RawDocumentBuf::new();
    add_literals(&mut literals, fields);
    literals
}

/// Adds the fields to an aggregation stage, wrapped as by [`literals`].
pub(crate) fn add_literals(stage: &mut RawDocumentBuf, fields: &RawDocument) {
    for (name, value) in fields.iter().flatten() {
        let mut literal = RawDocumentBuf::new();
        literal.append(cstr!("$literal"), value);
        stage.append(name, &literal);
    }
}
