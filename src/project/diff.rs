//! Compares a projected offer with the existing offer. Only differing fields are written (spec 03,
//! "Comparing before writing"). Pure code.

use bson::raw::{CStr, cstr};
use bson::{DateTime, RawBsonRef, RawDocument, RawDocumentBuf};

use super::closing::{HISTORY, OwnDate, closing_stands, is_closed_by_us, is_closed_elsewhere, own_date};
use super::written_fields::{WRITTEN, has_same_bytes, place, placed};
use crate::model::{Offer, value};

/// The necessary write for one offer.
#[derive(Debug, Clone, PartialEq)]
pub enum OfferChange {
    /// There is no offer: all fields are written, also those that only a creation writes.
    Create,
    Update {
        /// The differing fields with their new values.
        fields: RawDocumentBuf,
        /// Numbers that are equal but have another type than in the projection. They are no difference and no reason to
        /// write. But a validator checks the whole offer, so a write also brings them to the type of the projection.
        retyped: RawDocumentBuf,
        /// True when `fields` has `offer_status`. The history then gets an entry.
        status_changes: bool,
        /// True when `updated_at` of the existing offer is later than that of the projection (spec 04, "Newest wins").
        /// A missing date is not later, nor is the date of our own last change of the status. Nor is the date of an offer
        /// that was created closed and differs in nothing but its status: no other writer gave it that date.
        is_newer: bool,
        /// `offer_status` and `updated_at` of the existing offer, if it has them. Any other writer of offers changes
        /// one of the two, or adds an entry to the history. For a change that reopens the offer, the last entry is here
        /// too, as [`HISTORY`].
        stood: RawDocumentBuf,
    },
    /// The existing offer has another label, so nothing may be written (spec 09, "Label").
    OtherLabel,
    /// No field differs.
    Nothing,
}

/// Compares a projection with the existing offer. Fields that the projection does not write are ignored. Numbers are
/// compared by value (spec 01: the source mixes int32, int64, double). A closing by somebody else may stand.
#[must_use]
pub fn compare(offer: &Offer, standing: Option<&RawDocument>) -> OfferChange {
    standing.map_or(OfferChange::Create, |standing| compare_existing(offer, standing).0)
}

/// Compares a projection with the existing offer, as [`compare`]. Returns also whether a closing by somebody else stands.
pub(crate) fn compare_existing(offer: &Offer, standing: &RawDocument) -> (OfferChange, bool) {
    if has_same_bytes(offer, standing) {
        return (OfferChange::Nothing, false);
    }
    let existing = Existing::read(standing);
    let label = cstr!("partner_label");
    let labels = existing.get(label).zip(offer.fields.get(label).ok().flatten());
    if !labels.is_some_and(|(standing, ours)| value::same(standing, ours)) {
        return (OfferChange::OtherLabel, false);
    }
    let expected = Expected::of(offer, &existing);
    let (mut fields, mut retyped) = (RawDocumentBuf::new(), RawDocumentBuf::new());
    // A field that the target's schema omits is not in the projection. The others have the order of `WRITTEN`.
    let mut stored = WRITTEN.iter().zip(existing.stored);
    for (name, projected) in offer.fields.iter().flatten() {
        let stored = stored.find(|(written, _)| **written == name).and_then(|(_, stored)| stored);
        let projected = match name.as_str() {
            "offer_status" if !expected.status_changes => continue,
            "updated_at" => expected.updated_at.map_or(projected, RawBsonRef::DateTime),
            _ => projected,
        };
        match stored {
            Some(stored) if !value::same(stored, projected) => fields.append(name, projected),
            None => fields.append(name, projected),
            Some(stored) if stored.element_type() != projected.element_type() => retyped.append(name, projected),
            Some(_) => {}
        }
    }
    if fields.is_empty() {
        return (OfferChange::Nothing, expected.closing_stands);
    }
    let mut stood = RawDocumentBuf::new();
    for name in DECIDES {
        existing.get(name).into_iter().for_each(|value| stood.append(name, value));
    }
    if expected.status_changes && offer.status.is_open() {
        let last = value::list(existing.history).and_then(|history| history.into_iter().flatten().last());
        stood.append(HISTORY, last.unwrap_or(RawBsonRef::Null));
    }
    let Expected { status_changes, closing_stands, .. } = expected;
    // Where offers show the status of the recruiter, it must have changed. Else an application may have closed the offer
    // without an entry in the history.
    let follows_recruiter = offer.schema.omits(RECRUITER_STATUS) || names(&fields).any(|name| name == RECRUITER_STATUS);
    let only_follows = expected.follows && follows_recruiter && names(&fields).all(|name| STATUS.contains(&name));
    let is_newer = expected.is_newer && !only_follows;
    (OfferChange::Update { fields, retyped, status_changes, is_newer, stood }, closing_stands)
}

