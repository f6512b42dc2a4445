//! Random documents of the source collections. Few ids and few keys, so that everything collides often; now and then
//! a value is dirty. Contacts carry the name of whose they are, so that one that should be gone is recognised.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

pub(super) const RECRUITERS: u8 = 8;
pub(super) const JOBS: u8 = 20;
pub(super) const USERS: u8 = 6;
/// The last user is deleted without a copy in `anonymized_userswithaccounts`, the others never are.
pub(super) const FORGOTTEN_USER: u8 = USERS - 1;
pub(super) const CFAS: u8 = 4;
pub(super) const SHEETS: u8 = 5;
pub(super) const ENGAGEMENTS: u8 = 4;

/// Kinds of documents, as their ids tell them.
const RECRUITER: u8 = 1;
const JOB: u8 = 2;
const USER: u8 = 3;
const REFERENCE: u8 = 4;

pub(super) fn recruiter_id(number: u8) -> ObjectId {
    id(RECRUITER, number)
}

pub(super) fn job_id(number: u8) -> ObjectId {
    id(JOB, number)
}

pub(super) fn user_id(number: u8) -> ObjectId {
    id(USER, number)
}

pub(super) fn reference_id(number: u8) -> ObjectId {
    id(REFERENCE, number)
}

/// In every contact of this recruiter.
pub(super) fn contact_of_recruiter(id: ObjectId) -> String {
    format!("recruiter-{}-", id.to_hex())
}

/// In every contact of this user.
pub(super) fn contact_of_user(id: &str) -> String {
    format!("user-{id}-")
}

/// Old enough for a resync to judge them, and with dates inside that differ.
fn id(kind: u8, number: u8) -> ObjectId {
    ObjectId::from_bytes([0x65, kind, number, 0, 0, 0, 0, 0, 0, 0, kind, number])
}

pub(super) fn recruiter(random: &mut StdRng, number: u8) -> Document {
    let id = recruiter_id(number);
    let mut recruiter = doc! { "_id": id, "establishment_id": id.to_hex(), "status": "Actif", "address": "1 rue" };
    for field in RECRUITER_FIELDS.split(' ') {
        set(&mut recruiter, field, recruiter_field(random, number, field));
    }
    let count = random.random_range(0..6);
    let jobs: Vec<Bson> = (0..count).map(|_| Bson::from(any_job(random, number))).collect();
    recruiter.insert("jobs", jobs);
    recruiter
}

pub(super) fn any_job(random: &mut StdRng, recruiter: u8) -> Document {
    let number = random.random_range(0..JOBS);
    job(random, recruiter, number)
}

pub(super) fn job(random: &mut StdRng, recruiter: u8, number: u8) -> Document {
    let mut job = doc! { "_id": job_id(number) };
    for field in JOB_FIELDS.split(' ') {
        set(&mut job, field, job_field(random, recruiter, field));
    }
    job
}

pub(super) const RECRUITER_FIELDS: &str = "\
    establishment_siret establishment_raison_sociale establishment_enseigne establishment_location \
    origin opco idcc address address_detail geo_coordinates geopoint is_delegated cfa_delegated_siret \
    phone email status managed_by updatedAt naf_code";

/// A value for a field of a recruiter; `None`: it is missing.
pub(super) fn recruiter_field(random: &mut StdRng, number: u8, field: &str) -> Option<Bson> {
    let contact = contact_of_recruiter(recruiter_id(number));
    let version = random.random_range(0..3);
    let own = match field {
        "email" => return Some(format!("{contact}{version}@example.com").into()),
        "phone" => format!("{contact}{version}").into(),
        "establishment_siret" => establishment_siret(random),
        "is_delegated" => random.random_bool(0.5).into(),
        "cfa_delegated_siret" => cfa_siret(random),
        "status" => pick(random, ["Actif", "Actif", "Actif", "Actif", "ACTIF", "Archivé", "En attente de validation"]),
        "managed_by" => return manager(random),
        "address" if version > 0 => "1 rue".into(),
        "address" => pick(random, ["2 rue", "3 rue", ""]),
        "address_detail" => address_detail(random),
        "geo_coordinates" => pick(random, ["48.85,2.35", "-21.1,55.5", "91,2", "48.85", "nord,sud", "1,2,3"]),
        "geopoint" => doc! { "type": "Point", "coordinates": [f64::from(version), 48.5] }.into(),
        "idcc" => number_of_any_type(random),
        "updatedAt" => return Some(date(random)),
        _ => word(random),
    };
    // A geo index is on it: the source could not hold another type.
    dirty(random, own, field != "geopoint")
}

