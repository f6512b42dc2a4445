//! The names of the offer's fields (spec 02). The live schema refuses any other field.

use std::collections::HashMap;
use std::sync::LazyLock;

use bson::raw::{CStr, RawArrayBuf, RawDocumentBuf, cstr};
use bson::{RawBson, RawBsonRef, RawDocument};

use crate::model::Offer;
use crate::observe::labels::{LabelValue, OTHER};

/// The fields that every projection writes, in the order of the table of spec 02.
pub const WRITTEN: [&CStr; 55] = [
    cstr!("partner_label"),
    cstr!("partner_job_id"),
    cstr!("created_at"),
    cstr!("updated_at"),
    cstr!("is_delegated"),
    cstr!("job_status_comment"),
    cstr!("job_delegation_count"),
    cstr!("delegations"),
    cstr!("contract_start"),
    cstr!("contract_duration"),
    cstr!("contract_type"),
    cstr!("contract_is_disabled_elligible"),
    cstr!("contract_rythm"),
    cstr!("workplace_legal_name"),
    cstr!("workplace_brand"),
    cstr!("workplace_siret"),
    cstr!("workplace_geopoint"),
    cstr!("workplace_address_label"),
    cstr!("workplace_address_zipcode"),
    cstr!("workplace_address_city"),
    cstr!("workplace_opco"),
    cstr!("workplace_idcc"),
    cstr!("workplace_naf_code"),
    cstr!("workplace_naf_label"),
    cstr!("workplace_size"),
    cstr!("apply_email"),
    cstr!("apply_phone"),
    cstr!("offer_origin"),
    cstr!("offer_target_diploma"),
    cstr!("offer_desired_skills"),
    cstr!("offer_to_be_acquired_skills"),
    cstr!("offer_to_be_acquired_knowledge"),
    cstr!("offer_access_conditions"),
    cstr!("offer_title"),
    cstr!("offer_rome_codes"),
    cstr!("offer_rome_appellation"),
    cstr!("offer_description"),
    cstr!("offer_creation"),
    cstr!("offer_expiration"),
    cstr!("offer_status"),
    cstr!("offer_opening_count"),
    cstr!("lba_url"),
    cstr!("cfa_siret"),
    cstr!("cfa_legal_name"),
    cstr!("cfa_address_label"),
    cstr!("cfa_apply_email"),
    cstr!("cfa_apply_phone"),
    cstr!("managed_by"),
    cstr!("establishment_id"),
    cstr!("recruiter_status"),
    cstr!("relance_mail_expiration_J7"),
    cstr!("relance_mail_expiration_J1"),
    cstr!("job_last_prolongation_date"),
    cstr!("job_prolongation_count"),
    cstr!("mer_sent"),
];

static PLACES: LazyLock<HashMap<&'static str, usize>> =
    LazyLock::new(|| WRITTEN.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect());

/// True for a field that only repeats others: the public link has the `_id` and the title in words. While applications are
/// the authority, its value may be of an earlier title, and nothing is lost with it.
pub(crate) fn is_repetition(name: &str) -> bool {
    name == "lba_url"
}

/// The index of `name` in [`WRITTEN`]; `None` for a field that the projection does not write.
pub(super) fn place(name: &str) -> Option<usize> {
    PLACES.get(name).copied()
}

/// The fields of an offer, each with its index in [`WRITTEN`]. The place behind that of the field before is looked at
/// first: most offers have their fields in this order, and a look-up costs several times as much.
pub(super) fn placed(offer: &RawDocument) -> impl Iterator<Item = (Option<usize>, &CStr, RawBsonRef<'_>)> {
    let mut next = 0;
    offer.iter().flatten().map(move |(name, value)| {
        let is_next = WRITTEN.get(next).is_some_and(|written| *written == name);
        let place = if is_next { Some(next) } else { place(name.as_str()) };
        next = place.map_or(next, |place| place + 1);
        (place, name, value)
    })
}

