//! Newest wins (spec 04): in `dual-write` the side with the later date is kept. Pure code. The comparison
//! ([`super::diff`]) tells whether the offer is newer, and this file decides what is written then. `phase::phase_table` turns
//! this on, and `apply::conflict_policy` applies it to a chunk. `write::statements` has the server decide once more at
//! the moment of the write. `apply::removal` follows the same rule for removals, `ticker::offer_and_job` for the time-based jobs,
//! and `apply::mirror::existing_jobs` for the mirror, in the other direction.

use bson::{RawDocument, RawDocumentBuf};

use super::diff::{OfferChange, names};

/// The same change without an `updated_at` that would go back, for `dual-write` (spec 09, "Dates"). A value that is no
/// date loses to a date.
#[must_use]
pub(crate) fn without_earlier_date(change: OfferChange) -> OfferChange {
    let OfferChange::Update { fields, retyped, status_changes, is_newer, stood } = change else { return change };
    let date = |document: &RawDocument| document.get_datetime("updated_at").ok();
    if date(&fields) >= date(&stood) || !names(&fields).any(|name| name == "updated_at") {
        return OfferChange::Update { fields, retyped, status_changes, is_newer, stood };
    }
    let mut kept = RawDocumentBuf::new();
    for (name, value) in fields.iter().flatten().filter(|(name, _)| *name != "updated_at") {
        kept.append(name, value);
    }
    if kept.is_empty() {
        return OfferChange::Nothing;
    }
    OfferChange::Update { fields: kept, retyped, status_changes, is_newer, stood }
}

/// Keeps what `dual-write` lets be written: nothing of an offer whose `updated_at` is later than the projection's, but
/// the contact of an anonymised user (`hides_contact`) is removed all the same. Returns also whether the offer is newer.
#[must_use]
pub fn unless_newer(change: OfferChange, hides_contact: bool) -> (OfferChange, bool) {
    let change = without_earlier_date(change);
    let OfferChange::Update { fields, is_newer: true, .. } = &change else {
        return (change, false);
    };
    let contact = hides_contact.then(|| only_contact(fields)).filter(|contact| !contact.is_empty());
    let kept = contact.map_or(OfferChange::Nothing, |fields| OfferChange::Update {
        fields,
        retyped: RawDocumentBuf::new(),
        status_changes: false,
        is_newer: true,
        stood: RawDocumentBuf::new(),
    });
    (kept, true)
}

/// Keeps the fields that can hold the contact of a person.
#[must_use]
fn only_contact(fields: &RawDocument) -> RawDocumentBuf {
    let mut contact = RawDocumentBuf::new();
    for (name, value) in fields.iter().flatten().filter(|(name, _)| CONTACT.contains(&name.as_str())) {
        contact.append(name, value);
    }
    contact
}

/// The fields of an offer that can hold the contact of a person.
pub(super) const CONTACT: [&str; 5] =
    ["apply_email", "apply_phone", "cfa_apply_email", "cfa_apply_phone", "delegations"];

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, doc, rawdoc};

    use super::*;

    #[test]
    fn the_date_that_stands_gives_way_only_to_a_date_that_is_not_earlier() {
        let date = |millis| Bson::DateTime(DateTime::from_millis(millis));
        for (projected, standing, is_written) in [
            (date(5), date(6), false),
            (date(6), date(6), true),
            (date(7), date(6), true),
            (Bson::Null, date(6), false),
            (Bson::String("2026".to_owned()), date(6), false),
            (Bson::Null, Bson::Int64(9), true),
            (date(5), Bson::Null, true),
        ] {
            let raw = |value: &Bson| RawDocumentBuf::try_from(&doc! { "updated_at": value }).unwrap();
            let change = OfferChange::Update {
                fields: raw(&projected),
                retyped: RawDocumentBuf::new(),
                status_changes: false,
                is_newer: false,
                stood: raw(&standing),
            };
            let written = without_earlier_date(change) != OfferChange::Nothing;
            assert_eq!(written, is_written, "{projected} over {standing}");
        }
    }

    #[test]
    fn only_what_carries_a_contact_is_kept_of_the_fields() {
        let fields = rawdoc! { "offer_title": "x", "apply_email": "y", "delegations": [], "updated_at": 1 };
        assert_eq!(names(&only_contact(&fields)).collect::<Vec<_>>(), ["apply_email", "delegations"]);
    }
}
