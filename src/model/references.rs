//! The references that a projection looks up: the ROME sheet, the CFA and its user, the handicap engagement
//! (spec 01, "References"). Their values are owned, because the caches keep them longer than a batch lasts.

use std::sync::Arc;

use bson::{DateTime, RawBson, RawBsonRef, RawDocument};

use super::decode::borrowed_fields;
use super::value;

/// The fields of a ROME sheet that the projection needs, as they are stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RomeSheet {
    pub definition: Option<RawBson>,
    pub acces_metier: Option<RawBson>,
    /// The same three lists as in a job's `competences_rome`.
    pub competences: Option<RawBson>,
}

/// The fields of a training centre that the projection needs, as they are stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cfa {
    pub siret: Option<RawBson>,
    pub raison_sociale: Option<RawBson>,
    pub address: Option<RawBson>,
}

/// The contact of a user, as it is stored. It is personal data and never logged.
#[derive(Clone, PartialEq, Default)]
pub struct User {
    pub email: Option<RawBson>,
    pub phone: Option<RawBson>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("User(contact hidden)")
    }
}

borrowed_fields! {
    struct RomeFields { definition: "definition", acces_metier: "acces_metier", competences: "competences" }
}
borrowed_fields! {
    struct CfaFields { siret: "siret", raison_sociale: "raison_sociale", address: "address" }
}
borrowed_fields! {
    struct UserFields { email: "email", phone: "phone" }
}

fn owned(value: Option<RawBsonRef<'_>>) -> Option<RawBson> {
    value.map(RawBson::from)
}

impl RomeSheet {
    /// Reads a document of `referentielromes`.
    ///
    /// # Errors
    /// When the bytes are not valid BSON.
    pub fn read(document: &RawDocument) -> Result<Self, bson::error::Error> {
        let fields = RomeFields::read(document)?;
        Ok(Self {
            definition: owned(fields.definition),
            acces_metier: owned(fields.acces_metier),
            competences: owned(fields.competences),
        })
    }
}

impl Cfa {
    /// Reads a document of `cfas`.
    ///
    /// # Errors
    /// When the bytes are not valid BSON.
    pub fn read(document: &RawDocument) -> Result<Self, bson::error::Error> {
        let fields = CfaFields::read(document)?;
        Ok(Self {
            siret: owned(fields.siret),
            raison_sociale: owned(fields.raison_sociale),
            address: owned(fields.address),
        })
    }
}

impl User {
    /// Reads a document of `userswithaccounts`.
    ///
    /// # Errors
    /// When the bytes are not valid BSON.
    pub fn read(document: &RawDocument) -> Result<Self, bson::error::Error> {
        let fields = UserFields::read(document)?;
        Ok(Self { email: owned(fields.email), phone: owned(fields.phone) })
    }
}

/// The last entry of a user's `status`. Only the last entry counts (spec 01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserStatus {
    /// True when the entry says `DESACTIVE`.
    pub is_deactivated: bool,
    /// The date of the entry; `None` when there is no entry, or it has no date.
    pub date: Option<DateTime>,
}

impl UserStatus {
    /// Reads a document of `userswithaccounts` or `anonymized_userswithaccounts`.
    #[must_use]
    pub fn read(document: &RawDocument) -> Self {
        let entries = value::list(value::field(document, "status"));
        let last = entries.and_then(|entries| entries.into_iter().last()?.ok()?.as_document());
        last.map_or_else(Self::default, |last| Self {
            is_deactivated: value::text(value::field(last, "status")) == Some("DESACTIVE"),
            date: value::field(last, "date").and_then(RawBsonRef::as_datetime),
        })
    }
}

/// True for an engagement document that makes an establishment eligible for disabled persons (spec 01):
/// `engagement` is `handicap` and `sources` names `france-travail`.
#[must_use]
pub(crate) fn is_handicap_engagement(document: &RawDocument) -> bool {
    let handicap = value::text(value::field(document, "engagement")) == Some("handicap");
    let sources = value::list(value::field(document, "sources"));
    handicap
        && sources.is_some_and(|sources| {
            sources.into_iter().flatten().any(|source| source.as_str() == Some("france-travail"))
        })
}

/// The references of one job. `None` means that the document was looked up and does not exist.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// The sheet of the job's first ROME code.
    pub rome: Option<Arc<RomeSheet>>,
    /// The CFA of `cfa_delegated_siret`.
    pub cfa: Option<Arc<Cfa>>,
    /// The user `managed_by`.
    pub user: Option<Arc<User>>,
    /// True when `managed_by` is in `anonymized_userswithaccounts` and no longer in `userswithaccounts`.
    pub user_is_anonymized: bool,
    /// True when `managed_by` names neither a user nor an anonymised user.
    pub user_is_unknown: bool,
    /// The status of the user `managed_by`, also of an anonymised user.
    pub user_status: UserStatus,
    /// True when the establishment has a handicap engagement.
    pub handicap: bool,
    /// Collection and `_id` of a reference that the offer needs and that cannot be read.
    pub undecodable: Option<Arc<str>>,
    /// Collection and `_id` of the user `managed_by`, when that document cannot be read. It matters only where the
    /// status of users counts.
    pub undecodable_user: Option<Arc<str>>,
}

impl References {
    /// The unreadable document that keeps the job from being projected. `needs_status`: the status of users counts.
    #[must_use]
    pub fn undecodable(&self, needs_status: bool) -> Option<&str> {
        let user = self.undecodable_user.as_deref().filter(|_| needs_status);
        self.undecodable.as_deref().or(user)
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn the_last_status_of_a_user_counts_and_what_is_none_is_not_deactivated() {
        let date = DateTime::from_millis(1);
        let active = rawdoc! { "status": "ACTIF" };
        let deactivated = rawdoc! { "status": "DESACTIVE", "date": date };
        let read = |status: RawBsonRef<'_>| {
            let mut document = bson::RawDocumentBuf::new();
            document.append(bson::raw::cstr!("status"), status);
            UserStatus::read(&document)
        };
        let list = |entries: &[&RawDocument]| entries.iter().copied().collect::<bson::raw::RawArrayBuf>();
        let last = list(&[&active, &deactivated]);
        assert_eq!(read(RawBsonRef::Array(&last)), UserStatus { is_deactivated: true, date: Some(date) });
        let first = list(&[&deactivated, &active]);
        for other in [RawBsonRef::Array(&first), RawBsonRef::Array(&list(&[])), RawBsonRef::String("DESACTIVE")] {
            assert_eq!(read(other), UserStatus::default(), "{other:?}");
        }
        assert_eq!(UserStatus::read(&rawdoc! {}), UserStatus::default());
    }
}
