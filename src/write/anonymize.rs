//! Makes the statements that remove the contact of a person from offers (spec 03, "Anonymising"). Each statement sets
//! final values, so that sending it twice changes nothing more.

use bson::raw::{CStr, RawArrayBuf, cstr};
use bson::{DateTime, RawBson, RawBsonRef, RawDocumentBuf, rawdoc};

use super::statements::{Statement, history};
use crate::model::OfferStatus;
use crate::model::ids::{JobId, UserId};
use crate::model::user_id::spellings;

/// Makes the statement that anonymises an offer of an anonymised recruiter and cancels it.
#[must_use]
pub(crate) fn recruiter_offer(offer: JobId, partner_label: &str, email: &str, date: DateTime) -> Statement {
    let cancelled = OfferStatus::Cancelled;
    let mut set = contact(email);
    set.append(cstr!("apply_url"), RawBsonRef::Null);
    set.append(cstr!("offer_description"), "");
    set.append(cstr!("workplace_description"), RawBsonRef::Null);
    set.append(cstr!("offer_status"), cancelled.as_str());
    set.append(cstr!("offer_status_history"), history(cancelled, "recruiter has been anonymized", date));
    // `updated_at` moves only if another field changes, because a replay must change nothing.
    let stands = rawdoc! { "$and": [
        { "$eq": ["$apply_email", literal(email)] },
        { "$eq": [nullable("$apply_phone"), null] },
        { "$eq": [nullable("$cfa_apply_phone"), null] },
        { "$eq": [nullable("$apply_url"), null] },
        { "$eq": ["$offer_description", ""] },
        { "$eq": [nullable("$workplace_description"), null] },
        { "$eq": ["$offer_status", cancelled.as_str()] },
    ] };
    set.append(cstr!("updated_at"), &rawdoc! { "$cond": [stands, "$updated_at", literal(date)] });
    let filter = rawdoc! { "_id": offer, "partner_label": partner_label };
    Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": [{ "$set": set }] } }
}

/// Makes the statement that removes the contact of an anonymised user from an offer. All other fields stay.
#[must_use]
pub(crate) fn user_offer(offer: JobId, partner_label: &str, email: &str) -> Statement {
    let filter = rawdoc! { "_id": offer, "partner_label": partner_label };
    Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": [{ "$set": contact(email) }] } }
}

/// Makes the same statement for all offers of these users whose `_id` is no ObjectId. Other statements go by `_id` and
/// do not reach them.
#[must_use]
pub(crate) fn user_offers_of_other_ids(users: &[UserId], partner_label: &str, email: &str) -> Statement {
    let managers: RawArrayBuf = spellings(users).into_iter().filter_map(|user| RawBson::try_from(user).ok()).collect();
    let filter = rawdoc! {
        "managed_by": { "$in": managers }, "partner_label": partner_label, "_id": { "$not": { "$type": "objectId" } },
    };
    Statement { id: None, body: rawdoc! { "q": filter, "u": [{ "$set": contact(email) }], "multi": true } }
}

/// Makes the fields without contact: `apply_*`, and also `cfa_apply_*` and `delegations[].email` if they carry the
/// contact of the same person.
fn contact(email: &str) -> RawDocumentBuf {
    let mut set = RawDocumentBuf::new();
    set.append(cstr!("apply_email"), literal(email));
    set.append(cstr!("apply_phone"), RawBsonRef::Null);
    // Only delegated offers have an address here, and it is always that of the managing user.
    let of_cfa = rawdoc! { "$cond": [{ "$gt": ["$cfa_apply_email", null] }, literal(email), null] };
    set.append(cstr!("cfa_apply_email"), &of_cfa);
    set.append(cstr!("cfa_apply_phone"), RawBsonRef::Null);
    let is_the_contact = rawdoc! { "$and": [
        { "$eq": [{ "$type": "$$this.email" }, "string"] },
        { "$in": ["$$this.email", ["$apply_email", "$cfa_apply_email"]] },
    ] };
    let without_contact = rawdoc! { "$cond": [
        is_the_contact,
        { "$mergeObjects": ["$$this", { "email": literal(email) }] },
        "$$this",
    ] };
    let delegations = rawdoc! { "$cond": [
        { "$isArray": "$delegations" },
        { "$map": { "input": "$delegations", "in": without_contact } },
        "$delegations",
    ] };
    set.append(cstr!("delegations"), &delegations);
    set
}

fn literal<'a>(value: impl Into<RawBsonRef<'a>>) -> RawDocumentBuf {
    let mut literal = RawDocumentBuf::new();
    let name: &CStr = cstr!("$literal");
    literal.append(name, value.into());
    literal
}

/// Makes the expression of a field that is null when the field is missing.
fn nullable(path: &str) -> RawDocumentBuf {
    let mut operands = RawArrayBuf::new();
    operands.push(path);
    operands.push(RawBsonRef::Null);
    rawdoc! { "$ifNull": operands }
}
