//! What is written of a change that the server refuses: an offer that must close closes, whatever is wrong
//! with its other fields. Pure code.

use bson::RawDocumentBuf;

use super::diff::OfferChange;
use super::newest_wins::CONTACT;
use crate::model::Offer;

/// The closing of an offer without the other fields of its change, and with it the removal of an anonymised contact.
/// `None` for a change that closes nothing or has no other field.
#[must_use]
pub(crate) fn closing_alone(offer: &Offer, change: &OfferChange) -> Option<OfferChange> {
    let OfferChange::Update { fields, status_changes: true, is_newer, stood, .. } = change else { return None };
    if offer.status.is_open() {
        return None;
    }
    let is_kept =
        |name: &str| ["offer_status", "updated_at"].contains(&name) || offer.hides_contact && CONTACT.contains(&name);
    let mut kept = RawDocumentBuf::new();
    for (name, value) in fields.iter().flatten().filter(|(name, _)| is_kept(name.as_str())) {
        kept.append(name, value);
    }
    (kept.as_bytes().len() < fields.as_bytes().len()).then(|| OfferChange::Update {
        fields: kept,
        retyped: RawDocumentBuf::new(),
        status_changes: true,
        is_newer: *is_newer,
        stood: stood.clone(),
    })
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::model::OfferStatus;

    fn change(fields: RawDocumentBuf) -> OfferChange {
        OfferChange::Update {
            fields,
            retyped: rawdoc! { "offer_opening_count": 1.0 },
            status_changes: true,
            is_newer: false,
            stood: rawdoc! { "offer_status": "Active" },
        }
    }

    fn kept(offer: &Offer, fields: RawDocumentBuf) -> Option<RawDocumentBuf> {
        match closing_alone(offer, &change(fields))? {
            OfferChange::Update { fields, retyped, .. } => retyped.is_empty().then_some(fields),
            _ => None,
        }
    }

    #[test]
    fn a_closing_goes_without_the_other_fields_and_an_anonymised_contact_goes_with_it() {
        let closed = Offer { status: OfferStatus::Cancelled, ..Offer::with_fields(RawDocumentBuf::new()) };
        let fields = rawdoc! { "apply_email": "x", "offer_title": 7, "offer_status": "Cancelled", "updated_at": 1 };
        let status = rawdoc! { "offer_status": "Cancelled", "updated_at": 1 };
        assert_eq!(kept(&closed, fields.clone()), Some(status.clone()));
        let hidden = Offer { hides_contact: true, ..closed.clone() };
        let with_contact = rawdoc! { "apply_email": "x", "offer_status": "Cancelled", "updated_at": 1 };
        assert_eq!(kept(&hidden, fields.clone()), Some(with_contact));
        assert_eq!(kept(&closed, status), None, "the same statement would be refused again");
        let open = Offer { status: OfferStatus::Active, ..closed };
        assert_eq!(kept(&open, fields), None);
    }
}
