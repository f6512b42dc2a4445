//! The comparison of one offer: findings by kind and by name of field (spec 06, "Verification"). Pure code: it gets the
//! documents as arguments, and returns names and ids, never values.

use bson::{RawBsonRef, RawDocument};
use serde::Serialize;

use crate::model::ids::JobId;
use crate::model::{Offer, OfferStatus, value};
use crate::observe::labels::LabelValue;
use crate::project::WRITTEN;
use crate::project::diff::{OfferChange, compare, names};
use crate::project::newest_wins::without_earlier_date;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// A job that can be projected has no offer.
    MissingOffer,
    /// A field has another value than the projection.
    DifferingField,
    /// A projected field does not exist in the offer: the offer is older than the field.
    MissingField,
    /// The recruiter exists, its job disappeared, and the offer is not cancelled.
    StillActive,
    /// The recruiter does not exist, and our offer is not cancelled.
    Orphan,
    /// `managed_by` names neither a user nor an anonymised user.
    UnknownUser,
    /// `workplace_geopoint` is neither null nor a point in range.
    InvalidGeopoint,
    /// The offer of an anonymised recruiter or user still has a contact.
    PersonalData,
    /// The `_id` of a source document is no ObjectId, so the document cannot reach an offer.
    Undecodable,
}

impl DifferenceKind {
    pub const ALL: [Self; 9] = [
        Self::MissingOffer,
        Self::DifferingField,
        Self::MissingField,
        Self::StillActive,
        Self::Orphan,
        Self::UnknownUser,
        Self::InvalidGeopoint,
        Self::PersonalData,
        Self::Undecodable,
    ];

    /// The name in reports, in stored results and in labels of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingOffer => "missing_offer",
            Self::DifferingField => "differing_field",
            Self::MissingField => "missing_field",
            Self::StillActive => "still_active",
            Self::Orphan => "orphan",
            Self::UnknownUser => "unknown_user",
            Self::InvalidGeopoint => "invalid_geopoint",
            Self::PersonalData => "personal_data",
            Self::Undecodable => "undecodable",
        }
    }
}

/// One fault of one offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    pub kind: DifferenceKind,
    /// The `_id` of the offer, or of the job whose offer is missing.
    pub offer: JobId,
    /// The field of the offer; `None` when the fault is about no single field.
    pub field: Option<&'static str>,
    /// True when the fault comes from the recruiter. The offer equals its projection, so the fault is no difference.
    pub in_source: bool,
}

/// Further facts about an offer and its recruiter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ComparisonContext<'a> {
    /// The replacement of an anonymised address.
    pub anonymized_email: &'a str,
    /// True when the recruiter is in `anonymized_recruiters` and not deleted yet.
    pub recruiter_is_anonymized: bool,
    /// True when the recruiter's user was anonymised and is gone.
    pub user_is_anonymized: bool,
    /// True when the recruiter's user exists neither as a user nor as an anonymised user.
    pub user_is_unknown: bool,
    /// True when `managed_by` of the offer names neither a user nor an anonymised user.
    pub named_user_is_unknown: bool,
    /// True when an offer may be newer than its projection (spec 04, "Newest wins").
    pub newest_wins: bool,
}

/// The fields with the contact of a person.
pub(crate) const CONTACT: [&str; 4] = ["apply_email", "apply_phone", "cfa_apply_email", "cfa_apply_phone"];

/// Compares a projection with the existing offer.
#[must_use]
pub(crate) fn held(offer: &Offer, standing: Option<&RawDocument>, known: &ComparisonContext<'_>) -> Vec<Finding> {
    let finding = |kind, field| Finding { kind, offer: offer.id, field, in_source: false };
    let Some(standing) = standing else {
        return vec![finding(DifferenceKind::MissingOffer, None)];
    };
    if is_anonymised(offer, standing, known) {
        return Vec::new();
    }
    let change = compare(offer, Some(standing));
    let change = if known.newest_wins { without_earlier_date(change) } else { change };
    if known.newest_wins && matches!(change, OfferChange::Update { is_newer: true, .. }) {
        return Vec::new();
    }
    let point_is_invalid = !is_point_or_null(value::field(standing, "workplace_geopoint"));
    let mut findings = Vec::new();
    if change == OfferChange::OtherLabel {
        findings.push(finding(DifferenceKind::DifferingField, Some("partner_label")));
    }
    if let OfferChange::Update { fields, .. } = change {
        let stays = |field: &str| anonymised_by_itself(field, offer, standing, known);
        for field in names(&fields).filter(|field| !stays(field)).filter_map(written) {
            let kind = match field {
                _ if standing.get(field).is_ok_and(|stored| stored.is_none()) => DifferenceKind::MissingField,
                "workplace_geopoint" if point_is_invalid => DifferenceKind::InvalidGeopoint,
                "managed_by" if known.named_user_is_unknown => DifferenceKind::UnknownUser,
                "delegations" if known.user_is_anonymized => DifferenceKind::PersonalData,
                _ if known.user_is_anonymized && CONTACT.contains(&field) => DifferenceKind::PersonalData,
                _ => DifferenceKind::DifferingField,
            };
            findings.push(finding(kind, Some(field)));
        }
    }
    // These faults are reported also where the offer equals its projection: then the recruiter has the fault too.
    let faults = [
        (point_is_invalid, DifferenceKind::InvalidGeopoint, "workplace_geopoint"),
        (known.named_user_is_unknown, DifferenceKind::UnknownUser, "managed_by"),
    ];
    for (is_wrong, kind, field) in faults {
        if is_wrong && !findings.iter().any(|finding| finding.field == Some(field)) {
            findings.push(Finding { in_source: true, ..finding(kind, Some(field)) });
        }
    }
    findings
}

