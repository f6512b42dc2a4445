//! The projection: one job of a recruiter and its references become an offer.
//! The code follows the table of spec 02 row by row. The order of the rows is the order of the fields.

use std::sync::Arc;

use bson::raw::{CStr, RawArrayBuf, cstr};
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::contact::Contact;
use super::delegations::delegations;
use super::settings::ProjectionSettings;
use super::{diploma, skills, slug::slug, status};
use crate::model::dead_letter::Reason;
use crate::model::ids::JobId;
use crate::model::offer::StatusChange;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::user_id::user_id;
use crate::model::{Cfa, ManagedByType, Offer, OfferStatus, References, RomeSheet, TargetSchema, value};

/// The ROME code that selects the sheet: the first code of the list. A string counts as a list of one code.
#[must_use]
pub(crate) fn first_rome_code<'a>(job: &JobFields<'a>) -> Option<&'a str> {
    match job.rome_code? {
        RawBsonRef::String(code) => Some(code),
        RawBsonRef::Array(codes) => codes.into_iter().next()?.ok()?.as_str(),
        _ => None,
    }
}

/// Projects one job (spec 02).
///
/// # Errors
/// The reason of the dead letter of a job that cannot be projected.
pub fn project(
    recruiter: &RecruiterFields<'_>,
    id: JobId,
    job: &JobFields<'_>,
    references: &References,
    settings: &ProjectionSettings,
) -> Result<Offer, Reason> {
    let mut offer = project_once(recruiter, id, job, references, settings)?;
    if references.user_is_unknown {
        let anonymized = References { user_is_anonymized: true, ..references.clone() };
        offer.if_deleted = Some(Box::new(project_once(recruiter, id, job, &anonymized, settings)?));
    }
    Ok(offer)
}

fn project_once(
    recruiter: &RecruiterFields<'_>,
    id: JobId,
    job: &JobFields<'_>,
    references: &References,
    settings: &ProjectionSettings,
) -> Result<Offer, Reason> {
    if references.undecodable(settings.cancels_deactivated).is_some() {
        return Err(Reason::UndecodableReference);
    }
    let deactivated = settings.cancels_deactivated && references.user_status.is_deactivated;
    let own_status = status::offer_status(recruiter.status, job.job_status).map(|own| settings.schema.status(own));
    let is_gone = deactivated || references.user_is_anonymized;
    let status = if is_gone { OfferStatus::Cancelled } else { own_status? };
    let contact = Contact::of(recruiter, references, settings)?;
    let hex = id.to_string();
    let created_at = job.job_creation_date.unwrap_or(RawBsonRef::DateTime(id.0.timestamp()));
    let mut offer = OfferFields { fields: RawDocumentBuf::new(), schema: &settings.schema };

    offer.set(cstr!("partner_label"), settings.partner_label.as_str());
    offer.set(cstr!("partner_job_id"), hex.as_str());
    offer.set(cstr!("created_at"), created_at);
    offer.set(cstr!("updated_at"), updated_at(recruiter, job).unwrap_or(created_at));
    offer.set(cstr!("is_delegated"), recruiter.is_delegated.unwrap_or(RawBsonRef::Boolean(false)));
    offer.put(cstr!("job_status_comment"), value::non_empty(job.job_status_comment));
    let delegation_count = job.job_delegation_count.filter(|count| !value::is_zero(*count));
    offer.put(cstr!("job_delegation_count"), delegation_count);
    offer.set(cstr!("delegations"), &delegations(job, &contact));
    put_contract(&mut offer, job, references);
    put_workplace(&mut offer, recruiter);
    offer.put(cstr!("apply_email"), contact.email);
    offer.put(cstr!("apply_phone"), contact.phone);
    let title = put_description(&mut offer, recruiter, job, references);
    offer.put(cstr!("offer_creation"), job.job_creation_date);
    offer.put(cstr!("offer_expiration"), job.job_expiration_date);
    offer.set(cstr!("offer_status"), status.as_str());
    offer.set(cstr!("offer_opening_count"), job.job_count.unwrap_or(RawBsonRef::Int32(1)));
    offer.set(cstr!("lba_url"), public_url(settings, &hex, title).as_str());
    put_cfa(&mut offer, &contact);
    put_follow_up(&mut offer, recruiter, job);

    let reason = status::reason(own_status == Ok(status), job, references);
    let of_user = references.user_status.date.filter(|_| settings.cancels_deactivated);
    let date = value::later_date(job.job_update_date, recruiter.updated_at)
        .max(of_user)
        .or(created_at.as_datetime())
        .unwrap_or_else(|| id.0.timestamp());
    let workplace_description = value::non_empty(job.job_employer_description).unwrap_or(RawBsonRef::Null).into();
    Ok(Offer {
        id,
        fields: offer.fields,
        workplace_description,
        status,
        status_change: StatusChange { reason: reason.to_owned(), date },
        job_updated: job.job_update_date.and_then(value::date),
        schema: Arc::clone(&settings.schema),
        hides_contact: contact.is_hidden(),
        if_deleted: None,
    })
}

