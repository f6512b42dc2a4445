//! The answer of the company directory, read leniently. The JSON of the API and its copy in the cache have the same
//! shape. Pure.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use serde::{Deserialize, Serialize};

/// The official state of an establishment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EstablishmentState {
    Active(Box<Company>),
    Closed,
    /// No establishment has this siret.
    Unknown,
    /// The directory may not publish its data about the establishment, in whole or in part.
    Unpublished,
    /// The establishment teaches (NAF 85), so it recruits no apprentices for itself (spec 09, "Pending establishments").
    TrainingBody,
}

/// What the directory knows about an active establishment. `None` stands for what is missing or masked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Company {
    /// `raison_sociale`, or the name of the person who runs the company alone.
    pub legal_name: Option<String>,
    /// The address; `None` unless its postcode and its town are known.
    pub address: Option<Address>,
    pub naf_code: Option<String>,
    pub naf_label: Option<String>,
    /// The range of the number of employees, as recruiters have it: `10-19`.
    pub size: Option<String>,
    /// The date of the company's creation.
    pub created: Option<DateTime>,
}

/// The address of an establishment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Address {
    /// The address on one line.
    pub label: String,
    /// Number and name of the street, for the geocoding service.
    pub street: Option<String>,
    pub zipcode: String,
    pub city: String,
    /// The address as the directory gives it, which is `address_detail` of a recruiter.
    pub detail: Document,
}

impl Address {
    /// Postcode and town, for the geocoding service.
    pub(super) fn town(&self) -> String {
        format!("{} {}", self.zipcode, self.city)
    }
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
    activite_principale: Option<Activity>,
    adresse: Option<PostalAddress>,
}

