//! The settings of the projection, and the test for a recruiter that is delegated to a CFA.

use std::sync::Arc;

use bson::RawBsonRef;

use crate::model::recruiter::RecruiterFields;
use crate::model::{TargetSchema, value};

/// The values of the configuration that the projection needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionSettings {
    /// `target.partner_label`: the label of our offers.
    pub partner_label: String,
    /// `target.public_url`, without a slash at its end.
    pub public_url: String,
    /// `target.offer_type`, a part of the public URL.
    pub offer_type: String,
    /// `privacy.anonymized_email`: the replacement of an anonymised address.
    pub anonymized_email: String,
    /// True when `users.on_deactivated` is `cancel-offers`.
    pub cancels_deactivated: bool,
    /// What the target's validator allows now.
    pub schema: Arc<TargetSchema>,
}

/// True when the offers of this recruiter have the contact of a CFA (spec 02, "Delegated recruiters").
#[must_use]
pub(crate) fn is_delegated_to_cfa(recruiter: &RecruiterFields<'_>) -> bool {
    recruiter.is_delegated == Some(RawBsonRef::Boolean(true))
        && value::non_empty(recruiter.cfa_delegated_siret).is_some()
}