/// The personal data that the offer of an anonymised person still has. The offer of a recruiter loses more fields than
/// the offer of a user (spec 03).
#[must_use]
pub(crate) fn contact_left(
    id: JobId,
    standing: &RawDocument,
    anonymized_email: &str,
    is_of_recruiter: bool,
) -> Vec<Finding> {
    let is_left = |field: &&str| !is_clean(value::field(standing, field), anonymized_email);
    let contact = CONTACT.into_iter().filter(is_left);
    let texts = ["apply_url", "offer_description", "workplace_description"].into_iter();
    let texts = texts.filter(|field| is_of_recruiter && value::non_empty(value::field(standing, field)).is_some());
    contact
        .chain(texts)
        .map(|field| Finding { kind: DifferenceKind::PersonalData, offer: id, field: Some(field), in_source: false })
        .collect()
}

/// The fault of an offer whose job no recruiter has; `None` when the offer is cancelled.
#[must_use]
pub(crate) fn without_job(id: JobId, standing: &RawDocument, recruiter_is_there: bool) -> Option<Finding> {
    let kind = if recruiter_is_there { DifferenceKind::StillActive } else { DifferenceKind::Orphan };
    let field = Some("offer_status");
    lives(standing).then_some(Finding { kind, offer: id, field, in_source: false })
}

/// True when the offer is not `Cancelled`.
#[must_use]
pub(crate) fn lives(standing: &RawDocument) -> bool {
    value::text(value::field(standing, "offer_status")) != Some(OfferStatus::Cancelled.as_str())
}

/// True when the offer may differ from its projection, because the recruiter is being anonymised and the offer already is.
fn is_anonymised(offer: &Offer, standing: &RawDocument, known: &ComparisonContext<'_>) -> bool {
    let is_anonymised =
        || !lives(standing) && contact_left(offer.id, standing, known.anonymized_email, true).is_empty();
    known.recruiter_is_anonymized && is_anonymised()
}

/// True when the user is gone and this field of the offer was anonymised with the user. The projection may not know it.
fn anonymised_by_itself(field: &str, offer: &Offer, standing: &RawDocument, known: &ComparisonContext<'_>) -> bool {
    let user_is_gone = known.user_is_anonymized || known.user_is_unknown;
    let email = value::text(value::field(standing, "apply_email"));
    let has_gone = user_is_gone && email == Some(known.anonymized_email);
    match field {
        // The contact was that of a CFA's user. The projection hides every address, because it does not know which one
        // was the user's.
        "delegations" if known.user_is_anonymized => {
            has_gone && value::field(&offer.fields, "cfa_apply_email").is_some()
        }
        "delegations" => has_gone && differ_by_anonymised_only(&offer.fields, standing, known.anonymized_email),
        // The offer of a user who is gone was cancelled.
        "offer_status" | "updated_at" | "managed_by" => has_gone && !lives(standing),
        _ => has_gone && CONTACT.contains(&field) && is_clean(value::field(standing, field), known.anonymized_email),
    }
}

/// True when the delegations equal those of the projection, except for anonymised addresses.
fn differ_by_anonymised_only(projected: &RawDocument, standing: &RawDocument, anonymized_email: &str) -> bool {
    let delegations = |document| value::list(value::field(document, "delegations")).into_iter().flatten().flatten();
    let same = |(projected, standing): (RawBsonRef<'_>, RawBsonRef<'_>)| {
        let (Some(projected), Some(standing)) = (projected.as_document(), standing.as_document()) else {
            return value::same(projected, standing);
        };
        let mut fields = projected.iter().flatten().zip(standing.iter().flatten());
        projected.iter().count() == standing.iter().count()
            && fields.all(|((name, projected), (other, standing))| {
                let is_anonymised = name == "email" && standing.as_str() == Some(anonymized_email);
                name == other && (is_anonymised || value::same(projected, standing))
            })
    };
    delegations(projected).count() == delegations(standing).count()
        && delegations(projected).zip(delegations(standing)).all(same)
}

