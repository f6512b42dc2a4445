//! Whose contact an offer carries. Pure.

use bson::{RawBson, RawBsonRef};

use super::settings::{ProjectionSettings, is_delegated_to_cfa};
use crate::model::dead_letter::Reason;
use crate::model::recruiter::RecruiterFields;
use crate::model::{Cfa, References, value};

/// Whom an applicant writes to: the recruiter, the CFA's user, nobody, or an anonymised person.
#[derive(Clone, Copy, Default)]
pub(super) struct Contact<'a> {
    /// `apply_email`
    pub email: Option<RawBsonRef<'a>>,
    /// `apply_phone`
    pub phone: Option<RawBsonRef<'a>>,
    /// Set when the contact is a CFA's.
    pub cfa: Option<&'a Cfa>,
    /// Set when the managing user was anonymised.
    hidden: Option<Hidden<'a>>,
}

/// Whose address must not show any more.
#[derive(Clone, Copy)]
enum Hidden<'a> {
    /// The recruiter's own.
    Address(Option<&'a str>),
    /// A CFA user's, which nobody knows any more: so none may show.
    Unknown,
}

impl<'a> Contact<'a> {
    /// Finds the contact (spec 02, "Delegated recruiters"; spec 03, "It stays anonymised").
    ///
    /// # Errors
    /// [`Reason::MissingCfa`], [`Reason::MissingCfaUser`].
    pub(super) fn of(
        recruiter: &RecruiterFields<'a>,
        references: &'a References,
        settings: &'a ProjectionSettings,
    ) -> Result<Self, Reason> {
        let cfa = if is_delegated_to_cfa(recruiter) {
            Some(references.cfa.as_deref().ok_or(Reason::MissingCfa)?)
        } else {
            None
        };
        if references.user_is_anonymized {
            let email = Some(RawBsonRef::String(&settings.anonymized_email));
            let hidden = cfa.map_or(Hidden::Address(value::text(recruiter.email)), |_| Hidden::Unknown);
            return Ok(Self { email, phone: None, cfa, hidden: Some(hidden) });
        }
        if cfa.is_some() {
            let user = references.user.as_deref().ok_or(Reason::MissingCfaUser)?;
            let email = user.email.as_ref().map(RawBson::as_raw_bson_ref);
            let phone = user.phone.as_ref().map(RawBson::as_raw_bson_ref);
            return Ok(Self { email, phone, cfa, hidden: None });
        }
        if recruiter.is_delegated == Some(RawBsonRef::Boolean(true)) {
            return Ok(Self::default());
        }
        Ok(Self { email: recruiter.email, phone: recruiter.phone, cfa: None, hidden: None })
    }

    /// True when the managing user was anonymised.
    #[must_use]
    pub(super) fn is_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    /// True for an address that must not show any more.
    #[must_use]
    pub(super) fn hides(&self, email: &str) -> bool {
        match self.hidden {
            Some(Hidden::Address(address)) => address == Some(email),
            Some(Hidden::Unknown) => true,
            None => false,
        }
    }
}
