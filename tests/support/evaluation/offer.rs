//! The fields of one offer, by the table of spec 02, "Written at every projection", row by row.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::references::References;
use super::values::{date, documents, empty_to_null, id_text, non_empty, non_nullish, point, slug, value};
use super::{Rules, is_active};

/// What is projected, and with what.
pub(super) struct Projection<'a> {
    pub rules: &'a Rules,
    pub references: &'a References,
    pub recruiter: &'a Document,
    pub job: &'a Document,
    pub id: ObjectId,
}

/// Whose contact an offer shows.
struct Contact {
    email: Bson,
    phone: Bson,
    cfa_email: Bson,
    cfa_phone: Bson,
    cfa: Document,
    anonymised: Anonymised,
}

/// Whose addresses in `delegations[]` are replaced. Of a CFA's user who is gone nobody knows the address any more
/// (ARCHITECTURE.md, "Decisions where the specification is open").
enum Anonymised {
    Nobody,
    This(Bson),
    Everybody,
}

impl Projection<'_> {
    /// Every field that a projection sets, or the reason of the dead letter.
    pub(super) fn fields(&self) -> Result<Document, &'static str> {
        let status = self.status()?;
        let contact = self.contact()?;
        let mut offer = doc! { "_id": self.id, "offer_status": status };
        offer.extend(self.of_job(&contact.anonymised));
        offer.extend(self.of_workplace());
        offer.extend(self.of_content());
        let created = non_nullish(self.job("job_creation_date")).unwrap_or_else(|| self.id.timestamp().into());
        let dates = [self.job("job_update_date"), self.recruiter("updatedAt")];
        let later = dates.iter().filter_map(Bson::as_datetime).max().filter(|_| !is_active(self.recruiter));
        let first = || dates.iter().find_map(|date| non_nullish(date.clone()));
        let updated = later.map(|later| Bson::from(*later)).or_else(first);
        offer.insert("updated_at", updated.unwrap_or_else(|| created.clone()));
        offer.insert("created_at", created);
        offer.extend(doc! {
            "apply_email": contact.email,
            "apply_phone": contact.phone,
            "cfa_siret": empty_to_null(&contact.cfa, "siret"),
            "cfa_legal_name": empty_to_null(&contact.cfa, "raison_sociale"),
            "cfa_address_label": empty_to_null(&contact.cfa, "address"),
            "cfa_apply_email": contact.cfa_email,
            "cfa_apply_phone": contact.cfa_phone,
        });
        Ok(offer)
    }

    fn recruiter(&self, field: &str) -> Bson {
        value(self.recruiter, field)
    }

    fn job(&self, field: &str) -> Bson {
        value(self.job, field)
    }

    fn status(&self) -> Result<&'static str, &'static str> {
        let manager = id_text(&self.recruiter("managed_by"));
        let is_gone = manager.is_some_and(|manager| self.references.is_anonymised(&manager));
        if is_gone || !is_active(self.recruiter) {
            return Ok("Cancelled");
        }
        match self.job("job_status").as_str() {
            Some("Active") => Ok("Active"),
            Some("Pourvue") => Ok("Filled"),
            Some("Annulée" | "En attente") => Ok("Cancelled"),
            _ => Err("unknown_job_status"),
        }
    }

    fn contact(&self) -> Result<Contact, &'static str> {
        let own = self.recruiter("email");
        let manager = id_text(&self.recruiter("managed_by"));
        let hidden = manager.as_deref().is_some_and(|manager| self.references.is_anonymised(manager));
        let email = Bson::from(self.rules.anonymized_email.as_str());
        let mut contact = Contact {
            email: own.clone(),
            phone: self.recruiter("phone"),
            cfa_email: Bson::Null,
            cfa_phone: Bson::Null,
            cfa: Document::new(),
            anonymised: Anonymised::Nobody,
        };
        let is_delegated = self.recruiter("is_delegated") == Bson::Boolean(true);
        let siret = non_empty(self.recruiter("cfa_delegated_siret")).filter(|_| is_delegated);
        if let Some(siret) = &siret {
            contact.cfa = self.references.cfa(siret).ok_or("missing_cfa")?.clone();
        }
        if hidden {
            contact.email = email.clone();
            contact.phone = Bson::Null;
            contact.cfa_email = siret.as_ref().map_or(Bson::Null, |_| email);
            contact.anonymised = siret.map_or(Anonymised::This(own), |_| Anonymised::Everybody);
            return Ok(contact);
        }
        if siret.is_none() {
            if is_delegated {
                contact.email = Bson::Null;
                contact.phone = Bson::Null;
            }
            return Ok(contact);
        }
        let user = manager.and_then(|manager| self.references.user(&manager)).ok_or("missing_cfa_user")?;
        contact.email = value(user, "email");
        contact.phone = value(user, "phone");
        contact.cfa_email = empty_to_null(user, "email");
        contact.cfa_phone = empty_to_null(user, "phone");
        Ok(contact)
    }

    fn of_job(&self, anonymised: &Anonymised) -> Document {
        let count = self.job("job_delegation_count");
        let no_count = matches!(count, Bson::Null | Bson::Int32(0) | Bson::Int64(0)) || count.as_f64() == Some(0.0);
        let both = || vec![Bson::from("Apprentissage"), Bson::from("Professionnalisation")];
        doc! {
            "partner_label": &self.rules.partner_label,
            "partner_job_id": self.id.to_hex(),
            "is_delegated": non_nullish(self.recruiter("is_delegated")).unwrap_or(Bson::Boolean(false)),
            "job_status_comment": empty_to_null(self.job, "job_status_comment"),
            "job_delegation_count": if no_count { Bson::Null } else { count },
            "delegations": self.delegations(anonymised),
            "contract_start": self.job("job_start_date"),
            "contract_duration": self.job("job_duration"),
            "contract_type": non_nullish(self.job("job_type")).unwrap_or_else(|| both().into()),
            "contract_is_disabled_elligible": self.references.has_handicap_engagement(&self.recruiter("establishment_siret")),
            "contract_rythm": self.job("job_rythm"),
            "offer_creation": self.job("job_creation_date"),
            "offer_expiration": self.job("job_expiration_date"),
            "offer_opening_count": non_nullish(self.job("job_count")).unwrap_or(Bson::Int32(1)),
            "managed_by": id_text(&self.recruiter("managed_by")).map_or_else(|| self.recruiter("managed_by"), Bson::from),
            "establishment_id": self.recruiter("establishment_id"),
            "recruiter_status": self.recruiter("status"),
            "relance_mail_expiration_J7": self.job("relance_mail_expiration_J7"),
            "relance_mail_expiration_J1": self.job("relance_mail_expiration_J1"),
            "job_last_prolongation_date": self.job("job_last_prolongation_date"),
            "job_prolongation_count": non_nullish(self.job("job_prolongation_count")).unwrap_or(Bson::Int32(0)),
            "mer_sent": self.job("mer_sent"),
        }
    }

    fn delegations(&self, anonymised: &Anonymised) -> Bson {
        let Bson::Array(mut delegations) = self.job("delegations") else {
            return self.job("delegations");
        };
        for delegation in delegations.iter_mut().filter_map(Bson::as_document_mut) {
            let read = delegation.get_str("cfa_read_company_detail_at").ok().and_then(date);
            if let Some(read) = read {
                delegation.insert("cfa_read_company_detail_at", read);
            }
            let email = value(delegation, "email");
            let replaced = match anonymised {
                Anonymised::Nobody => false,
                Anonymised::This(address) => email == *address,
                Anonymised::Everybody => true,
            };
            if replaced && email != Bson::Null {
                delegation.insert("email", &self.rules.anonymized_email);
            }
        }
        delegations.into()
    }

    fn of_workplace(&self) -> Document {
        let detail = self.recruiter("address_detail");
        let detail = detail.as_document().cloned().unwrap_or_default();
        let city = non_empty(self.recruiter("establishment_location"))
            .or_else(|| detail.get("localite").cloned())
            .or_else(|| detail.get("libelle_commune").cloned())
            .unwrap_or_else(|| "".into());
        let geopoint = non_nullish(self.recruiter("geopoint"))
            .or_else(|| self.recruiter("geo_coordinates").as_str().and_then(point).map(Bson::from));
        let name = non_empty(self.recruiter("establishment_raison_sociale"))
            .or_else(|| non_empty(self.recruiter("establishment_enseigne")))
            .unwrap_or_else(|| "Enseigne inconnue".into());
        doc! {
            "workplace_legal_name": name,
            "workplace_brand": self.recruiter("establishment_enseigne"),
            "workplace_siret": self.recruiter("establishment_siret"),
            "workplace_geopoint": geopoint.unwrap_or(Bson::Null),
            "workplace_address_label": self.recruiter("address"),
            "workplace_address_zipcode": value(&detail, "code_postal"),
            "workplace_address_city": city,
            "workplace_opco": self.recruiter("opco"),
            "workplace_idcc": self.recruiter("idcc"),
            "workplace_naf_code": self.recruiter("naf_code"),
            "workplace_naf_label": self.recruiter("naf_label"),
            "workplace_size": self.recruiter("establishment_size"),
            "offer_origin": self.recruiter("origin"),
        }
    }

    fn of_content(&self) -> Document {
        let codes = match self.job("rome_code") {
            Bson::String(code) => vec![Bson::from(code)].into(),
            other => other,
        };
        let first = codes.as_array().and_then(|codes| codes.first()).and_then(Bson::as_str);
        let sheet = first.and_then(|code| self.references.rome(code)).cloned().unwrap_or_default();
        let title = ["offer_title_custom", "rome_appellation_label", "rome_label"];
        let title = title.iter().find_map(|field| non_nullish(self.job(field))).unwrap_or_else(|| "Offre".into());
        let slug = slug(title.as_str().filter(|title| !title.is_empty()).unwrap_or("offre"));
        let Rules { public_url, offer_type, .. } = self.rules;
        let description = non_nullish(self.job("job_description")).or_else(|| non_nullish(value(&sheet, "definition")));
        doc! {
            "offer_target_diploma": self.diploma(),
            "offer_desired_skills": self.skills(&sheet),
            "offer_to_be_acquired_skills": self.by_category("savoir_faire", &sheet),
            "offer_to_be_acquired_knowledge": self.by_category("savoirs", &sheet),
            "offer_access_conditions": Vec::from_iter(non_empty(value(&sheet, "acces_metier"))),
            "lba_url": format!("{public_url}/emploi/{offer_type}/{}/{slug}", self.id.to_hex()),
            "offer_title": title,
            "offer_rome_codes": codes,
            "offer_rome_appellation": self.job("rome_appellation_label"),
            "offer_description": description.unwrap_or_else(|| "".into()),
        }
    }

    fn diploma(&self) -> Bson {
        let label = self.job("job_level_label");
        let european = match label.as_str() {
            Some("Cap, autres formations (Infrabac)") => "3",
            Some("BP, Bac, autres formations (Bac)") => "4",
            Some("BTS, DEUST, autres formations (Bac+2)") => "5",
            Some("Licence, Maîtrise, autres formations (Bac+3 à Bac+4)") => "6",
            Some("Master, titre ingénieur, autres formations (Bac+5)") => "7",
            _ => return Bson::Null,
        };
        doc! { "european": european, "label": label }.into()
    }

    /// This list of the job's competences; where there is none, of the ROME sheet's.
    fn competences(&self, list: &str, sheet: &Document) -> Vec<Document> {
        let list_of = |competences: Bson| competences.as_document()?.get_array(list).ok().cloned();
        let own = list_of(self.job("competences_rome"));
        let list = own.or_else(|| list_of(value(sheet, "competences"))).unwrap_or_default();
        documents(Some(&list.into())).into_iter().cloned().collect()
    }

    fn skills(&self, sheet: &Document) -> Vec<Bson> {
        let skills = self.competences("savoir_etre_professionnel", sheet);
        skills.iter().filter_map(|skill| skill.get("libelle").cloned()).collect()
    }

    fn by_category(&self, list: &str, sheet: &Document) -> Vec<Bson> {
        let mut labels = Vec::new();
        for category in self.competences(list, sheet) {
            let of = category.get_str("libelle").unwrap_or_default();
            let items = documents(category.get("items"));
            let items = items.iter().filter_map(|item| item.get_str("libelle").ok());
            labels.extend(items.map(|item| Bson::from(format!("{of}\t{item}"))));
        }
        labels
    }
}

/// What a created offer gets besides (spec 02, "Written only when the offer is created"), but for its history
/// and for `workplace_description`, which the job decides at that moment.
pub(crate) fn at_creation() -> Document {
    doc! {
        "stats_detail_view": 0, "stats_search_view": 0, "stats_postuler": 0, "offer_multicast": true,
        "contract_remote": null, "workplace_address_street_label": null,
        "workplace_name": null, "workplace_website": null, "apply_url": null,
    }
}