#[derive(Debug, Deserialize)]
struct LegalUnit {
    personne_morale_attributs: Option<LegalPerson>,
    personne_physique_attributs: Option<NaturalPerson>,
    tranche_effectif_salarie: Option<Workforce>,
    /// Seconds since 1970. MongoDB may hold them as a double.
    date_creation: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct LegalPerson {
    raison_sociale: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NaturalPerson {
    prenom_usuel: Option<String>,
    nom_usage: Option<String>,
    nom_naissance: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Workforce {
    code: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Activity {
    code: Option<String>,
    libelle: Option<String>,
}

/// The fields of an address in the API, which recruiters have too (spec 01, "`recruiters`").
#[derive(Debug, Serialize, Deserialize)]
struct PostalAddress {
    complement_adresse: Option<String>,
    numero_voie: Option<String>,
    indice_repetition_voie: Option<String>,
    type_voie: Option<String>,
    libelle_voie: Option<String>,
    code_postal: Option<String>,
    libelle_commune: Option<String>,
    libelle_commune_etranger: Option<String>,
    distribution_speciale: Option<String>,
    code_commune: Option<String>,
    code_cedex: Option<String>,
    libelle_cedex: Option<String>,
    code_pays_etranger: Option<String>,
    libelle_pays_etranger: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acheminement_postal: Option<PostalLines>,
}

/// The seven lines of a letter's address.
#[derive(Debug, Serialize, Deserialize)]
struct PostalLines {
    l1: Option<String>,
    l2: Option<String>,
    l3: Option<String>,
    l4: Option<String>,
    l5: Option<String>,
    l6: Option<String>,
    l7: Option<String>,
}

impl DirectoryReply {
    /// The state in the answer; `None` when the establishment is neither active (`A`) nor closed (`F`).
    pub(super) fn found(&self) -> Option<EstablishmentState> {
        let data = &self.data;
        if data.status_diffusion.as_deref().is_some_and(|status| status != "diffusible") {
            return Some(EstablishmentState::Unpublished);
        }
        match data.etat_administratif.as_str() {
            "A" if data.is_training_body() => Some(EstablishmentState::TrainingBody),
            "A" => Some(EstablishmentState::Active(Box::new(data.company()))),
            "F" => Some(EstablishmentState::Closed),
            _ => None,
        }
    }
}

impl Data {
    fn naf(&self, field: impl Fn(&Activity) -> Option<&str>) -> Option<String> {
        self.activite_principale.as_ref().and_then(field).and_then(text)
    }

    fn is_training_body(&self) -> bool {
        self.naf(|naf| naf.code.as_deref()).is_some_and(|code| code.starts_with("85"))
    }

    fn company(&self) -> Company {
        let unit = self.unite_legale.as_ref();
        Company {
            legal_name: unit.and_then(LegalUnit::name),
            address: self.adresse.as_ref().and_then(PostalAddress::read),
            naf_code: self.naf(|naf| naf.code.as_deref()),
            naf_label: self.naf(|naf| naf.libelle.as_deref()),
            size: unit.and_then(|unit| size(unit.tranche_effectif_salarie.as_ref()?.code.as_deref()?)),
            created: unit.and_then(|unit| date(unit.date_creation?)),
        }
    }
}

impl LegalUnit {
    fn name(&self) -> Option<String> {
        let company =
            self.personne_morale_attributs.as_ref().and_then(|person| text(person.raison_sociale.as_deref()?));
        company.or_else(|| {
            let person = self.personne_physique_attributs.as_ref()?;
            let name =
                [&person.nom_usage, &person.nom_naissance].into_iter().find_map(|name| text(name.as_deref()?))?;
            let first = person.prenom_usuel.as_deref().and_then(text);
            Some(first.map_or(name.clone(), |first| format!("{first} {name}")))
        })
    }
}

impl PostalAddress {
    fn read(&self) -> Option<Address> {
        let (zipcode, city) = (text(self.code_postal.as_deref()?)?, text(self.libelle_commune.as_deref()?)?);
        let street = [&self.numero_voie, &self.indice_repetition_voie, &self.type_voie, &self.libelle_voie];
        let abroad = [&self.libelle_commune_etranger, &self.libelle_pays_etranger];
        let town = [&self.code_postal, &self.libelle_commune];
        let line = [&self.complement_adresse].into_iter().chain(street).chain(town).chain(abroad);
        let mut detail = bson::serialize_to_document(self).ok()?;
        // The projection copies these two from the detail, so they must not differ from the offer's by a space.
        detail.extend(doc! { "code_postal": &zipcode, "libelle_commune": &city });
        Some(Address { label: joined(line)?, street: joined(street), zipcode, city, detail })
    }
}

/// The parts that are known, with spaces between them; `None` where there is none.
fn joined<'a>(parts: impl IntoIterator<Item = &'a Option<String>>) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().filter_map(|part| text(part.as_deref()?)).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The range of a code of INSEE for the number of employees, as recruiters have it; `None` where it is not known.
fn size(code: &str) -> Option<String> {
    let range = match code {
        "00" => "0-0",
        "01" => "1-2",
        "02" => "3-5",
        "03" => "6-9",
        "11" => "10-19",
        "12" => "20-49",
        "21" => "50-99",
        "22" => "100-199",
        "31" => "200-249",
        "32" => "250-499",
        "41" => "500-999",
        "42" => "1000-1999",
        "51" => "2000-4999",
        "52" => "5000-9999",
        "53" => "10000-",
        _ => return None,
    };
    Some(range.to_owned())
}

/// The date of a number of seconds since 1970, which may be before; `None` where the calendar ends.
fn date(seconds: f64) -> Option<DateTime> {
    let distance = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    let distance = i64::try_from(distance.as_millis()).ok()?;
    Some(DateTime::from_millis(if seconds < 0.0 { -distance } else { distance }))
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

    fn company(json: serde_json::Value) -> Company {
        match found(json) {
            Some(EstablishmentState::Active(company)) => *company,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_active_establishment_has_all_that_the_directory_knows() {
        let reply = serde_json::json!({ "data": {
            "siret": "11111111100011", "etat_administratif": "A", "status_diffusion": "diffusible",
            "activite_principale": { "code": "10.71C", "libelle": "Boulangerie", "nomenclature": "NAFRev2" },
            "unite_legale": {
                "personne_morale_attributs": { "raison_sociale": "EXEMPLE SAS", "sigle": null },
                "tranche_effectif_salarie": { "code": "11", "intitule": "10 à 19 salariés" },
                "date_creation": 1_262_304_000,
            },
            "adresse": {
                "complement_adresse": null, "numero_voie": "20", "indice_repetition_voie": "BIS", "type_voie": "AVENUE",
                "libelle_voie": "DES ESSAIS", "code_postal": "75007", "libelle_commune": "PARIS", "code_commune": "75107",
                "acheminement_postal": { "l4": "20 BIS AVENUE DES ESSAIS", "l6": "75007 PARIS", "l7": "FRANCE" },
            },
        }, "links": {}, "meta": {} });
        let company = company(reply.clone());
        let address = company.address.clone().unwrap();
        assert_eq!(address.label, "20 BIS AVENUE DES ESSAIS 75007 PARIS");
        assert_eq!(
            (address.street.as_deref(), address.town()),
            (Some("20 BIS AVENUE DES ESSAIS"), "75007 PARIS".into())
        );
        assert_eq!(address.detail.get_str("libelle_commune").unwrap(), "PARIS");
        assert_eq!(address.detail.get_str("code_commune").unwrap(), "75107");
        let texts = [&company.legal_name, &company.naf_code, &company.naf_label, &company.size].map(Option::as_deref);
        assert_eq!(texts, [Some("EXEMPLE SAS"), Some("10.71C"), Some("Boulangerie"), Some("10-19")]);
        assert_eq!(company.created, Some(DateTime::parse_rfc3339_str("2010-01-01T00:00:00Z").unwrap()));

        let mut cached = bson::serialize_to_document(&reply).unwrap();
        let unit = cached.get_document_mut("data").unwrap().get_document_mut("unite_legale").unwrap();
        unit.insert("date_creation", 1_262_304_000.0);
        let cached = bson::deserialize_from_document::<DirectoryReply>(cached).unwrap().found();
        assert_eq!(cached, Some(EstablishmentState::Active(Box::new(company))), "the copy in the cache");
    }

    #[test]
    fn what_is_missing_or_masked_is_not_known() {
        let with = |unit: serde_json::Value, address: serde_json::Value| {
            let data = serde_json::json!({ "etat_administratif": "A", "unite_legale": unit, "adresse": address });
            company(serde_json::json!({ "data": data }))
        };
        assert_eq!(with(serde_json::json!({}), serde_json::json!(null)), Company::default());
        let masked = serde_json::json!({ "personne_morale_attributs": { "raison_sociale": "[ND]" },
            "tranche_effectif_salarie": { "code": "NN" }, "date_creation": null });
        let abroad = serde_json::json!({ "libelle_commune_etranger": "LIEGE", "libelle_pays_etranger": "BELGIQUE" });
        assert_eq!(with(masked, abroad), Company::default());
        let person = serde_json::json!({ "personne_morale_attributs": { "raison_sociale": null },
            "personne_physique_attributs": { "prenom_usuel": "CAMILLE", "nom_usage": null, "nom_naissance": "EXEMPLE" } });
        assert_eq!(with(person, serde_json::json!(null)).legal_name.as_deref(), Some("CAMILLE EXEMPLE"));
    }

    #[test]
    fn an_establishment_is_refused_that_is_closed_or_may_not_be_published_or_teaches() {
        let state = |fields: Document| {
            let mut data = doc! { "etat_administratif": "A", "status_diffusion": "diffusible" };
            data.extend(fields);
            bson::deserialize_from_document::<DirectoryReply>(doc! { "data": data }).unwrap().found()
        };
        assert_eq!(state(doc! { "etat_administratif": "F" }), Some(EstablishmentState::Closed));
        assert_eq!(state(doc! { "etat_administratif": "C" }), None);
        for status in ["partiellement_diffusible", "non_diffusible"] {
            assert_eq!(state(doc! { "status_diffusion": status }), Some(EstablishmentState::Unpublished), "{status}");
        }
        for code in ["85.59A", "8559A"] {
            let naf = doc! { "activite_principale": { "code": code } };
            assert_eq!(state(naf), Some(EstablishmentState::TrainingBody), "{code}");
        }
        let naf = doc! { "activite_principale": { "code": "10.85Z" } };
        assert!(matches!(state(naf), Some(EstablishmentState::Active(_))));
    }

    #[test]
    fn a_creation_before_1970_is_a_date() {
        assert_eq!(date(-86_400.0), Some(DateTime::from_millis(-86_400_000)));
        assert_eq!(date(f64::NAN), None);
        assert_eq!(date(f64::MAX), None);
    }
}