/// An existing offer. The order of stored fields is arbitrary, so they are put into the order of the projection.
struct Existing<'a> {
    document: &'a RawDocument,
    stored: [Option<RawBsonRef<'a>>; WRITTEN.len()],
    history: Option<RawBsonRef<'a>>,
}

impl<'a> Existing<'a> {
    fn read(document: &'a RawDocument) -> Self {
        let (mut stored, mut history) = ([None; WRITTEN.len()], None);
        for (place, name, value) in placed(document) {
            match place.and_then(|place| stored.get_mut(place)) {
                Some(slot) => *slot = Some(value),
                None if name == HISTORY => history = Some(value),
                None => {}
            }
        }
        Self { document, stored, history }
    }

    fn get(&self, name: &CStr) -> Option<RawBsonRef<'a>> {
        place(name.as_str()).and_then(|place| self.stored.get(place).copied().flatten())
    }
}

/// The values that depend on the existing offer.
struct Expected {
    status_changes: bool,
    closing_stands: bool,
    /// True when the status follows a change that is later than the offer: the offer opens, or our own closing ends.
    follows: bool,
    is_newer: bool,
    /// The later `updated_at` that stays: that of a closing, or that of our own change of the status. `None` for the
    /// date of the projection.
    updated_at: Option<DateTime>,
}

impl Expected {
    fn of(offer: &Offer, existing: &Existing<'_>) -> Self {
        let status = existing.get(cstr!("offer_status"));
        let differs = !status.is_some_and(|status| value::same(status, offer.status.as_str().into()));
        let closing_stands = differs && closing_stands(offer, existing.document);
        let status_changes = differs && !closing_stands;
        let stands = existing.get(cstr!("updated_at")).and_then(RawBsonRef::as_datetime);
        let projected = offer.fields.get_datetime("updated_at").ok();
        let is_later = projected.is_some() && stands > projected;
        // The history matters only for an offer with a later date. To read it each time would be slow.
        let own = if is_later { own_date(existing.history, stands) } else { None };
        // An offer has the date of its documents again, unless they do not have it: where a user is anonymised, or a
        // time-based job opened the offer.
        let has_no_other = own.is_some() && offer.hides_contact || own == Some(OwnDate::OpenedByJob);
        let keeps_own = has_no_other && !status_changes;
        // The job may be closed too by now, for instance by `cancel-expired-offers`. The date of the closing stays.
        let stays_closed = !status_changes && !offer.status.is_open();
        let is_of_closing = is_later && stays_closed && is_closed_elsewhere(existing.history);
        let keeps_date = is_later && (closing_stands || keeps_own || is_of_closing);
        let is_later_change = stands.is_some_and(|stands| offer.status_change.date > stands);
        // A closing by somebody else no longer counts here: its job was edited after it, or it would stand.
        let is_ours = offer.status.is_open() || is_closed_by_us(existing.history);
        Self {
            status_changes,
            closing_stands,
            follows: status_changes && is_later_change && is_ours,
            is_newer: is_later && own.is_none(),
            updated_at: stands.filter(|_| keeps_date),
        }
    }
}

/// The fields that follow the status of the recruiter and of the job.
const STATUS: [&str; 3] = ["offer_status", RECRUITER_STATUS, "updated_at"];
const RECRUITER_STATUS: &str = "recruiter_status";

/// The fields of the existing offer on which the decision about a write rests.
pub(crate) const DECIDES: [&CStr; 2] = [cstr!("updated_at"), cstr!("offer_status")];

