//! A recruiter and its embedded jobs (spec 01, "`recruiters`"), borrowed from the raw document.
//! The projection decides whether a recruiter is projected, not this file.

use std::collections::BTreeMap;

use bson::raw::CStr;
use bson::{RawBsonRef, RawDocument};

use super::decode::borrowed_fields;
use super::ids::{JobId, RecruiterId};
use super::value;

/// The fields of a recruiter that its offers hold (spec 02).
pub(crate) const OFFERED_FIELDS: [&str; 21] = [
    "establishment_id",
    "establishment_siret",
    "establishment_raison_sociale",
    "establishment_enseigne",
    "establishment_size",
    "establishment_location",
    "origin",
    "naf_code",
    "naf_label",
    "opco",
    "idcc",
    "address",
    "address_detail",
    "geo_coordinates",
    "geopoint",
    "is_delegated",
    "cfa_delegated_siret",
    "phone",
    "email",
    "status",
    "managed_by",
];

borrowed_fields! {
    /// The fields of a recruiter that the projection reads.
    pub struct RecruiterFields {
        id: "_id",
        establishment_id: "establishment_id",
        establishment_siret: "establishment_siret",
        establishment_raison_sociale: "establishment_raison_sociale",
        establishment_enseigne: "establishment_enseigne",
        establishment_size: "establishment_size",
        /// Only in old documents.
        establishment_location: "establishment_location",
        origin: "origin",
        naf_code: "naf_code",
        naf_label: "naf_label",
        opco: "opco",
        idcc: "idcc",
        address: "address",
        address_detail: "address_detail",
        geo_coordinates: "geo_coordinates",
        geopoint: "geopoint",
        is_delegated: "is_delegated",
        cfa_delegated_siret: "cfa_delegated_siret",
        phone: "phone",
        email: "email",
        status: "status",
        managed_by: "managed_by",
        updated_at: "updatedAt",
        jobs: "jobs",
    }
}

borrowed_fields! {
    /// The fields of a job that the projection reads.
    pub struct JobFields {
        id: "_id",
        rome_code: "rome_code",
        rome_label: "rome_label",
        rome_appellation_label: "rome_appellation_label",
        offer_title_custom: "offer_title_custom",
        job_level_label: "job_level_label",
        job_start_date: "job_start_date",
        job_description: "job_description",
        job_employer_description: "job_employer_description",
        job_creation_date: "job_creation_date",
        job_expiration_date: "job_expiration_date",
        job_update_date: "job_update_date",
        job_last_prolongation_date: "job_last_prolongation_date",
        job_prolongation_count: "job_prolongation_count",
        relance_mail_expiration_j7: "relance_mail_expiration_J7",
        relance_mail_expiration_j1: "relance_mail_expiration_J1",
        mer_sent: "mer_sent",
        job_status: "job_status",
        job_status_comment: "job_status_comment",
        job_type: "job_type",
        job_delegation_count: "job_delegation_count",
        delegations: "delegations",
        job_count: "job_count",
        job_duration: "job_duration",
        job_rythm: "job_rythm",
        competences_rome: "competences_rome",
    }
}

/// A recruiter and the positions of its jobs.
#[derive(Debug, Clone)]
pub struct Recruiter<'a> {
    pub id: RecruiterId,
    pub fields: RecruiterFields<'a>,
    /// `jobs[]` in their order, without the elements that are no documents.
    pub jobs: Vec<Job<'a>>,
}

/// One element of `jobs[]`, not decoded yet, because often only some jobs of a recruiter are touched.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The index in `jobs[]`: the N of an update path `jobs.N.…`.
    pub position: usize,
    /// The `_id` of the job and of its offer; `None` when it is missing or no ObjectId.
    pub id: Option<JobId>,
    document: &'a RawDocument,
}

impl<'a> Job<'a> {
    /// Decodes the job in one pass.
    ///
    /// # Errors
    /// When the bytes are not valid BSON.
    pub fn fields(&self) -> Result<JobFields<'a>, bson::error::Error> {
        JobFields::read(self.document)
    }

    /// One field as [`Self::fields`] has it, without the cost of the others. Of two equal keys the last one counts. Of a job
    /// that cannot be decoded whole, it has the field where that can be read.
    #[must_use]
    pub(crate) fn field(&self, name: &CStr) -> Option<RawBsonRef<'a>> {
        let named = self.document.iter_elements().flatten().filter(|element| element.key() == name);
        named.last().and_then(|element| element.value().ok()).and_then(value::present)
    }

    /// The job as stored, with fields that the projection does not read.
    #[must_use]
    pub(crate) fn document(&self) -> &'a RawDocument {
        self.document
    }

    /// The size of the job in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.document.as_bytes().len()
    }
}

impl<'a> Recruiter<'a> {
    /// Reads a document of `recruiters`.
    ///
    /// # Errors
    /// When the bytes are not valid BSON, or `_id` is no ObjectId, as spec 01 wants it.
    pub fn read(document: &'a RawDocument) -> Result<Self, bson::error::Error> {
        let fields = RecruiterFields::read(document)?;
        let id = RecruiterId(document.get_object_id("_id")?);
        let mut jobs = Vec::new();
        if let Some(array) = value::list(fields.jobs) {
            for (position, element) in array.into_iter().enumerate() {
                if let RawBsonRef::Document(document) = element? {
                    let id = value::field(document, "_id").and_then(RawBsonRef::as_object_id).map(JobId);
                    jobs.push(Job { position, id, document });
                }
            }
        }
        Ok(Self { id, fields, jobs })
    }

    /// The `_id`s that several jobs of this recruiter have, with their first two positions. The job at the first
    /// position owns the offer.
    #[must_use]
    pub fn repeated(&self) -> BTreeMap<JobId, [usize; 2]> {
        let mut ids: Vec<(JobId, usize)> = self.jobs.iter().filter_map(|job| Some((job.id?, job.position))).collect();
        ids.sort_unstable();
        let same = ids.chunk_by(|(one, _), (next, _)| one == next);
        same.filter_map(|same| match same {
            [(id, first), (_, second), ..] => Some((*id, [*first, *second])),
            _ => None,
        })
        .collect()
    }

    /// The size of this recruiter's `document` without its jobs, in bytes. Each of its offers may repeat so much.
    pub(crate) fn own_weight(&self, document: &RawDocument) -> usize {
        let jobs = value::list(self.fields.jobs).map_or(0, |jobs| jobs.as_bytes().len());
        document.as_bytes().len().saturating_sub(jobs)
    }

    /// The `_id`s of the jobs in their order, without jobs whose `_id` is no ObjectId.
    pub fn job_ids(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.iter().filter_map(|job| job.id)
    }
}

#[cfg(test)]
mod tests {
    use bson::raw::cstr;
    use bson::{oid::ObjectId, rawdoc};

    use super::*;

    #[test]
    fn one_field_of_a_job_is_the_one_that_a_whole_decoding_has() {
        let mut job = rawdoc! { "rome_code": "A1", "job_type": null, "_id": ObjectId::new() };
        job.append(cstr!("rome_code"), "B2");
        let recruiter = rawdoc! { "_id": ObjectId::new(), "jobs": [job] };
        let recruiter = Recruiter::read(&recruiter).unwrap();
        let job = recruiter.jobs.first().unwrap();
        let fields = job.fields().unwrap();
        for (name, value) in fields.named() {
            assert_eq!(job.field(name), value, "{name}");
        }
        assert_eq!(fields.rome_code, Some(RawBsonRef::String("B2")));
    }
}
