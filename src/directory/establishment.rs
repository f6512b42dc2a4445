//! The answer of the company directory, read leniently. The JSON of the API and its copy in the cache have the same
//! shape. Pure.

use serde::Deserialize;

/// The official state of an establishment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EstablishmentState {
    Active(Company),
    Closed,
    /// No establishment has this siret.
    Unknown,
    /// The directory may not publish its data about the establishment.
    Unpublished,
}

/// The name and the address of an establishment, as far as they may be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Company {
    /// `raison_sociale`; `None` where it is missing or masked.
    pub legal_name: Option<String>,
    /// The address on one line; `None` where fewer than two parts of it are known.
    pub address: Option<String>,
}

/// The document of the API, `{data: {…}}`.
#[derive(Debug, Deserialize)]
pub(super) struct DirectoryReply {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    etat_administratif: String,
    status_diffusion: Option<String>,
    unite_legale: Option<LegalUnit>,
    adresse: Option<PostalAddress>,
}

#[derive(Debug, Deserialize)]
struct LegalUnit {
    personne_morale_attributs: Option<LegalPerson>,
}

#[derive(Debug, Deserialize)]
struct LegalPerson {
    raison_sociale: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PostalAddress {
    complement_adresse: Option<String>,
    numero_voie: Option<String>,
    indice_repetition_voie: Option<String>,
    type_voie: Option<String>,
    libelle_voie: Option<String>,
    code_postal: Option<String>,
    libelle_commune: Option<String>,
    libelle_commune_etranger: Option<String>,
    libelle_pays_etranger: Option<String>,
}

impl DirectoryReply {
    /// The state in the answer; `None` when the establishment is neither active (`A`) nor closed (`F`).
    pub(super) fn found(&self) -> Option<EstablishmentState> {
        match self.data.etat_administratif.as_str() {
            "A" => Some(EstablishmentState::Active(self.data.company())),
            "F" => Some(EstablishmentState::Closed),
            _ => None,
        }
    }
}

impl Data {
    /// The name and the address. An establishment that does not want to be published has masked values, in whole or in
    /// part: then both are left out.
    fn company(&self) -> Company {
        if self.status_diffusion.as_deref().is_some_and(|status| status != "diffusible") {
            return Company::default();
        }
        let person = self.unite_legale.as_ref().and_then(|unit| unit.personne_morale_attributs.as_ref());
        let legal_name = person.and_then(|person| person.raison_sociale.as_deref()).and_then(text);
        Company { legal_name, address: self.adresse.as_ref().and_then(PostalAddress::line) }
    }
}

impl PostalAddress {
    fn line(&self) -> Option<String> {
        let parts = [
            &self.complement_adresse,
            &self.numero_voie,
            &self.indice_repetition_voie,
            &self.type_voie,
            &self.libelle_voie,
            &self.code_postal,
            &self.libelle_commune,
            &self.libelle_commune_etranger,
            &self.libelle_pays_etranger,
        ];
        let parts: Vec<String> = parts.into_iter().filter_map(|part| text(part.as_deref()?)).collect();
        // A country alone or a town alone is no useful address.
        (parts.len() > 1).then(|| parts.join(" "))
    }
}

/// The trimmed value; `None` where the value is empty or masked (`[ND]`).
fn text(value: &str) -> Option<String> {
    let value = value.trim();
    (!value.is_empty() && value != "[ND]").then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: serde_json::Value) -> Option<EstablishmentState> {
        serde_json::from_value::<DirectoryReply>(json).unwrap().found()
    }

    #[test]
    fn an_active_establishment_has_its_name_and_its_address_on_one_line() {
        let found = found(serde_json::json!({ "data": {
            "siret": "11111111100011", "etat_administratif": "A", "status_diffusion": "diffusible",
            "unite_legale": { "personne_morale_attributs": { "raison_sociale": "EXEMPLE SAS", "sigle": null } },
            "adresse": {
                "complement_adresse": null, "numero_voie": "20", "indice_repetition_voie": "BIS", "type_voie": "AVENUE",
                "libelle_voie": "DES ESSAIS", "code_postal": "75007", "libelle_commune": "PARIS",
            },
        }, "links": {}, "meta": {} }));
        let address = Some("20 BIS AVENUE DES ESSAIS 75007 PARIS".to_owned());
        assert_eq!(
            found,
            Some(EstablishmentState::Active(Company { legal_name: Some("EXEMPLE SAS".to_owned()), address }))
        );
    }

    #[test]
    fn what_may_not_be_published_is_left_out() {
        let partly = |status: &str, name: &str| {
            found(serde_json::json!({ "data": {
                "etat_administratif": "A", "status_diffusion": status,
                "unite_legale": { "personne_morale_attributs": { "raison_sociale": name } },
                "adresse": { "numero_voie": "[ND]", "libelle_voie": "[ND]", "libelle_commune": "PARIS" },
            } }))
        };
        assert_eq!(partly("partiellement_diffusible", "X"), Some(EstablishmentState::Active(Company::default())));
        assert_eq!(partly("diffusible", "[ND]"), Some(EstablishmentState::Active(Company::default())));
    }

    #[test]
    fn closed_is_closed_and_another_state_is_none() {
        let state = |state: &str| found(serde_json::json!({ "data": { "etat_administratif": state } }));
        assert_eq!(state("F"), Some(EstablishmentState::Closed));
        assert_eq!(state("C"), None);
    }
}
