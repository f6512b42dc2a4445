//! A job and a recruiter for an offer that has none.

use bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};

use super::rules::{coordinates, job_status};
use crate::model::ids::JobId;
use crate::model::user_id::user_id;
use crate::model::value;
use crate::project::settings::ProjectionSettings;

/// The fields of a new job that it has even where the projection would give the same without them: another status of the
/// recruiter, or another date of it, must not change the offer later. The platform reads the others in each job.
const FIRST: [(&str, &str); 6] = [
    ("offer_creation", "job_creation_date"),
    ("updated_at", "job_update_date"),
    ("contract_type", "job_type"),
    ("offer_opening_count", "job_count"),
    ("job_prolongation_count", "job_prolongation_count"),
    // An offer that stands keeps its description of the establishment, and that of a new one comes from here.
    ("workplace_description", "job_employer_description"),
];

/// The beginning of a job for this offer. An offer without a known status has a closed job.
pub(super) fn first_fields(offer: &RawDocument, id: JobId) -> Document {
    let status = of(offer, "offer_status");
    let status = status.as_ref().and_then(job_status).unwrap_or("Annulée");
    let mut job = doc! { "_id": id, "job_status": status };
    for (field, name) in FIRST {
        job.extend(of(offer, field).map(|value| (name.to_owned(), value)));
    }
    job
}

/// The fields of a new recruiter that take the value of an offer's field as it is.
const COPIED: [(&str, &str); 13] = [
    ("establishment_id", "establishment_id"),
    ("workplace_siret", "establishment_siret"),
    ("workplace_legal_name", "establishment_raison_sociale"),
    ("workplace_brand", "establishment_enseigne"),
    ("workplace_size", "establishment_size"),
    ("offer_origin", "origin"),
    ("workplace_naf_code", "naf_code"),
    ("workplace_naf_label", "naf_label"),
    ("workplace_opco", "opco"),
    ("workplace_idcc", "idcc"),
    ("workplace_address_label", "address"),
    ("workplace_geopoint", "geopoint"),
    ("cfa_siret", "cfa_delegated_siret"),
];

/// A recruiter made from an offer and its user, without `_id` and `jobs`. The contact is that of the offer. The contact of
/// a delegated offer is the CFA's, so there the recruiter has the contact of the user.
#[must_use]
pub fn new_recruiter(offer: &RawDocument, user: Option<&RawDocument>, settings: &ProjectionSettings) -> Document {
    let mut recruiter = Document::new();
    for (field, name) in COPIED {
        recruiter.extend(of(offer, field).map(|value| (name.to_owned(), value)));
    }
    let mut put = |name: &str, value: Option<Bson>| recruiter.extend(value.map(|value| (name.to_owned(), value)));
    put("geo_coordinates", of(offer, "workplace_geopoint").as_ref().and_then(coordinates));
    let mut detail = Document::new();
    for (field, name) in [("workplace_address_zipcode", "code_postal"), ("workplace_address_city", "localite")] {
        detail.extend(offer.get(field).ok().flatten().and_then(owned).map(|value| (name.to_owned(), value)));
    }
    put("address_detail", Some(detail.into()));
    let is_delegated = of(offer, "is_delegated").unwrap_or(Bson::Boolean(false));
    let is_own_contact = is_delegated != Bson::Boolean(true);
    put("is_delegated", Some(is_delegated));
    let of_user = |name: &str| user.and_then(|user| of(user, name));
    for (field, name) in [("apply_email", "email"), ("apply_phone", "phone")] {
        put(name, if is_own_contact { of(offer, field) } else { of_user(name) });
    }
    let is_anonymised =
        of(offer, "apply_email").is_some_and(|email| email.as_str() == Some(&settings.anonymized_email));
    for name in ["first_name", "last_name"] {
        put(name, of_user(name).filter(|_| !is_anonymised));
    }
    put("status", Some(of(offer, "recruiter_status").unwrap_or_else(|| "Actif".into())));
    let manager = value::field(offer, "managed_by");
    put("managed_by", user_id(manager).map(|user| user.to_string().into()).or_else(|| manager.and_then(owned)));
    let date = |field: &str| value::field(offer, field).and_then(value::date);
    let created = date("created_at").or_else(|| date("offer_creation"));
    put("createdAt", created.map(DateTime::into));
    put("updatedAt", date("updated_at").max(created).map(DateTime::into));
    recruiter
}

/// The value of a field; `None` when it is nullish.
fn of(document: &RawDocument, field: &str) -> Option<Bson> {
    value::field(document, field).and_then(owned)
}

fn owned(value: RawBsonRef<'_>) -> Option<Bson> {
    Bson::try_from(value).ok()
}