/// The names of the fields, for reports that must not show values.
pub(crate) fn names(fields: &RawDocument) -> impl Iterator<Item = &str> {
    fields.iter().flatten().map(|(name, _): (_, RawBsonRef<'_>)| name.as_str())
}

#[cfg(test)]
mod tests {

    use bson::{Bson, DateTime, RawBson, doc, oid::ObjectId, rawdoc};

    use super::super::newest_wins::without_earlier_date;
    use super::*;

    fn offer() -> Offer {
        let mut fields = RawDocumentBuf::new();
        for (number, name) in (0_i32..).zip(WRITTEN) {
            match name.as_str() {
                "offer_status" => fields.append(name, "Active"),
                _ => fields.append(name, number),
            }
        }
        Offer::with_fields(fields)
    }

    #[test]
    fn no_offer_that_stands_means_create() {
        assert_eq!(compare(&offer(), None), OfferChange::Create);
    }

    #[test]
    fn the_same_values_in_another_order_with_other_number_types_and_foreign_fields_change_nothing() {
        let mut standing = rawdoc! { "rank": 3, "_id": ObjectId::new() };
        for (number, name) in (0_i64..).zip(WRITTEN).collect::<Vec<_>>().into_iter().rev() {
            match name.as_str() {
                "offer_status" => standing.append(name, "Active"),
                _ => standing.append(name, number),
            }
        }
        assert_eq!(compare(&offer(), Some(&standing)), OfferChange::Nothing);
    }

    #[test]
    fn equal_numbers_of_another_type_are_kept_apart_from_the_difference() {
        let mut standing = rawdoc! {};
        for (number, name) in (0_i64..).zip(WRITTEN) {
            match name.as_str() {
                "offer_status" => standing.append(name, "Active"),
                "updated_at" => standing.append(name, DateTime::from_millis(2_000)),
                "partner_label" => standing.append(name, 0),
                "contract_duration" => standing.append(name, number),
                _ => standing.append(name, i32::try_from(number).unwrap()),
            }
        }
        let mut projected = offer();
        projected.fields = RawDocumentBuf::new();
        for (name, value) in offer().fields.iter().flatten() {
            match name.as_str() {
                "updated_at" => projected.fields.append(name, DateTime::from_millis(1_000)),
                _ => projected.fields.append(name, value),
            }
        }
        let change = compare(&projected, Some(&standing));
        let OfferChange::Update { fields, retyped, .. } = &change else { panic!("{change:?}") };
        let [fields, others] = [fields, retyped].map(|fields| names(fields).collect::<Vec<_>>());
        assert_eq!((fields, others), (vec!["updated_at"], vec!["contract_duration"]));
        let duration = retyped.get("contract_duration").unwrap().unwrap();
        assert_eq!(duration.element_type(), bson::spec::ElementType::Int32);
        assert_eq!(without_earlier_date(change), OfferChange::Nothing, "nothing differs but a date that would go back");
    }

    #[test]
    fn an_offer_as_it_was_created_is_equal_and_each_changed_field_is_seen() {
        let created = |changed: Option<&CStr>| {
            let mut existing = rawdoc! { "_id": ObjectId::new() };
            for (name, value) in offer().fields.iter().flatten() {
                if changed == Some(name) { existing.append(name, "changed") } else { existing.append(name, value) }
            }
            existing.append(cstr!("rank"), 3);
            existing
        };
        assert!(has_same_bytes(&offer(), &created(None)));
        assert_eq!(compare(&offer(), Some(&created(None))), OfferChange::Nothing);
        for name in WRITTEN.into_iter().filter(|name| *name != "partner_label") {
            let change = compare(&offer(), Some(&created(Some(name))));
            let OfferChange::Update { fields, .. } = &change else { panic!("{name}: {change:?}") };
            assert_eq!(names(fields).collect::<Vec<_>>(), [name.as_str()]);
        }
    }

    #[test]
    fn bytes_count_only_behind_an_object_id() {
        let mut existing = rawdoc! { "_id": "twelve bytes" };
        offer().fields.iter().flatten().for_each(|(name, value): (&CStr, RawBsonRef<'_>)| existing.append(name, value));
        assert!(!has_same_bytes(&offer(), &existing));
        assert_eq!(compare(&offer(), Some(&existing)), OfferChange::Nothing, "field by field it is equal");
        assert!(!has_same_bytes(&offer(), &rawdoc! {}));
    }

    #[test]
    fn an_offer_under_another_label_or_none_is_not_ours_to_change() {
        assert_eq!(compare(&offer(), Some(&rawdoc! { "partner_label": "another" })), OfferChange::OtherLabel);
        assert_eq!(compare(&offer(), Some(&rawdoc! { "offer_status": "Active" })), OfferChange::OtherLabel);
    }

    #[test]
    fn only_what_differs_or_is_missing_is_set() {
        let mut standing = RawDocumentBuf::new();
        for (number, name) in (0_i32..).zip(WRITTEN) {
            match name.as_str() {
                "mer_sent" => {}
                "offer_status" => standing.append(name, "Filled"),
                _ => standing.append(name, number),
            }
        }
        let OfferChange::Update { fields, status_changes, .. } = compare(&offer(), Some(&standing)) else {
            panic!("two fields differ");
        };
        assert!(status_changes);
        assert_eq!(names(&fields).collect::<Vec<_>>(), ["offer_status", "mer_sent"]);
    }

    #[test]
    fn only_a_later_date_makes_the_offer_that_stands_newer() {
        let date = |millis| Bson::DateTime(DateTime::from_millis(millis));
        for (projected, standing, newer) in [
            (date(5), date(6), true),
            (date(5), date(4), false),
            (date(5), Bson::Null, false),
            (date(5), Bson::Int64(9), false),
            (Bson::Null, date(6), false),
        ] {
            let mut offer = offer();
            offer.fields = WRITTEN.iter().fold(RawDocumentBuf::new(), |mut fields, name| {
                match name.as_str() {
                    "updated_at" => fields.append(*name, RawBson::try_from(projected.clone()).unwrap()),
                    _ => fields.append(*name, 1),
                }
                fields
            });
            let document = RawDocumentBuf::try_from(&doc! { "partner_label": 1, "updated_at": &standing }).unwrap();
            let OfferChange::Update { is_newer, .. } = compare(&offer, Some(&document)) else { panic!("it differs") };
            assert_eq!(is_newer, newer, "{projected} against {standing}");
        }
    }
}
