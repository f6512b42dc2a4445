//! `offer_status` from the recruiter's and the job's status (spec 02, "offer_status").

use bson::RawBsonRef;

use crate::model::dead_letter::Reason;
use crate::model::recruiter::JobFields;
use crate::model::{OfferStatus, References, value};

/// The reason in the history of an offer that is cancelled because its managing user was deactivated.
pub(crate) const USER_DEACTIVATED: &str = "user has been deactivated";
/// The reason in the history of an offer that is cancelled because its managing user was anonymised (spec 09, "Jobs, as
/// they ran before").
pub(crate) const USER_ANONYMIZED: &str = "user has been anonymized";
/// The reason in the history of an offer whose recruiter was anonymised.
pub(crate) const RECRUITER_ANONYMIZED: &str = "recruiter has been anonymized";

/// Reads the table of spec 02 from top to bottom. A job that waits for a confirmation is pending; the target's schema
/// decides whether that status is written ([`crate::model::TargetSchema::status`]). A recruiter that is not active cancels all its offers, whatever the
/// status of the job. An unknown job status is a dead letter only for an active recruiter.
///
/// # Errors
/// [`Reason::UnknownJobStatus`].
pub(crate) fn offer_status(
    recruiter: Option<RawBsonRef<'_>>,
    job: Option<RawBsonRef<'_>>,
) -> Result<OfferStatus, Reason> {
    if !is_active(recruiter) {
        return Ok(OfferStatus::Cancelled);
    }
    match value::text(job) {
        Some("Active" | "ACTIVE") => Ok(OfferStatus::Active),
        Some("Pourvue" | "POURVUE") => Ok(OfferStatus::Filled),
        Some("Annulée" | "ANNULEE") => Ok(OfferStatus::Cancelled),
        Some("En attente" | "EN_ATTENTE") => Ok(OfferStatus::Pending),
        _ => Err(Reason::UnknownJobStatus),
    }
}

/// The reason for a change of the status. `is_own`: the job itself has this status, so its user is not the reason.
pub(super) fn reason<'a>(is_own: bool, job: &JobFields<'a>, references: &References) -> &'a str {
    match is_own {
        true => value::text(job.job_status_comment).unwrap_or("changed in recruiter"),
        false if references.user_is_anonymized => USER_ANONYMIZED,
        false => USER_DEACTIVATED,
    }
}

/// True for the status of a recruiter whose offers can be active. The names of the enumeration, in upper case, mean the
/// same as the labels.
pub(crate) fn is_active(recruiter: Option<RawBsonRef<'_>>) -> bool {
    matches!(value::text(recruiter), Some("Actif" | "ACTIF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(recruiter: &str, job: &str) -> Result<OfferStatus, Reason> {
        offer_status(Some(RawBsonRef::String(recruiter)), Some(RawBsonRef::String(job)))
    }

    #[test]
    fn the_table_of_the_specification_holds() {
        for recruiter in ["Actif", "ACTIF"] {
            assert_eq!(status(recruiter, "Active"), Ok(OfferStatus::Active));
            assert_eq!(status(recruiter, "Pourvue"), Ok(OfferStatus::Filled));
            for job in ["Annulée", "ANNULEE"] {
                assert_eq!(status(recruiter, job), Ok(OfferStatus::Cancelled), "{job}");
            }
            for job in ["En attente", "EN_ATTENTE"] {
                assert_eq!(status(recruiter, job), Ok(OfferStatus::Pending), "{job}");
            }
        }
        for recruiter in ["Archivé", "ARCHIVE", "En attente de validation", "EN_ATTENTE_VALIDATION", "?"] {
            for job in ["Active", "Pourvue", "Annulée", "?"] {
                assert_eq!(status(recruiter, job), Ok(OfferStatus::Cancelled), "{recruiter} {job}");
            }
        }
    }

    #[test]
    fn an_unknown_or_missing_job_status_of_an_active_recruiter_is_a_dead_letter() {
        assert_eq!(status("Actif", "Statut inconnu"), Err(Reason::UnknownJobStatus));
        let actif = Some(RawBsonRef::String("Actif"));
        assert_eq!(offer_status(actif, None), Err(Reason::UnknownJobStatus));
        assert_eq!(offer_status(actif, Some(RawBsonRef::Int32(1))), Err(Reason::UnknownJobStatus));
        assert_eq!(offer_status(None, None), Ok(OfferStatus::Cancelled));
    }
}
