//! A closing stands (spec 09, "A closing stands"): the projection does not reopen an offer that
//! somebody else has closed after the last change of its job. Pure code.

use bson::raw::{CStr, cstr};
use bson::{DateTime, RawBsonRef, RawDocument};

use super::status::RECRUITER_ANONYMIZED;
use crate::model::offer::{ESTABLISHMENT_VERIFIED, GRANTED_BY, RECRUITER_STATUS_SYNCED};
use crate::model::user_id::user_id;
use crate::model::{Offer, OfferStatus, value};

/// The field of an offer with one entry for each change of its status.
pub(crate) const HISTORY: &CStr = cstr!("offer_status_history");
/// The name that the platform's expiry job has in history entries, and the beginning of the reason in them.
const EXPIRY: (&str, &str) = ("expireJobsPartners", "offre expirée");

/// One entry in the history of an existing offer.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    status: Option<OfferStatus>,
    reason: Option<&'a str>,
    /// The writer of the entry; `None` when the entry does not name one.
    granted_by: Option<RawBsonRef<'a>>,
    date: Option<DateTime>,
}

impl<'a> Entry<'a> {
    fn read(entry: RawBsonRef<'a>) -> Option<Self> {
        let entry = value::object(Some(entry))?;
        Some(Self {
            status: value::text(value::field(entry, "status")).and_then(OfferStatus::read),
            reason: value::text(value::field(entry, "reason")),
            granted_by: value::field(entry, "granted_by"),
            date: value::field(entry, "date").and_then(value::date),
        })
    }

    fn is_ours(self) -> bool {
        self.granted_by.and_then(RawBsonRef::as_str) == Some(GRANTED_BY)
    }

    fn closes(self) -> bool {
        self.status.is_some_and(|status| !status.is_open())
    }

    /// An entry without a writer is one of the old worker.
    fn is_of_somebody_else(self) -> bool {
        self.granted_by.is_some() && !self.is_ours()
    }

    fn is_expiry(self) -> bool {
        self.granted_by.and_then(RawBsonRef::as_str) == Some(EXPIRY.0)
            || self.reason.is_some_and(|reason| reason.starts_with(EXPIRY.1))
    }
}

/// The entries of a history, the last one first.
fn from_end(history: Option<RawBsonRef<'_>>) -> impl Iterator<Item = Option<Entry<'_>>> {
    let entries: Vec<RawBsonRef<'_>> = value::list(history).into_iter().flatten().flatten().collect();
    entries.into_iter().rev().map(Entry::read)
}

/// The closing by somebody else that no opening follows. A closing of our own may follow, for instance that of an
/// archived recruiter: when its cause is gone, the offer is not open again.
fn closing_elsewhere(history: Option<RawBsonRef<'_>>) -> Option<Entry<'_>> {
    let last = from_end(history).find(|entry| entry.is_none_or(|entry| !entry.closes() || entry.is_of_somebody_else()));
    last.flatten().filter(|entry| entry.closes())
}

/// True when the last change of the status that is not a closing of our own is a closing by somebody else.
pub(super) fn is_closed_elsewhere(history: Option<RawBsonRef<'_>>) -> bool {
    closing_elsewhere(history).is_some()
}

/// True when the existing offer keeps its status although the projection has another one, because somebody else closed
/// the offer and the job was not changed since. An offer that somebody filled stays filled when its recruiter is
/// archived. The offers of an anonymised user are cancelled all the same (spec 09, "Jobs, as they ran before").
#[must_use]
pub(crate) fn closing_stands(offer: &Offer, standing: &RawDocument) -> bool {
    let is_same = value::text(value::field(standing, "offer_status")) == Some(offer.status.as_str());
    if is_same || offer.hides_contact && !offer.status.is_open() {
        return false;
    }
    let expiration = value::field(&offer.fields, "offer_expiration").and_then(value::date);
    stands(standing, offer.job_updated, expiration)
}

/// True when somebody else closed the existing offer after the last change of its job. A closing for expiry ends with a
/// later expiration of the job.
#[must_use]
pub(crate) fn stands(standing: &RawDocument, job_updated: Option<DateTime>, expiration: Option<DateTime>) -> bool {
    if !is_closed(standing) {
        return false;
    }
    let Some(closing) = closing_elsewhere(value::field(standing, HISTORY.as_str())) else {
        return false;
    };
    // Some writers give no usable date, but move the offer's own. Others do not: then it is the date of the job's last edit.
    let moved = || value::field(standing, "updated_at").and_then(value::date);
    let closed = closing.date.or_else(moved);
    let is_edited = match (closing.date, closed, job_updated) {
        (Some(closed), _, Some(edited)) => edited >= closed,
        (None, Some(closed), Some(edited)) => edited > closed,
        _ => false,
    };
    let is_prolonged = closing.is_expiry() && closed.zip(expiration).is_some_and(|(closed, end)| end > closed);
    !is_edited && !is_prolonged
}

/// The projection that takes the place of `offer` beside an existing offer whose user was deleted without a copy: the one
/// without contact. The user left no other trace than the offers that lost their contact at the deletion, and they stay
/// so until the user exists again or the recruiter has another one. An offer that lost it with its recruiter is no such
/// offer: the recruiter is there again.
#[must_use]
pub(crate) fn if_deleted<'a>(offer: &'a Offer, existing: &RawDocument) -> Option<&'a Offer> {
    let deleted = offer.if_deleted.as_deref()?;
    let address = |document| value::text(value::field(document, "apply_email"));
    let is_hidden = address(existing).is_some() && address(existing) == address(&deleted.fields);
    let manager = |document| user_id(value::field(document, "managed_by"));
    let is_same_user = manager(existing) == manager(&deleted.fields);
    let last_own = || from_end(value::field(existing, HISTORY.as_str())).flatten().find(|entry| entry.is_ours());
    let with_recruiter = || last_own().is_some_and(|last| last.reason == Some(RECRUITER_ANONYMIZED));
    (is_hidden && is_same_user && !with_recruiter()).then_some(deleted)
}