/// The place of the first field behind `_id` in the bytes of an offer: its length, and the type, the name and the value
/// of an ObjectId (BSON specification).
const BEHIND_ID: usize = 4 + 1 + b"_id\0".len() + 12;

/// True when the existing offer has all fields of the projection with the same bytes and in the same order behind `_id`.
/// The service creates offers so, and an update leaves each field at its place. To read two documents field by field
/// costs many times as much. False says nothing.
#[must_use]
pub(crate) fn has_same_bytes(offer: &Offer, existing: &RawDocument) -> bool {
    let (projected, existing) = (offer.fields.as_bytes(), existing.as_bytes());
    // The length at the begin and the zero at the end belong to the document, not to its fields.
    let fields = projected.get(4..projected.len().saturating_sub(1)).unwrap_or_default();
    let begins_with_id = existing.get(4..9) == Some(b"\x07_id\0");
    begins_with_id && existing.get(BEHIND_ID..).is_some_and(|stored| stored.starts_with(fields))
}

/// The values of an offer at the places of [`WRITTEN`].
pub(super) type Values<'a> = [Option<RawBsonRef<'a>>; WRITTEN.len()];

/// The values at the places of [`WRITTEN`]: the order of stored fields is arbitrary.
pub(super) fn in_order(offer: &RawDocument) -> Values<'_> {
    let mut values = [None; WRITTEN.len()];
    for (place, _, value) in placed(offer) {
        if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
            *slot = Some(value);
        }
    }
    values
}

/// The fields that are written only when the offer is created. Other processes enrich them later, so they are never
/// overwritten (spec 02).
#[must_use]
pub(crate) fn on_insert(offer: &Offer) -> RawDocumentBuf {
    let mut fields = RawDocumentBuf::new();
    for name in ON_INSERT.into_iter().filter(|name| !offer.schema.omits(name.as_str())) {
        match name.as_str() {
            "stats_detail_view" | "stats_search_view" | "stats_postuler" => fields.append(name, 0_i32),
            "offer_status_history" => fields.append(name, RawBson::Array(RawArrayBuf::new())),
            "offer_multicast" => fields.append(name, true),
            "workplace_description" => fields.append(name, offer.workplace_description.as_raw_bson_ref()),
            _ => fields.append(name, RawBsonRef::Null),
        }
    }
    fields
}

/// The names of all fields that the service writes, in the order of the specification.
pub(crate) fn all_written() -> impl Iterator<Item = &'static str> + Clone {
    WRITTEN.iter().chain(&ON_INSERT).map(|name| name.as_str())
}

/// Fields that other processes of the platform write, and the service never.
const OF_OTHERS: [&str; 4] = ["applicationCount", "apply_recipient_id", "duplicates", "rank"];

/// The name of an offer's field, as a label. A field that the platform's model does not name is [`OTHER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FieldLabel(&'static str);

impl FieldLabel {
    /// The label of the field that holds `path`, which is `None` where the name is unknown.
    pub(crate) fn of(path: Option<&str>) -> Self {
        let field = path.and_then(|path| path.split('.').next());
        Self(all_written().chain(OF_OTHERS).find(|name| Some(*name) == field).unwrap_or(OTHER))
    }
}

impl LabelValue for FieldLabel {
    fn label(self) -> &'static str {
        self.0
    }
}

/// The fields that are written only when the offer is created.
const ON_INSERT: [&CStr; 11] = [
    cstr!("stats_detail_view"),
    cstr!("stats_search_view"),
    cstr!("stats_postuler"),
    cstr!("offer_status_history"),
    cstr!("offer_multicast"),
    cstr!("workplace_description"),
    cstr!("contract_remote"),
    cstr!("workplace_address_street_label"),
    cstr!("workplace_name"),
    cstr!("workplace_website"),
    cstr!("apply_url"),
];
