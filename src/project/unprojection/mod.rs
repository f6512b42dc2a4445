//! The unprojection (spec 10, "Unprojection"): what an offer says that its recruiter and its job do not say yet. It is the
//! projection read backwards, and it trusts nothing but the projection: what it gives was projected again. Pure code.

mod asked;
mod attempt;
mod edit;
mod new;
mod rules;
mod skills;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use bson::{Document, RawDocument, RawDocumentBuf};

use self::attempt::{Attempt, Held};
use self::new::first_fields;
pub use self::new::new_recruiter;
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

/// Says which edits of the job and of the recruiter make the projection give this offer. A field that the offer lacks says
/// nothing. The `references` are those that the offer names, where they are at hand, otherwise those of the recruiter and
/// the job. All fields are named where the projection fails.
#[must_use]
pub fn unproject(
    offer: &RawDocument,
    recruiter: &RecruiterFields<'_>,
    id: JobId,
    job: &JobFields<'_>,
    references: &References,
    settings: &ProjectionSettings,
) -> Unprojection {
    let Held { job, recruiter, not_invertible } = Attempt::new(offer, recruiter, id, job, references, settings).held();
    Unprojection { job, recruiter, not_invertible }
}

/// A job for an offer that has none, and the fields of the offer that the job cannot bring about. Fields of the recruiter
/// are among them where the recruiter says something else: [`unproject`] with this job gives their edits. The `references`
/// are those of the offer.
#[must_use]
pub fn new_job(
    offer: &RawDocument,
    recruiter: &RecruiterFields<'_>,
    id: JobId,
    references: &References,
    settings: &ProjectionSettings,
) -> (Document, BTreeSet<&'static str>) {
    let mut job = first_fields(offer, id);
    let Ok(raw) = RawDocumentBuf::try_from(&job) else { return (job, BTreeSet::new()) };
    let Ok(fields) = JobFields::read(&raw) else { return (job, BTreeSet::new()) };
    let held = Attempt::new(offer, recruiter, id, &fields, references, settings).for_new_job().held();
    job.extend(held.job);
    (job, held.not_invertible)
}
