//! Makes the statements that remove the contact of a person from offers (spec 03, "Anonymising"). Each statement sets
//! final values, so that sending it twice changes nothing more.

use bson::raw::{CStr, RawArrayBuf, cstr};
use bson::{DateTime, RawBson, RawBsonRef, RawDocumentBuf, rawdoc};

use super::statements::{Statement, history, later_update};
use crate::model::OfferStatus;
use crate::model::ids::{JobId, UserId};
use crate::model::user_id::spellings;
use crate::project::{RECRUITER_ANONYMIZED, USER_ANONYMIZED};

/// Makes the statement that anonymises an offer of an anonymised recruiter and cancels it.
#[must_use]
pub(crate) fn recruiter_offer(offer: JobId, partner_label: &str, email: &str, date: DateTime) -> Statement {
    let mut set = contact(email);
    set.append(cstr!("apply_url"), RawBsonRef::Null);
    set.append(cstr!("offer_description"), "");
    set.append(cstr!("workplace_description"), RawBsonRef::Null);
    let texts = [
        rawdoc! { "$eq": [nullable("$apply_url"), null] },
        rawdoc! { "$eq": ["$offer_description", ""] },
        rawdoc! { "$eq": [nullable("$workplace_description"), null] },
    ];
    cancel(&mut set, email, RECRUITER_ANONYMIZED, date, &texts);
    let filter = rawdoc! { "_id": offer, "partner_label": partner_label };
    Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": [{ "$set": set }] } }
}

/// An anonymised user, as the statements about the user's offers need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnonymizedUser<'a> {
    /// The label of our offers.
    pub partner_label: &'a str,
    /// The replacement of an anonymised address.
    pub email: &'a str,
    /// The date of the anonymisation, for the history.
    pub date: DateTime,
    /// True from phase `shadow` on. Then no recruiter is left from which the projection would set `managed_by` again.
    pub clears_manager: bool,
}

impl AnonymizedUser<'_> {
    /// Makes the statement that removes the contact of the user from an offer and cancels it.
    #[must_use]
    pub(crate) fn offer(&self, offer: JobId) -> Statement {
        let filter = rawdoc! { "_id": offer, "partner_label": self.partner_label };
        Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": [{ "$set": self.fields() }] } }
    }

    /// Makes the same statement for all offers of these users whose `_id` is no ObjectId. Other statements go by `_id`
    /// and do not reach them.
    #[must_use]
    pub(crate) fn offers_of_other_ids(&self, users: &[UserId]) -> Statement {
        let managers: RawArrayBuf =
            spellings(users).into_iter().filter_map(|user| RawBson::try_from(user).ok()).collect();
        let filter = rawdoc! {
            "managed_by": { "$in": managers },
            "partner_label": self.partner_label,
            "_id": { "$not": { "$type": "objectId" } },
        };
        Statement { id: None, body: rawdoc! { "q": filter, "u": [{ "$set": self.fields() }], "multi": true } }
    }

    fn fields(&self) -> RawDocumentBuf {
        let mut set = contact(self.email);
        cancel(&mut set, self.email, USER_ANONYMIZED, self.date, &[]);
        if self.clears_manager {
            set.append(cstr!("managed_by"), RawBsonRef::Null);
        }
        set
    }
}

/// Adds the cancellation. `updated_at` moves only if another field changes, because a replay must change nothing.
/// `clean` has the conditions of further fields that are final already.
fn cancel(set: &mut RawDocumentBuf, email: &str, reason: &str, date: DateTime, clean: &[RawDocumentBuf]) {
    let cancelled = OfferStatus::Cancelled;
    set.append(cstr!("offer_status"), cancelled.as_str());
    set.append(cstr!("offer_status_history"), history(cancelled, reason, date));
    let contact = [
        rawdoc! { "$eq": ["$apply_email", literal(email)] },
        rawdoc! { "$eq": [nullable("$apply_phone"), null] },
        rawdoc! { "$eq": [nullable("$cfa_apply_phone"), null] },
        rawdoc! { "$eq": ["$offer_status", cancelled.as_str()] },
    ];
    let conditions: RawArrayBuf = contact.iter().chain(clean).collect();
    let stands = rawdoc! { "$and": conditions };
    set.append(cstr!("updated_at"), &rawdoc! { "$cond": [stands, "$updated_at", later_update(date)] });
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