pub(super) const JOB_FIELDS: &str = "\
    rome_code rome_label rome_appellation_label offer_title_custom job_level_label job_start_date \
    job_description job_creation_date job_expiration_date job_update_date job_last_prolongation_date \
    job_prolongation_count relance_mail_expiration_J7 relance_mail_expiration_J1 mer_sent job_status \
    job_status_comment job_type job_delegation_count delegations job_count competences_rome job_rythm";

/// A value for a field of a job; `None`: it is missing.
pub(super) fn job_field(random: &mut StdRng, recruiter: u8, field: &str) -> Option<Bson> {
    let own = match field {
        "rome_code" => rome_codes(random),
        "job_level_label" => pick(random, ["BTS, DEUST, autres formations (Bac+2)", "Indifférent", "Autre"]),
        "job_status" => {
            let statuses = ["Active", "Active", "Active", "Active", "Pourvue", "Annulée", "En attente", "Inconnu"];
            pick(random, statuses)
        }
        "job_type" => vec![pick(random, ["Apprentissage", "Professionnalisation"])].into(),
        "offer_title_custom" => pick(random, ["Développeur Web (H/F)", "BTSNdrc2024", "", "!!!", "ÉLECTRICIEN"]),
        "delegations" => delegations(random, recruiter),
        "competences_rome" => competences(random),
        "job_count" | "job_delegation_count" | "job_prolongation_count" => number_of_any_type(random),
        "job_update_date" => date(random),
        field if field.contains("date") || field.starts_with("relance") || field == "mer_sent" => date(random),
        _ => word(random),
    };
    dirty(random, own, true)
}

pub(super) fn user(random: &mut StdRng, number: u8) -> Document {
    let mut user = doc! { "_id": user_id(number), "first_name": "Prénom", "last_name": "Nom" };
    for field in ["email", "phone", "status"] {
        user.insert(field, user_field(random, number, field));
    }
    user
}

pub(super) fn user_field(random: &mut StdRng, number: u8, field: &str) -> Bson {
    let contact = contact_of_user(&user_id(number).to_hex());
    let version = random.random_range(0..4);
    match field {
        "email" => format!("{contact}{version}@example.com").into(),
        "phone" if version == 0 => Bson::Null,
        "phone" => format!("{contact}{version}").into(),
        _ => vec![Bson::from(doc! { "status": pick(random, ["ACTIF", "DESACTIVE"]), "date": date(random) })].into(),
    }
}

pub(super) fn cfa(random: &mut StdRng, number: u8) -> Document {
    let mut cfa = doc! { "_id": reference_id(number), "siret": siret(1, number % 3) };
    for field in ["raison_sociale", "address"] {
        let value = word(random);
        set(&mut cfa, field, dirty(random, value, true));
    }
    cfa
}

/// Two sheets may have one code: then the one with the lower `_id` is taken, here and there.
pub(super) fn sheet(random: &mut StdRng, number: u8) -> Document {
    let mut sheet = doc! { "_id": reference_id(number), "rome": { "code_rome": code(number % 4) } };
    for field in ["definition", "acces_metier"] {
        let value = word(random);
        set(&mut sheet, field, dirty(random, value, false));
    }
    let competences = competences(random);
    set(&mut sheet, "competences", dirty(random, competences, true));
    sheet
}

pub(super) fn engagement(random: &mut StdRng, number: u8) -> Document {
    doc! {
        "_id": reference_id(number), "siret": siret(2, number),
        "engagement": pick(random, ["handicap", "handicap", "autre"]),
        "sources": pick(random, [&["france-travail"][..], &["les", "france-travail"], &["les"]].map(|it| it.to_vec())),
    }
}

pub(super) fn cfa_siret(random: &mut StdRng) -> Bson {
    let number = random.random_range(0..7);
    if number == 6 { "".into() } else { siret(1, number / 2).into() }
}

pub(super) fn establishment_siret(random: &mut StdRng) -> Bson {
    siret(2, random.random_range(0..ENGAGEMENTS)).into()
}

pub(super) fn rome_code(random: &mut StdRng) -> Bson {
    code(random.random_range(0..4)).into()
}