fn is_closed(standing: &RawDocument) -> bool {
    let status = value::text(value::field(standing, "offer_status"));
    status.and_then(OfferStatus::read).is_some_and(|status| !status.is_open())
}

/// Our own last change of the status, when it gave `updated_at` to the existing offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnDate {
    /// A time-based job opened the offer. The documents do not have this date.
    OpenedByJob,
    Other,
}

/// Finds our own last change of the status that `updated_at` is the date of. Cancelling and the time-based jobs move the
/// date there (spec 09, "Dates"), so no other writer made the offer newer.
pub(crate) fn own_date(history: Option<RawBsonRef<'_>>, updated_at: Option<DateTime>) -> Option<OwnDate> {
    let last = from_end(history).next().flatten().filter(|last| last.is_ours())?;
    last.date.filter(|date| Some(*date) == updated_at)?;
    let by_job = last.reason.is_some_and(|reason| [ESTABLISHMENT_VERIFIED, RECRUITER_STATUS_SYNCED].contains(&reason));
    Some(if by_job && !last.closes() { OwnDate::OpenedByJob } else { OwnDate::Other })
}

/// True if the last change of the status is a closing of our own.
pub(super) fn is_closed_by_us(history: Option<RawBsonRef<'_>>) -> bool {
    from_end(history).next().flatten().is_some_and(|last| last.is_ours() && last.closes())
}

#[cfg(test)]
mod tests {