/// `updated_at` of the offer (spec 09, "Dates"). Archiving moves only the recruiter's `updatedAt`, so both dates count
/// for a recruiter that is not active. They do not for an active one: each edit of one job moves `updatedAt`, and the
/// offers of the other jobs would look newer than they are.
fn updated_at<'a>(recruiter: &RecruiterFields<'a>, job: &JobFields<'a>) -> Option<RawBsonRef<'a>> {
    let later =
        value::later_date(job.job_update_date, recruiter.updated_at).filter(|_| !status::is_active(recruiter.status));
    later.map(RawBsonRef::DateTime).or(job.job_update_date).or(recruiter.updated_at)
}

fn put_contract(offer: &mut OfferFields<'_>, job: &JobFields<'_>, references: &References) {
    offer.put(cstr!("contract_start"), job.job_start_date);
    offer.put(cstr!("contract_duration"), job.job_duration.map(value::as_int32));
    match job.job_type {
        Some(types) => offer.set(cstr!("contract_type"), types),
        None => offer.set(cstr!("contract_type"), &list(["Apprentissage", "Professionnalisation"])),
    }
    offer.set(cstr!("contract_is_disabled_elligible"), references.handicap);
    offer.put(cstr!("contract_rythm"), job.job_rythm);
}

fn put_workplace(offer: &mut OfferFields<'_>, recruiter: &RecruiterFields<'_>) {
    let legal_name = value::non_empty(recruiter.establishment_raison_sociale)
        .or_else(|| value::non_empty(recruiter.establishment_enseigne))
        .unwrap_or(RawBsonRef::String("Enseigne inconnue"));
    offer.set(cstr!("workplace_legal_name"), legal_name);
    offer.put(cstr!("workplace_brand"), recruiter.establishment_enseigne);
    offer.put(cstr!("workplace_siret"), recruiter.establishment_siret);
    let parsed = value::text(recruiter.geo_coordinates).and_then(point);
    let point = recruiter.geopoint.or_else(|| parsed.as_ref().map(RawBsonRef::from));
    offer.put(cstr!("workplace_geopoint"), point);
    offer.put(cstr!("workplace_address_label"), recruiter.address);
    let detail = value::object(recruiter.address_detail);
    let zipcode = detail.and_then(|detail| value::field(detail, "code_postal"));
    offer.put(cstr!("workplace_address_zipcode"), zipcode);
    offer.set(cstr!("workplace_address_city"), city(recruiter, detail));
    offer.put(cstr!("workplace_opco"), recruiter.opco);
    offer.put(cstr!("workplace_idcc"), recruiter.idcc);
    offer.put(cstr!("workplace_naf_code"), recruiter.naf_code);
    offer.put(cstr!("workplace_naf_label"), recruiter.naf_label);
    offer.put(cstr!("workplace_size"), recruiter.establishment_size);
}