pub(super) fn date(random: &mut StdRng) -> Bson {
    DateTime::from_millis(1_700_000_000_000 + random.random_range(0..100) * 86_400_000).into()
}

/// One of these, by chance.
pub(super) fn pick<T: Into<Bson> + Clone, const N: usize>(random: &mut StdRng, values: [T; N]) -> Bson {
    values.choose(random).cloned().unwrap().into()
}

fn siret(first: u8, last: u8) -> String {
    format!("{first}000000000000{last}")
}

fn code(number: u8) -> String {
    format!("A100{number}")
}

fn word(random: &mut StdRng) -> Bson {
    pick(random, ["Boulanger", "Vendeur", "L'Été", "", "$set", "a.b"])
}

fn number_of_any_type(random: &mut StdRng) -> Bson {
    [Bson::Int32(0), Bson::Int32(3), Bson::Int64(1 << 40), Bson::Int64(0), Bson::Double(0.0), Bson::Double(2.5)]
        .choose(random)
        .cloned()
        .unwrap()
}

/// An id as text or ObjectId, of somebody or nobody.
fn manager(random: &mut StdRng) -> Option<Bson> {
    let id = user_id(random.random_range(0..=USERS));
    match random.random_range(0..12) {
        0 => None,
        1 => Some("not-an-id".into()),
        2 => Some(id.into()),
        _ => Some(id.to_hex().into()),
    }
}

fn address_detail(random: &mut StdRng) -> Bson {
    match random.random_range(0..4) {
        0 => doc! { "code_postal": "75001", "localite": pick(random, ["Paris", "Lyon"]) }.into(),
        1 => doc! { "code_postal": "69003", "libelle_commune": "LYON" }.into(),
        2 => doc! { "localite": null, "libelle_commune": "LILLE" }.into(),
        _ => "1 rue, 75001 Paris".into(),
    }
}

fn rome_codes(random: &mut StdRng) -> Bson {
    match random.random_range(0..6) {
        0 => rome_code(random),
        1 => Vec::<Bson>::new().into(),
        2 => vec![Bson::Null, rome_code(random)].into(),
        _ => vec![rome_code(random), rome_code(random)].into(),
    }
}

fn delegations(random: &mut StdRng, recruiter: u8) -> Bson {
    let count = random.random_range(0..3);
    let delegation = |_| {
        let own = format!("{}0@example.com", contact_of_recruiter(recruiter_id(recruiter)));
        let email = pick(random, [own.as_str(), "cfa@example.com"]);
        let read = [Bson::Null, "2024-02-29".into(), "2024-01-01T10:00:00+02:00".into(), "hier".into(), date(random)];
        doc! { "siret_code": siret(1, 0), "email": email, "cfa_read_company_detail_at": read.choose(random).cloned() }
    };
    (0..count).map(delegation).map(Bson::from).collect::<Vec<Bson>>().into()
}

fn competences(random: &mut StdRng) -> Bson {
    let category = |label: &str| doc! { "libelle": "Famille", "items": [{ "libelle": label }, { "code": 1 }] };
    let lists = ["savoir_etre_professionnel", "savoir_faire", "savoirs"];
    let mut competences = Document::new();
    for list in lists {
        match random.random_range(0..5) {
            0 => {}
            1 => drop(competences.insert(list, Bson::Null)),
            2 => drop(competences.insert(list, Vec::<Bson>::new())),
            3 => drop(competences.insert(list, "texte")),
            _ => drop(
                competences
                    .insert(list, [category("Pétrir"), doc! { "libelle": "Autonomie" }].map(Bson::from).to_vec()),
            ),
        }
    }
    competences.into()
}

/// Mostly the value; now and then null, missing, or (where that is allowed) something of another type.
fn dirty(random: &mut StdRng, value: Bson, of_any_type: bool) -> Option<Bson> {
    match random.random_range(0..40) {
        0 | 1 => None,
        2 | 3 => Some(Bson::Null),
        4 if of_any_type => Some(Bson::Int32(7)),
        5 if of_any_type => Some(doc! { "autre": true }.into()),
        _ => Some(value),
    }
}

fn set(document: &mut Document, field: &str, value: Option<Bson>) {
    match value {
        Some(value) => drop(document.insert(field, value)),
        None => drop(document.remove(field)),
    }
}