    use bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};

    use super::*;

    fn day(day: i64) -> DateTime {
        DateTime::from_millis(day * 86_400_000)
    }

    fn offer(status: OfferStatus, job_updated: Option<DateTime>, expiration: DateTime) -> Offer {
        let fields = rawdoc! { "offer_expiration": expiration };
        Offer { status, job_updated, ..Offer::with_fields(fields) }
    }

    fn stands(offer: &Offer, status: &str, entry: bson::Document) -> bool {
        let standing =
            doc! { "offer_status": status, "updated_at": day(5), HISTORY.as_str(): [{ "status": "Active" }, entry] };
        closing_stands(offer, &RawDocumentBuf::try_from(&standing).unwrap())
    }

    #[test]
    fn a_closing_by_somebody_else_after_the_last_change_of_the_job_stands() {
        let open = offer(OfferStatus::Active, Some(day(3)), day(4));
        let by = |who: &str, date: Bson| doc! { "status": "Filled", "granted_by": who, "date": date };
        assert!(stands(&open, "Filled", by("jobs.controller.v2", day(4).into())));
        assert!(stands(&open, "Filled", by("", day(4).into())), "an empty name is not ours");
        assert!(!stands(&open, "Filled", by("jobs.controller.v2", day(3).into())), "the job changed at that moment");
        assert!(!stands(&open, "Filled", by("jobs.controller.v2", day(2).into())), "the job changed later");
        assert!(!stands(&open, "Filled", by(GRANTED_BY, day(4).into())));
        assert!(!stands(&open, "Filled", doc! { "status": "Filled", "date": day(4) }), "an entry of the old worker");
        assert!(!stands(&open, "Active", by("jobs.controller.v2", day(4).into())), "it is open again already");
        assert!(!stands(&open, "Filled", doc! { "status": "Active", "granted_by": "x", "date": day(4) }));
        let text = Bson::from(day(4).try_to_rfc3339_string().unwrap());
        assert!(stands(&open, "Filled", by("jobs.controller.v2", text)));
        assert!(stands(&open, "Filled", by("jobs.controller.v2", Bson::Null)), "the offer's own date is later");
        let ours = doc! { "status": "Cancelled", "granted_by": GRANTED_BY, "date": day(6) };
        let after = |status: &str, entries: Vec<bson::Document>| {
            let standing = doc! { "offer_status": status, HISTORY.as_str(): entries };
            closing_stands(&open, &RawDocumentBuf::try_from(&standing).unwrap())
        };
        let filled = by("jobs.controller.v2", day(4).into());
        assert!(after("Cancelled", vec![filled.clone(), ours.clone()]), "our own closing came after");
        let opened = doc! { "status": "Active", "granted_by": GRANTED_BY, "date": day(5) };
        assert!(!after("Cancelled", vec![filled, opened, ours.clone()]), "it was open again");
        assert!(!after("Cancelled", vec![ours]), "only ours");
        let closed = offer(OfferStatus::Cancelled, Some(day(3)), day(4));
        assert!(stands(&closed, "Filled", by("jobs.controller.v2", day(4).into())), "no other closing replaces it");
        assert!(!stands(&closed, "Cancelled", by("jobs.controller.v2", day(4).into())), "both sides agree");
        let anonymised = Offer { hides_contact: true, ..closed };
        assert!(!stands(&anonymised, "Filled", by("jobs.controller.v2", day(4).into())));
        let undated = offer(OfferStatus::Active, None, day(4));
        assert!(stands(&undated, "Filled", by("jobs.controller.v2", day(4).into())));
    }

    #[test]
    fn a_closing_without_a_date_stands_unless_the_job_is_later_than_the_offer() {
        let standing = |updated: DateTime| {
            let entry = doc! { "status": "Filled", "granted_by": "jobs.controller.v2" };
            let offer = doc! { "offer_status": "Filled", "updated_at": updated, HISTORY.as_str(): [entry] };
            RawDocumentBuf::try_from(&offer).unwrap()
        };
        let open = offer(OfferStatus::Active, Some(day(3)), day(4));
        for (updated, expected) in [(day(4), true), (day(3), true), (day(2), false)] {
            assert_eq!(closing_stands(&open, &standing(updated)), expected, "{updated}");
        }
    }

    #[test]
    fn a_closing_for_expiry_ends_with_a_later_end_of_the_job() {
        let by = |who: &str, reason: &str| doc! { "status": "Cancelled", "granted_by": who, "reason": reason, "date": day(4) };
        let ends = |end| offer(OfferStatus::Active, Some(day(3)), day(end));
        for (who, reason, is_expiry) in [
            ("expireJobsPartners", "?", true),
            ("x", "offre expirée (date dépassée)", true),
            ("application.service", "nombre maximum de candidatures atteint (80)", false),
        ] {
            assert!(stands(&ends(4), "Cancelled", by(who, reason)), "{who}");
            assert_eq!(stands(&ends(5), "Cancelled", by(who, reason)), !is_expiry, "{who}");
        }
    }

    #[test]
    fn the_date_of_an_offer_is_ours_when_our_last_entry_has_it() {
        let own = |entry: Document| {
            let history = RawDocumentBuf::try_from(&doc! { HISTORY.as_str(): [entry] }).unwrap();
            own_date(value::field(&history, HISTORY.as_str()), Some(day(7)))
        };
        let entry = |who: &str, date: DateTime| doc! { "status": "Cancelled", "granted_by": who, "date": date };
        assert_eq!(own(entry(GRANTED_BY, day(7))), Some(OwnDate::Other));
        assert_eq!(own(entry(GRANTED_BY, day(6))), None);
        assert_eq!(own(entry("application.service", day(7))), None);
        assert_eq!(own_date(None, None), None);
        let opening = |reason| doc! { "status": "Active", "granted_by": GRANTED_BY, "date": day(7), "reason": reason };
        assert_eq!(own(opening(ESTABLISHMENT_VERIFIED)), Some(OwnDate::OpenedByJob));
        assert_eq!(own(opening("changed in recruiter")), Some(OwnDate::Other), "the documents have that date");
    }
}
