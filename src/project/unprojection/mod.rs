//! The unprojection (spec 10, "Unprojection"): what an offer says that its recruiter and its job do not say yet. It is the
//! projection read backwards, and it trusts nothing but the projection: what it gives was projected again. Pure code.

use std::collections::BTreeSet;

use bson::{Document, RawDocument};

use super::settings::ProjectionSettings;
use crate::model::References;
use crate::model::ids::JobId;
use crate::model::recruiter::{JobFields, RecruiterFields};

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
    _offer: &RawDocument,
    _recruiter: &RecruiterFields<'_>,
    _id: JobId,
    _job: &JobFields<'_>,
    _references: &References,
    _settings: &ProjectionSettings,
) -> Unprojection {
    Unprojection::default()
}

/// A job for an offer that has none, and the fields of the offer that the job cannot bring about.
#[must_use]
pub fn new_job(
    _offer: &RawDocument,
    _recruiter: &RecruiterFields<'_>,
    id: JobId,
    _references: &References,
    _settings: &ProjectionSettings,
) -> (Document, BTreeSet<&'static str>) {
    (bson::doc! { "_id": id }, BTreeSet::new())
}

/// A recruiter made from an offer and its user, without `_id` and `jobs`.
#[must_use]
pub fn new_recruiter(_offer: &RawDocument, _user: Option<&RawDocument>, _settings: &ProjectionSettings) -> Document {
    Document::new()
}
