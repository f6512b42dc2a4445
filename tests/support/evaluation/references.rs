//! What a projection looks up, found by walking through all documents (spec 01, "References"; spec 03, "It stays
//! anonymised").

use bson::{Bson, Document};

use super::Source;
use super::values::id_text;

/// The documents that offers refer to.
pub(super) struct References {
    cfas: Vec<Document>,
    romes: Vec<Document>,
    engagements: Vec<Document>,
    users: Vec<Document>,
    anonymized_users: Vec<Document>,
}

impl References {
    pub(super) fn of(source: &Source) -> Self {
        Self {
            cfas: source.cfas.clone(),
            romes: source.romes.clone(),
            engagements: source.engagements.clone(),
            users: source.users.clone(),
            anonymized_users: source.anonymized_users.clone(),
        }
    }

    pub(super) fn cfa(&self, siret: &Bson) -> Option<&Document> {
        self.cfas.iter().find(|cfa| cfa.get("siret") == Some(siret))
    }

    pub(super) fn rome(&self, code: &str) -> Option<&Document> {
        self.romes.iter().find(|sheet| {
            let rome = sheet.get_document("rome");
            rome.is_ok_and(|rome| rome.get_str("code_rome").ok() == Some(code))
        })
    }

    pub(super) fn has_handicap_engagement(&self, siret: &Bson) -> bool {
        self.engagements.iter().any(|engagement| {
            let source = |source: &Bson| source.as_str() == Some("france-travail");
            engagement.get("siret") == Some(siret)
                && engagement.get_str("engagement").ok() == Some("handicap")
                && engagement.get_array("sources").is_ok_and(|sources| sources.iter().any(source))
        })
    }

    pub(super) fn user(&self, id: &str) -> Option<&Document> {
        with_id(&self.users, id)
    }

    /// In `anonymized_userswithaccounts` and no longer in `userswithaccounts`.
    pub(super) fn is_anonymised(&self, user: &str) -> bool {
        with_id(&self.anonymized_users, user).is_some() && self.user(user).is_none()
    }
}

fn with_id<'a>(documents: &'a [Document], id: &str) -> Option<&'a Document> {
    documents.iter().find(|document| document.get("_id").and_then(id_text).as_deref() == Some(id))
}
