//! What a projection looks up: the ROME sheet, the CFA and its user, the handicap engagement
//! (spec 01, "References"). Owned, because they outlive the batch in the caches.

use std::sync::Arc;

use bson::{DateTime, RawBson, RawBsonRef, RawDocument};

use super::fields::borrowed_fields;
use super::value;

/// A ROME sheet, reduced to what the projection needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RomeSheet {
    /// `definition`, as it is stored.
    pub definition: Option<RawBson>,
    /// `acces_metier`, as it is stored.
    pub acces_metier: Option<RawBson>,
    /// `competences`, walked like a job's `competences_rome`.
    pub competences: Option<RawBson>,
}

/// A training centre.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cfa {
    /// `siret`, as it is stored.
    pub siret: Option<RawBson>,
    /// `raison_sociale`, as it is stored.
    pub raison_sociale: Option<RawBson>,
    /// `address`, as it is stored.
    pub address: Option<RawBson>,
}

/// The contact of a user; personal data, never logged.
#[derive(Clone, PartialEq, Default)]
pub struct User {
    /// `email`, as it is stored.
    pub email: Option<RawBson>,
    /// `phone`, as it is stored.
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

/// The last entry of a user's `status`: the one that counts (spec 01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserStatus {
    /// `DESACTIVE`
    pub is_deactivated: bool,
    /// Since when it holds; `None` without an entry, or one without a date.
    pub date: Option<DateTime>,
}

impl UserStatus {
    /// Reads the status of a document of `userswithaccounts`, or of what remains of one.
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

/// True for an engagement document that makes an establishment disabled-eligible (spec 01):
/// `engagement` is `handicap` and `sources` names `france-travail`.
#[must_use]
pub fn is_handicap_engagement(document: &RawDocument) -> bool {
    let handicap = value::text(value::field(document, "engagement")) == Some("handicap");
    let sources = value::list(value::field(document, "sources"));
    handicap
        && sources.is_some_and(|sources| {
            sources.into_iter().flatten().any(|source| source.as_str() == Some("france-travail"))
        })
}

/// What one job's projection may look up. Absent means: looked for and not there.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// The sheet of the job's first ROME code.
    pub rome: Option<Arc<RomeSheet>>,
    /// The CFA of `cfa_delegated_siret`.
    pub cfa: Option<Arc<Cfa>>,
    /// The user `managed_by`.
    pub user: Option<Arc<User>>,
    /// `managed_by` is in `anonymized_userswithaccounts` and no longer in `userswithaccounts`.
    pub user_is_anonymized: bool,
    /// The status of the user `managed_by`, of an anonymised one too.
    pub user_status: UserStatus,
    /// The establishment has a handicap engagement.
    pub handicap: bool,
    /// What the offer is made of is there and cannot be read: the document's collection and `_id`.
    pub undecodable: Option<Arc<str>>,
    /// The same of the user `managed_by`, whose status some settings ask for.
    pub undecodable_user: Option<Arc<str>>,
}

impl References {
    /// The document that keeps the job from being projected, because it cannot be read.
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
