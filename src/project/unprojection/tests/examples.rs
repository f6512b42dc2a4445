//! Examples of what people and applications write into an offer.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

use super::super::{Unprojection, new_job, new_recruiter};
use super::documents::settings;
use super::laws::{Case, new_documents_give_the_offer, raw, what_was_said_comes_back};
use crate::model::ids::JobId;
use crate::model::recruiter::RecruiterFields;
use crate::model::{Cfa, References, RomeSheet, User, UserStatus};

const CAP: &str = "Cap, autres formations (Infrabac)";

fn day(day: i64) -> DateTime {
    DateTime::from_millis(1_760_000_000_000 + day * 86_400_000)
}

fn case() -> Case {
    let skills =
        doc! { "libelle": "Cuisine", "items": [{ "libelle": "Saler", "code_ogr": 1 }, { "libelle": "Poivrer" }] };
    let competences =
        doc! { "savoir_faire": [skills], "savoir_etre_professionnel": [{ "libelle": "Calme", "code_ogr": 2 }] };
    let rome = RomeSheet {
        definition: Some("texte de la fiche".into()),
        acces_metier: None,
        competences: Some(competences.try_into().map(bson::RawBson::Document).unwrap()),
    };
    Case {
        recruiter: doc! {
            "establishment_id": "e", "establishment_siret": "1", "establishment_enseigne": "Enseigne", "status": "Actif",
            "address": "1 rue", "address_detail": "1 rue", "email": "r", "phone": "1", "managed_by": "65a2bf7347a6ef7545b05ef0",
            "is_delegated": false, "updatedAt": day(0),
        },
        id: JobId(ObjectId::parse_str("65102a7347a6ef7545b05ef0").unwrap()),
        job: doc! {
            "job_status": "Active", "rome_code": ["A1"], "rome_appellation_label": "Cuisinier", "job_level_label": CAP,
            "job_creation_date": day(0), "job_update_date": day(0),
        },
        references: References { rome: Some(Arc::new(rome)), ..References::default() },
        settings: settings(0),
    }
}

/// The edits for what is written into the projection of the case. They hold by all laws.
fn said(case: &Case, written: Document) -> Unprojection {
    let mut offer = Document::try_from(case.projected().unwrap()).unwrap();
    offer.extend(written);
    new_documents_give_the_offer(case, &raw(&offer), None);
    what_was_said_comes_back(case, &raw(&offer))
}

fn edits(job: Document, recruiter: Document) -> Unprojection {
    Unprojection { job, recruiter, not_invertible: BTreeSet::new() }
}

