//! The unprojection (spec 10, "Unprojection"): what an offer says that its recruiter and its job do not say yet. It is the
//! projection read backwards, and it trusts nothing but the projection: what it gives was projected again. Pure code.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawDocument, doc};

use super::settings::ProjectionSettings;
use crate::model::References;
use crate::model::ids::JobId;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::value;

/// What an offer says that its job and its recruiter do not say yet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Unprojection {
    /// Fields of the job to set, by their name inside the job (`job_status`, …). A null value sets null.
    pub job: Document,
    /// Fields of the recruiter to set, by their name, which may have a dot (`address_detail.code_postal`).
    pub recruiter: Document,
    /// Fields of the offer that no edit can bring about, by their names in the offer.
    pub not_invertible: BTreeSet<&'static str>,
}

/// Says which edits of the job and of the recruiter make the projection give this offer.
#[must_use]
pub fn unproject(
    offer: &RawDocument,
    recruiter: &RecruiterFields<'_>,
    id: JobId,
    job: &JobFields<'_>,
    references: &References,
    settings: &ProjectionSettings,
) -> Unprojection {
    let mut said = Unprojection::default();
    let Ok(projected) = super::project(recruiter, id, job, references, settings) else { return said };
    let differs = |name: &str| {
        let wanted = value::field(offer, name);
        let same = match (wanted, value::field(&projected.fields, name)) {
            (Some(left), Some(right)) => value::same(left, right),
            (left, right) => left.is_none() && right.is_none(),
        };
        (!same).then(|| wanted.map_or(Bson::Null, |wanted| Bson::try_from(wanted).unwrap_or(Bson::Null)))
    };
    for (name, field) in [
        ("offer_title", "offer_title_custom"),
        ("updated_at", "job_update_date"),
        ("offer_description", "job_description"),
    ] {
        said.job.extend(differs(name).map(|value| (field.to_owned(), value)));
    }
    if differs("offer_status").is_some() {
        let status = match value::text(value::field(offer, "offer_status")) {
            Some("Filled") => "Pourvue",
            Some("Cancelled") => "Annulée",
            Some("Pending") => "En attente",
            _ => "Active",
        };
        said.job.insert("job_status", status);
    }
    for (name, field) in [("workplace_opco", "opco"), ("apply_email", "email"), ("apply_phone", "phone")] {
        said.recruiter.extend(differs(name).map(|value| (field.to_owned(), value)));
    }
    said.not_invertible
        .extend(differs("lba_url").filter(|_| !said.job.contains_key("offer_title_custom")).map(|_| "lba_url"));
    said
}

/// A job for an offer that has none, and the fields of the offer that the job cannot bring about.
#[must_use]
pub fn new_job(
    offer: &RawDocument,
    recruiter: &RecruiterFields<'_>,
    id: JobId,
    references: &References,
    settings: &ProjectionSettings,
) -> (Document, BTreeSet<&'static str>) {
    let said = unproject(
        offer,
        recruiter,
        id,
        &JobFields { job_status: Some("Active".into()), ..JobFields::default() },
        references,
        settings,
    );
    let mut job = doc! { "_id": id, "job_status": "Active" };
    job.extend(said.job);
    (job, said.not_invertible)
}

/// A recruiter made from an offer and its user, without `_id` and `jobs`.
#[must_use]
pub fn new_recruiter(offer: &RawDocument, _user: Option<&RawDocument>, _settings: &ProjectionSettings) -> Document {
    let mut recruiter = Document::new();
    for (name, field) in [
        ("establishment_id", "establishment_id"),
        ("workplace_siret", "establishment_siret"),
        ("workplace_legal_name", "establishment_raison_sociale"),
        ("workplace_address_label", "address"),
        ("workplace_geopoint", "geopoint"),
        ("apply_email", "email"),
        ("apply_phone", "phone"),
        ("managed_by", "managed_by"),
        ("recruiter_status", "status"),
        ("is_delegated", "is_delegated"),
    ] {
        let value = value::field(offer, name).and_then(|value| Bson::try_from(value).ok());
        recruiter.insert(field, value.unwrap_or(Bson::Null));
    }
    recruiter.insert("status", "Actif");
    recruiter
}
