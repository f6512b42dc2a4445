//! What the projection takes from the configuration, and what it tells of a recruiter first.

use bson::RawBsonRef;

use crate::model::recruiter::RecruiterFields;
use crate::model::value;

/// What the projection takes from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionSettings {
    /// `target.partner_label`
    pub partner_label: String,
    /// `target.public_url`, without a slash at its end.
    pub public_url: String,
    /// `target.offer_type`, a part of the public URL.
    pub offer_type: String,
    /// `privacy.anonymized_email`: what stands in place of an anonymised address.
    pub anonymized_email: String,
    /// `users.on_deactivated` is `cancel-offers`.
    pub cancels_deactivated: bool,
}

/// True when offers of this recruiter carry the contact of a CFA (spec 02, "Delegated recruiters").
#[must_use]
pub(crate) fn is_delegated_to_cfa(recruiter: &RecruiterFields<'_>) -> bool {
    recruiter.is_delegated == Some(RawBsonRef::Boolean(true))
        && value::non_empty(recruiter.cfa_delegated_siret).is_some()
}