fn named<const N: usize>(fields: [&'static str; N]) -> Unprojection {
    Unprojection { not_invertible: BTreeSet::from(fields), ..Unprojection::default() }
}

#[test]
fn statuses_go_by_the_table_read_backwards() {
    let pending = Case { settings: settings(1), ..case() };
    for (written, job_status) in [("Filled", "Pourvue"), ("Cancelled", "Annulée"), ("Pending", "En attente")] {
        let written = doc! { "offer_status": written, "updated_at": day(1) };
        let job = doc! { "job_update_date": day(1), "job_status": job_status };
        assert_eq!(said(&pending, written), edits(job, doc! {}));
    }
    let waiting = Case { job: doc! { "job_status": "En attente" }, ..case() };
    assert_eq!(said(&waiting, doc! { "offer_status": "Active" }), edits(doc! { "job_status": "Active" }, doc! {}));
    assert_eq!(
        said(&waiting, doc! { "offer_status": "Cancelled" }),
        Unprojection::default(),
        "it is `Cancelled` already"
    );
    assert_eq!(said(&waiting, doc! { "offer_status": "Pending" }), named(["offer_status"]), "the schema lacks it");
    assert_eq!(said(&waiting, doc! { "offer_status": "Perdue" }), named(["offer_status"]));
}

#[test]
fn a_job_with_an_unknown_status_takes_that_of_its_offer() {
    let active = Document::try_from(case().projected().unwrap()).unwrap();
    let unknown =
        Case { job: Document::from_iter(case().job.into_iter().filter(|(name, _)| name != "job_status")), ..case() };
    let found = what_was_said_comes_back(&unknown, &raw(&active));
    assert_eq!(found, edits(doc! { "job_status": "Active" }, doc! {}));
}

#[test]
fn the_status_of_a_recruiter_wins_over_that_of_the_offer() {
    let archived = Case { recruiter: doc! { "status": "Archivé", "address": "1 rue" }, ..case() };
    assert_eq!(said(&archived, doc! { "offer_status": "Active" }), named(["offer_status"]));
    let opened = said(&archived, doc! { "recruiter_status": "Actif", "offer_status": "Filled" });
    assert_eq!(opened, edits(doc! { "job_status": "Pourvue" }, doc! { "status": "Actif" }));
    // The job is active, and opens as soon as its recruiter does.
    let still_closed = said(&archived, doc! { "recruiter_status": "Actif" });
    assert_eq!(still_closed, edits(doc! { "job_status": "Annulée" }, doc! { "status": "Actif" }));
    let closed = said(&case(), doc! { "recruiter_status": "Archivé", "offer_status": "Filled" });
    assert_eq!(closed, Unprojection { recruiter: doc! { "status": "Archivé" }, ..named(["offer_status"]) });
}

#[test]
fn an_anonymised_or_deactivated_user_keeps_the_offer_closed_and_no_contact_comes_back() {
    let user_status = UserStatus { is_deactivated: true, date: None };
    let references = References { user_status, ..case().references };
    let deactivated = Case { references, settings: settings(4), ..case() };
    assert_eq!(said(&deactivated, doc! { "offer_status": "Active" }), named(["offer_status"]));
    let rhythm = said(&deactivated, doc! { "offer_status": "Active", "contract_rythm": "r" });
    assert_eq!(rhythm, Unprojection { job: doc! { "job_rythm": "r" }, ..named(["offer_status"]) });
    let references = References { user_is_anonymized: true, ..case().references };
    let anonymised = Case { references, ..case() };
    assert_eq!(said(&anonymised, doc! { "offer_status": "Active" }), named(["offer_status"]));
    assert_eq!(
        said(&anonymised, doc! { "apply_email": "r", "apply_phone": "1" }),
        named(["apply_email", "apply_phone"])
    );
}

#[test]
fn the_address_of_an_anonymised_user_does_not_come_back_in_a_delegation() {
    let references = References { user_is_anonymized: true, ..case().references };
    let mut anonymised = Case { references, ..case() };
    anonymised.job.insert("delegations", vec![doc! { "email": "anonymized@example.com" }]);
    let hidden = doc! { "delegations": [{ "email": "r" }] };
    assert_eq!(said(&anonymised, hidden), named(["delegations"]));
    let other = doc! { "delegations": [{ "email": "o" }] };
    assert_eq!(said(&anonymised, other.clone()), edits(other, doc! {}));
}

#[test]
fn the_contact_of_a_delegated_recruiter_is_not_its_own() {
    assert_eq!(said(&case(), doc! { "apply_email": "n" }), edits(doc! {}, doc! { "email": "n" }));
    let cfa = Cfa { siret: Some("2".into()), raison_sociale: Some("CFA".into()), address: None };
    let user = User { email: Some("cfa".into()), phone: None };
    let references = References { cfa: Some(cfa.into()), user: Some(user.into()), ..case().references };
    let recruiter =
        doc! { "is_delegated": true, "cfa_delegated_siret": "2", "status": "Actif", "email": "r", "address": "a" };
    let delegated = Case { recruiter, references, ..case() };
    assert_eq!(
        said(&delegated, doc! { "apply_email": "n", "cfa_legal_name": "N" }),
        named(["apply_email", "cfa_legal_name"])
    );
    let gone = doc! {
        "cfa_siret": null, "cfa_legal_name": null, "apply_email": null, "cfa_apply_email": null, "cfa_address_label": null,
    };
    assert_eq!(said(&delegated, gone), edits(doc! {}, doc! { "cfa_delegated_siret": null }));
    // The references are those of the offer, whose CFA the recruiter does not name yet.
    let other = Case {
        recruiter: Document::from_iter(delegated.recruiter.clone().into_iter().map(|(name, value)| {
            let value = if name == "cfa_delegated_siret" { "3".into() } else { value };
            (name, value)
        })),
        ..delegated
    };
    assert_eq!(said(&other, doc! {}), edits(doc! {}, doc! { "cfa_delegated_siret": "2" }));
}

#[test]
fn what_came_from_the_rome_sheet_stays_null_until_it_changes() {
    assert_eq!(said(&case(), doc! { "offer_title": "Chef" }).job, doc! { "offer_title_custom": "Chef" });
    let written = said(&case(), doc! { "offer_description": "texte" });
    assert_eq!(written, edits(doc! { "job_description": "texte" }, doc! {}));
    assert_eq!(said(&case(), doc! { "offer_description": null }), named(["offer_description"]));
}

#[test]
fn with_another_rome_code_the_job_keeps_what_it_took_from_the_sheet_before() {
    let case = case();
    let offer = case.projected().unwrap();
    let mut written = Document::try_from(offer).unwrap();
    written.insert("offer_rome_codes", vec!["B2"]);
    let said = what_was_said_comes_back(&case, &raw(&written));
    let names: Vec<&String> = said.job.keys().collect();
    assert_eq!(names, ["rome_code", "job_description", "competences_rome"]);
    let with_other_sheet = Case { references: References::default(), ..case.edited(&said) };
    assert_eq!(super::laws::differing(&raw(&written), &with_other_sheet.projected().unwrap()), BTreeSet::new());
}

#[test]
fn skills_keep_their_codes_and_others_are_made_from_their_label() {
    let lines = vec!["Cuisine\tPoivrer", "Cuisine\tSaler", "Cuisine\tGouter", "Salle\tServir"];
    let said =
        said(&case(), doc! { "offer_to_be_acquired_skills": lines, "offer_desired_skills": ["Calme", "Rapide"] });
    let cuisine =
        vec![doc! { "libelle": "Poivrer" }, doc! { "libelle": "Saler", "code_ogr": 1 }, doc! { "libelle": "Gouter" }];
    let competences = doc! {
        "savoir_etre_professionnel": [{ "libelle": "Calme", "code_ogr": 2 }, { "libelle": "Rapide" }],
        "savoir_faire": [{ "libelle": "Cuisine", "items": cuisine }, { "libelle": "Salle", "items": [{ "libelle": "Servir" }] }],
    };
    assert_eq!(said, edits(doc! { "competences_rome": competences }, doc! {}));
    assert_eq!(
        self::said(&case(), doc! { "offer_to_be_acquired_knowledge": ["x"] }),
        named(["offer_to_be_acquired_knowledge"])
    );
}

#[test]
fn a_diploma_goes_back_by_its_label_and_only_with_its_own_level() {
    let bac = "BP, Bac, autres formations (Bac)";
    let written = |diploma: Bson| said(&case(), doc! { "offer_target_diploma": diploma });
    assert_eq!(written(doc! { "european": "4", "label": bac }.into()).job, doc! { "job_level_label": bac });
    assert_eq!(written(Bson::Null).job, doc! { "job_level_label": "Indifférent" });
    assert_eq!(written(doc! { "european": "3", "label": bac }.into()), named(["offer_target_diploma"]));
    let any = Case { job: doc! { "job_status": "Active", "job_level_label": "Niveau inconnu" }, ..case() };
    assert_eq!(said(&any, doc! { "offer_target_diploma": null }), Unprojection::default());
}

#[test]
fn an_address_goes_where_the_projection_takes_it_from() {
    let written = || doc! { "workplace_address_zipcode": "75001", "workplace_address_city": "Paris" };
    let whole = doc! { "address_detail": { "code_postal": "75001", "localite": "Paris" } };
    assert_eq!(said(&case(), written()).recruiter, whole, "an `address_detail` that is a text");
    let with = |fields: Document| {
        let mut case = case();
        case.recruiter.extend(fields);
        said(&case, written()).recruiter
    };
    let detail = with(doc! { "address_detail": { "libelle_commune": null, "code_postal": "1" } });
    assert_eq!(detail, doc! { "address_detail.code_postal": "75001", "address_detail.libelle_commune": "Paris" });
    let old = with(doc! { "address_detail": { "code_postal": "75001" }, "establishment_location": "Lyon" });
    assert_eq!(old, doc! { "establishment_location": "Paris" });
    assert_eq!(said(&case(), doc! { "workplace_address_label": "" }), named(["workplace_address_label"]));
    let mut placed = case();
    placed.recruiter.insert("geo_coordinates", "48.85,2.35");
    let point = doc! { "type": "Point", "coordinates": [5.0, 43.3] };
    let moved = said(&placed, doc! { "workplace_geopoint": &point }).recruiter;
    assert_eq!(moved, doc! { "geo_coordinates": "43.3,5", "geopoint": point });
    assert_eq!(said(&placed, doc! { "workplace_geopoint": null }).recruiter, doc! { "geo_coordinates": null });
}

#[test]
fn a_brand_that_stood_for_the_legal_name_leaves_it() {
    let said = said(&case(), doc! { "workplace_brand": "Autre" });
    let recruiter = doc! { "establishment_raison_sociale": "Enseigne", "establishment_enseigne": "Autre" };
    assert_eq!(said, edits(doc! {}, recruiter));
}

#[test]
fn a_user_keeps_the_type_that_the_recruiter_has() {
    let [own, other] =
        ["65a2bf7347a6ef7545b05ef0", "65a2bf7347a6ef7545b05ef1"].map(|id| ObjectId::parse_str(id).unwrap());
    let with_object_ids = Case { settings: settings(2), ..case() };
    assert_eq!(said(&case(), doc! { "managed_by": own }), Unprojection::default(), "another spelling of the same user");
    let text = edits(doc! {}, doc! { "managed_by": other.to_hex() });
    assert_eq!(said(&with_object_ids, doc! { "managed_by": other }), text);
    let mut object_id = case();
    object_id.recruiter.insert("managed_by", own);
    assert_eq!(said(&object_id, doc! { "managed_by": other.to_hex() }), edits(doc! {}, doc! { "managed_by": other }));
}

#[test]
fn a_field_that_the_offer_lacks_says_nothing() {
    let mut dated = case();
    dated.job.insert("mer_sent", day(1));
    let mut offer = Document::try_from(dated.projected().unwrap()).unwrap();
    offer.remove("mer_sent");
    assert_eq!(what_was_said_comes_back(&dated, &raw(&offer)), Unprojection::default());
    offer.insert("mer_sent", Bson::Null);
    let said = what_was_said_comes_back(&dated, &raw(&offer));
    assert_eq!(said, edits(doc! { "mer_sent": null }, doc! {}));
}

#[test]
fn an_equal_number_with_another_projection_is_written() {
    let mut case = case();
    case.job.insert("job_duration", -0.0);
    assert_eq!(said(&case, doc! { "contract_duration": -0.0 }), Unprojection::default());
    let written = said(&case, doc! { "contract_duration": 0.0 }).job;
    assert!(written.get_f64("job_duration").unwrap().is_sign_positive());
}

#[test]
fn the_link_follows_the_title_and_the_date_of_creation_is_one() {
    let said = said(&case(), doc! { "offer_title": "Chef", "offer_creation": day(3) });
    assert_eq!(said.job, doc! { "offer_title_custom": "Chef", "job_creation_date": day(3) });
    assert_eq!(said.not_invertible, BTreeSet::from(["lba_url", "created_at"]));
}

#[test]
fn a_new_recruiter_and_a_new_job_have_what_an_application_wrote_into_the_offer() {
    let offer = raw(&doc! {
        "establishment_id": "e", "offer_status": "Active", "apply_email": "o", "workplace_siret": "1", "offer_title": "Chef",
        "workplace_address_label": "1 rue", "workplace_address_city": "Paris", "offer_rome_codes": ["A1"],
        "offer_description": "texte de la fiche", "workplace_description": "nous", "managed_by": user_id(),
        "workplace_geopoint": { "type": "Point", "coordinates": [5.0, 43.3] }, "updated_at": day(2), "created_at": day(1),
    });
    let user = raw(&doc! { "first_name": "P", "last_name": "N", "email": "u" });
    let recruiter = new_recruiter(&offer, Some(&user), &settings(0));
    let expected = doc! {
        "establishment_id": "e", "establishment_siret": "1", "address": "1 rue",
        "geopoint": { "type": "Point", "coordinates": [5.0, 43.3] }, "geo_coordinates": "43.3,5",
        "address_detail": { "localite": "Paris" }, "is_delegated": false, "email": "o", "first_name": "P", "last_name": "N",
        "status": "Actif", "managed_by": user_id().to_hex(), "createdAt": day(1), "updatedAt": day(2),
    };
    assert_eq!(recruiter, expected);
    let Case { id, references, settings, .. } = case();
    let recruiter = raw(&recruiter);
    let recruiter = RecruiterFields::read(&recruiter).unwrap();
    let (job, not_invertible) = new_job(&offer, &recruiter, id, &references, &settings);
    let expected = doc! {
        "_id": id, "job_status": "Active", "job_update_date": day(2), "job_employer_description": "nous",
        "job_creation_date": day(1), "rome_code": ["A1"], "offer_title_custom": "Chef",
    };
    assert_eq!((job, not_invertible), (expected, BTreeSet::new()));
}

fn user_id() -> ObjectId {
    ObjectId::parse_str("65a2bf7347a6ef7545b05ef0").unwrap()
}
