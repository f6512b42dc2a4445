//! What a projection looks up: the ROME sheet, the CFA and its user, the handicap engagement
//! (spec 01, "References"). Owned, because they outlive the batch in the caches.

use std::sync::Arc;

use bson::{RawBson, RawBsonRef, RawDocument};

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
    /// The establishment has a handicap engagement.
    pub handicap: bool,
}