/// Writes the fields from `offer_origin` to `offer_description`. Returns the title, or `None` when it is no text.
fn put_description<'a>(
    offer: &mut OfferFields<'_>,
    recruiter: &RecruiterFields<'a>,
    job: &JobFields<'a>,
    references: &References,
) -> Option<&'a str> {
    let rome = references.rome.as_deref();
    let of_sheet = |field: fn(&RomeSheet) -> &Option<RawBson>| {
        rome.and_then(|rome| field(rome).as_ref()).map(RawBson::as_raw_bson_ref)
    };
    offer.put(cstr!("offer_origin"), recruiter.origin);
    put_target_diploma(offer, job.job_level_label);
    let own = value::object(job.competences_rome);
    let sheet = value::object(of_sheet(|rome| &rome.competences));
    offer.set(cstr!("offer_desired_skills"), &skills::desired(own, sheet));
    offer.set(cstr!("offer_to_be_acquired_skills"), &skills::by_category("savoir_faire", own, sheet));
    offer.set(cstr!("offer_to_be_acquired_knowledge"), &skills::by_category("savoirs", own, sheet));
    let access = value::non_empty(of_sheet(|rome| &rome.acces_metier));
    offer.set(cstr!("offer_access_conditions"), &list(access));
    let title =
        job.offer_title_custom.or(job.rome_appellation_label).or(job.rome_label).unwrap_or(RawBsonRef::String("Offre"));
    offer.set(cstr!("offer_title"), title);
    match job.rome_code {
        Some(RawBsonRef::String(code)) => offer.set(cstr!("offer_rome_codes"), &list([code])),
        codes => offer.put(cstr!("offer_rome_codes"), codes),
    }
    offer.put(cstr!("offer_rome_appellation"), job.rome_appellation_label);
    let description = job.job_description.or(of_sheet(|rome| &rome.definition));
    offer.set(cstr!("offer_description"), description.unwrap_or(RawBsonRef::String("")));
    title.as_str()
}

fn put_cfa(offer: &mut OfferFields<'_>, contact: &Contact<'_>) {
    let of_cfa = |field: fn(&Cfa) -> &Option<RawBson>| {
        value::non_empty(contact.cfa.and_then(|cfa| field(cfa).as_ref()).map(RawBson::as_raw_bson_ref))
    };
    offer.put(cstr!("cfa_siret"), of_cfa(|cfa| &cfa.siret));
    offer.put(cstr!("cfa_legal_name"), of_cfa(|cfa| &cfa.raison_sociale));
    offer.put(cstr!("cfa_address_label"), of_cfa(|cfa| &cfa.address));
    let of_user = |value| contact.cfa.and(value::non_empty(value));
    offer.put(cstr!("cfa_apply_email"), of_user(contact.email));
    offer.put(cstr!("cfa_apply_phone"), of_user(contact.phone));
}

fn put_follow_up(offer: &mut OfferFields<'_>, recruiter: &RecruiterFields<'_>, job: &JobFields<'_>) {
    match (offer.schema.managed_by(), recruiter.managed_by) {
        (ManagedByType::String, Some(RawBsonRef::ObjectId(id))) => {
            offer.set(cstr!("managed_by"), id.to_hex().as_str());
        }
        (ManagedByType::String, managed_by) => offer.put(cstr!("managed_by"), managed_by),
        // A text that names no user has no form of this type.
        (ManagedByType::ObjectId, managed_by) => {
            offer.put(cstr!("managed_by"), user_id(managed_by).map(|user| RawBsonRef::ObjectId(user.0)));
        }
    }
    offer.put(cstr!("establishment_id"), recruiter.establishment_id);
    offer.put(cstr!("recruiter_status"), recruiter.status);
    offer.put(cstr!("relance_mail_expiration_J7"), job.relance_mail_expiration_j7);
    offer.put(cstr!("relance_mail_expiration_J1"), job.relance_mail_expiration_j1);
    offer.put(cstr!("job_last_prolongation_date"), job.job_last_prolongation_date);
    let prolongations = job.job_prolongation_count.map_or(RawBsonRef::Int32(0), value::as_int32);
    offer.set(cstr!("job_prolongation_count"), prolongations);
    offer.put(cstr!("mer_sent"), job.mer_sent);
}

/// The GeoJSON point of `"lat,lon"`; `None` unless both are numbers in range.
fn point(coordinates: &str) -> Option<RawDocumentBuf> {
    let (latitude, longitude) = coordinates.split_once(',')?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let (latitude, longitude) = (number(latitude)?, number(longitude)?);
    let in_range = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
    in_range.then(|| rawdoc! { "type": "Point", "coordinates": [longitude, latitude] })
}

fn city<'a>(recruiter: &RecruiterFields<'a>, detail: Option<&'a RawDocument>) -> RawBsonRef<'a> {
    // Null and missing differ here: a key that exists decides, even with null (spec 02).
    let at = |key: &str| detail.and_then(|detail| detail.get(key).ok().flatten());
    value::non_empty(recruiter.establishment_location)
        .or_else(|| at("localite"))
        .or_else(|| at("libelle_commune"))
        .unwrap_or(RawBsonRef::String(""))
}