fn is_clean(contact: Option<RawBsonRef<'_>>, anonymized_email: &str) -> bool {
    value::non_empty(contact).is_none_or(|contact| contact.as_str() == Some(anonymized_email))
}

fn is_point_or_null(point: Option<RawBsonRef<'_>>) -> bool {
    let Some(point) = point else {
        return true;
    };
    let Some(point) = point.as_document() else {
        return false;
    };
    let number = |value: RawBsonRef<'_>| {
        let integer = value.as_i32().map(f64::from);
        #[expect(clippy::cast_precision_loss, reason = "degrees are small")]
        let long = value.as_i64().map(|number| number as f64);
        value.as_f64().or(integer).or(long)
    };
    let coordinates = value::list(value::field(point, "coordinates"));
    let coordinates: Vec<f64> = coordinates.into_iter().flatten().flatten().filter_map(number).collect();
    let in_range = matches!(coordinates.as_slice(), [longitude, latitude]
        if longitude.abs() <= 180.0 && latitude.abs() <= 90.0);
    value::text(value::field(point, "type")) == Some("Point") && in_range
}

/// The same name from [`WRITTEN`], which lives as long as the program.
fn written(field: &str) -> Option<&'static str> {
    WRITTEN.iter().map(|name| name.as_str()).find(|name| *name == field)
}

impl LabelValue for DifferenceKind {
    fn label(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, oid::ObjectId, rawdoc};

    use super::*;

    #[test]
    fn a_point_has_a_type_and_two_numbers_in_range() {
        let point = |coordinates: &[f64]| {
            let coordinates: bson::raw::RawArrayBuf = coordinates.iter().copied().collect();
            rawdoc! { "type": "Point", "coordinates": coordinates }
        };
        for (point, expected) in [
            (point(&[2.35, 48.85]), true),
            (rawdoc! { "type": "Point", "coordinates": [2, 48_i64] }, true),
            (point(&[200.0, 48.85]), false),
            (point(&[2.35, f64::NAN]), false),
            (point(&[2.35]), false),
            (rawdoc! { "type": "Polygon", "coordinates": [2.35, 48.85] }, false),
            (rawdoc! {}, false),
        ] {
            assert_eq!(is_point_or_null(Some(RawBsonRef::Document(&point))), expected, "{point:?}");
        }
        assert!(is_point_or_null(None));
        assert!(!is_point_or_null(Some(RawBsonRef::String("48.85,2.35"))));
    }

    #[test]
    fn of_a_user_who_is_gone_delegations_may_differ_by_anonymised_addresses_and_by_nothing_else() {
        let delegation = |siret: &str, email: &str| rawdoc! { "siret_code": siret, "email": email };
        let offer = |delegations: &[RawDocumentBuf]| {
            let delegations: bson::raw::RawArrayBuf = delegations.iter().collect();
            rawdoc! { "apply_email": "gone", "delegations": delegations }
        };
        let projected = offer(&[delegation("1", "a@b"), delegation("2", "c@d")]);
        for (standing, expected) in [
            (offer(&[delegation("1", "gone"), delegation("2", "c@d")]), true),
            (offer(&[delegation("1", "gone"), delegation("2", "x@y")]), false),
            (offer(&[delegation("3", "gone"), delegation("2", "c@d")]), false),
            (offer(&[delegation("1", "gone")]), false),
        ] {
            assert_eq!(differ_by_anonymised_only(&projected, &standing, "gone"), expected, "{standing:?}");
        }
    }

    #[test]
    fn an_anonymised_contact_is_none_and_that_of_a_recruiter_includes_its_texts() {
        let id = JobId(ObjectId::new());
        let clean = rawdoc! { "apply_email": "gone", "apply_phone": null, "offer_description": "" };
        assert!(contact_left(id, &clean, "gone", true).is_empty());
        let left = rawdoc! { "apply_email": "a@b", "apply_url": "x", "cfa_apply_phone": "1" };
        let fields = |is_of_recruiter| {
            let left = contact_left(id, &left, "gone", is_of_recruiter);
            left.iter().filter_map(|finding| finding.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(false), ["apply_email", "cfa_apply_phone"]);
        assert_eq!(fields(true), ["apply_email", "cfa_apply_phone", "apply_url"]);
    }

    #[test]
    fn an_offer_without_job_is_right_once_it_is_cancelled() {
        let id = JobId(ObjectId::new());
        let kind = |status: &str, there| without_job(id, &rawdoc! { "offer_status": status }, there).map(|it| it.kind);
        assert_eq!(kind("Cancelled", true), None);
        assert_eq!(kind("Active", true), Some(DifferenceKind::StillActive));
        assert_eq!(kind("Filled", false), Some(DifferenceKind::Orphan));
    }
}
