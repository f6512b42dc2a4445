//! The contact of an offer (spec 02, "Delegated recruiters"). Pure code.

use bson::{RawBson, RawBsonRef};

use super::settings::{ProjectionSettings, is_delegated_to_cfa};
use crate::model::dead_letter::Reason;
use crate::model::recruiter::RecruiterFields;
use crate::model::{Cfa, References, value};

/// The contact for applicants: the recruiter, the user of the CFA, nobody, or the anonymised values.
#[derive(Clone, Copy, Default)]
pub(super) struct Contact<'a> {
    /// The value of `apply_email`.
    pub email: Option<RawBsonRef<'a>>,
    /// The value of `apply_phone`.
    pub phone: Option<RawBsonRef<'a>>,
    /// `None` when the recruiter is not delegated to a CFA.
    pub cfa: Option<&'a Cfa>,
    /// `None` when the managing user is not anonymised.
    hidden: Option<Hidden<'a>>,
}

/// The e-mail addresses that must not show any more.
#[derive(Clone, Copy)]
enum Hidden<'a> {
    /// The recruiter's own address.
    Address(Option<&'a str>),
    /// All addresses. The address of the CFA's user must not show, and it is not known any more.
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

    /// True when the managing user is anonymised.
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