fn put_target_diploma(offer: &mut OfferFields<'_>, label: Option<RawBsonRef<'_>>) {
    let label = value::text(label);
    let diploma = label.and_then(|label| Some(rawdoc! { "european": diploma::european_level(label)?, "label": label }));
    offer.put(cstr!("offer_target_diploma"), diploma.as_ref().map(RawBsonRef::from));
}

fn public_url(settings: &ProjectionSettings, hex: &str, title: Option<&str>) -> String {
    let title = title.filter(|title| !title.is_empty()).unwrap_or("offre");
    format!("{}/emploi/{}/{hex}/{}", settings.public_url, settings.offer_type, slug(title))
}

fn list<'a, T: Into<RawBsonRef<'a>>>(values: impl IntoIterator<Item = T>) -> RawArrayBuf {
    values.into_iter().map(Into::into).collect()
}

/// The offer document under construction. A unit test below compares its names with `WRITTEN`.
struct OfferFields<'s> {
    fields: RawDocumentBuf,
    schema: &'s TargetSchema,
}

impl OfferFields<'_> {
    /// Writes a field, unless the target's schema omits it.
    fn set<'v>(&mut self, name: &CStr, value: impl Into<RawBsonRef<'v>>) {
        if !self.schema.omits(name.as_str()) {
            self.fields.append(name, value.into());
        }
    }

    /// Writes a missing value as null, because the live schema wants the field present (spec 02).
    fn put(&mut self, name: &CStr, value: Option<RawBsonRef<'_>>) {
        self.set(name, value.unwrap_or(RawBsonRef::Null));
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, oid::ObjectId};

    use super::*;
    use crate::model::UserStatus;
    use crate::project::WRITTEN;

    fn settings() -> ProjectionSettings {
        ProjectionSettings {
            partner_label: "RECRUTEURS_LBA".to_owned(),
            public_url: "https://example.com".to_owned(),
            offer_type: "offres_emploi_lba".to_owned(),
            anonymized_email: "anonymized@example.com".to_owned(),
            cancels_deactivated: false,
            schema: Arc::default(),
        }
    }

    fn projected(recruiter: &RawDocument, references: &References) -> Result<RawDocumentBuf, Reason> {
        let id = JobId(ObjectId::parse_str("65102a7347a6ef7545b05ef0").unwrap());
        let job = rawdoc! { "job_status": "Active", "job_description": "x" };
        let recruiter = RecruiterFields::read(recruiter).unwrap();
        let offer = project(&recruiter, id, &JobFields::read(&job).unwrap(), references, &settings());
        offer.map(|offer| offer.fields)
    }

    #[test]
    fn every_field_of_the_table_is_written_once_and_in_its_order() {
        let fields = projected(&rawdoc! {}, &References::default()).unwrap();
        let names: Vec<_> = fields.iter().map(|field| field.unwrap().0).collect();
        assert_eq!(names, WRITTEN);
    }

    #[test]
    fn a_delegated_job_carries_the_contact_of_the_cfa_user_and_waits_for_what_is_missing() {
        let recruiter = rawdoc! { "is_delegated": true, "cfa_delegated_siret": "1", "email": "recruiter" };
        let cfa = Some(Cfa { siret: Some("1".into()), ..Cfa::default() }.into());
        let user = Some(crate::model::User { email: Some("user".into()), phone: Some("".into()) }.into());
        let none = References::default();
        assert_eq!(projected(&recruiter, &none), Err(Reason::MissingCfa));
        let without_user = References { cfa: cfa.clone(), ..References::default() };
        assert_eq!(projected(&recruiter, &without_user), Err(Reason::MissingCfaUser));
        let offer = projected(&recruiter, &References { cfa, user, ..References::default() }).unwrap();
        assert_eq!(offer.get_str("apply_email").unwrap(), "user");
        assert_eq!(offer.get_str("cfa_apply_email").unwrap(), "user");
        assert_eq!(offer.get_str("apply_phone").unwrap(), "");
        assert_eq!(offer.get("cfa_apply_phone").unwrap(), Some(RawBsonRef::Null));
    }

    #[test]
    fn delegated_without_a_cfa_siret_has_no_contact() {
        let recruiter = rawdoc! { "is_delegated": true, "cfa_delegated_siret": "", "email": "recruiter", "phone": "1" };
        let offer = projected(&recruiter, &References::default()).unwrap();
        for field in ["apply_email", "apply_phone", "cfa_apply_email", "cfa_siret"] {
            assert_eq!(offer.get(field).unwrap(), Some(RawBsonRef::Null), "{field}");
        }
    }

    #[test]
    fn an_anonymised_user_never_shows_even_when_the_recruiter_still_carries_the_contact() {
        let references = References { user_is_anonymized: true, ..References::default() };
        let offer = projected(&rawdoc! { "email": "recruiter", "phone": "1" }, &references).unwrap();
        assert_eq!(offer.get_str("apply_email").unwrap(), "anonymized@example.com");
        assert_eq!(offer.get("apply_phone").unwrap(), Some(RawBsonRef::Null));
        assert_eq!(offer.get("cfa_apply_email").unwrap(), Some(RawBsonRef::Null));
    }

    #[test]
    fn an_anonymised_address_does_not_come_back_with_the_delegations() {
        let job = rawdoc! { "job_status": "Active", "delegations": [{ "email": "own" }, { "email": "other" }] };
        let emails = |recruiter: RawDocumentBuf| -> Vec<String> {
            let cfa = Some(Cfa::default().into());
            let references = References { user_is_anonymized: true, cfa, ..References::default() };
            let (recruiter, job) = (RecruiterFields::read(&recruiter).unwrap(), JobFields::read(&job).unwrap());
            let offer = project(&recruiter, JobId(ObjectId::new()), &job, &references, &settings()).unwrap();
            let delegations = offer.fields.get_array("delegations").unwrap().into_iter();
            let email =
                |delegation: RawBsonRef<'_>| delegation.as_document().unwrap().get_str("email").unwrap().to_owned();
            delegations.map(|delegation| email(delegation.unwrap())).collect()
        };
        assert_eq!(emails(rawdoc! { "email": "own" }), ["anonymized@example.com", "other"]);
        let delegated = rawdoc! { "is_delegated": true, "cfa_delegated_siret": "1", "email": "own" };
        assert_eq!(emails(delegated), ["anonymized@example.com", "anonymized@example.com"]);
    }

    #[test]
    fn where_the_configuration_says_so_a_deactivated_user_cancels_whatever_the_status_of_the_job() {
        let project = |job_status: &str, is_deactivated, cancels_deactivated| {
            let job = rawdoc! { "job_status": job_status, "job_update_date": DateTime::from_millis(1) };
            let recruiter = rawdoc! { "status": "Actif" };
            let user_status = UserStatus { is_deactivated, date: Some(DateTime::from_millis(2)) };
            let references = References { user_status, ..References::default() };
            let (recruiter, job) = (RecruiterFields::read(&recruiter).unwrap(), JobFields::read(&job).unwrap());
            let settings = ProjectionSettings { cancels_deactivated, ..settings() };
            let offer = super::project(&recruiter, JobId(ObjectId::new()), &job, &references, &settings)?;
            Ok((offer.status, offer.status_change.reason, offer.status_change.date.timestamp_millis()))
        };
        let own = |status, date| Ok((status, "changed in recruiter".to_owned(), date));
        let by_user = Ok((OfferStatus::Cancelled, status::USER_DEACTIVATED.to_owned(), 2));
        assert_eq!(project("Active", true, true), by_user);
        assert_eq!(project("Statut inconnu", true, true), by_user);
        assert_eq!(project("Annulée", true, true), own(OfferStatus::Cancelled, 2));
        assert_eq!(project("Active", false, true), own(OfferStatus::Active, 2));
        assert_eq!(project("Active", true, false), own(OfferStatus::Active, 1));
        assert_eq!(project("Statut inconnu", true, false), Err(Reason::UnknownJobStatus));
    }

    #[test]
    fn a_point_needs_two_numbers_in_range() {
        assert!(point("48.85, 2.35").is_some());
        for text in ["", "48.85", "48.85,", "a,b", "91,2", "48,181", "NaN,2", "inf,2", "1,2,3"] {
            assert_eq!(point(text), None, "{text}");
        }
    }
}
