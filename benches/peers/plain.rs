//! The plain way to keep the offers in step, as a Rust developer would write it in a day: the driver's change stream with
//! the newest document, one `replace_one` for each job, and the token after each batch. `cargo xtask bench --only peers`
//! measures it, and `docs/performance.md` says what it does not guarantee.
#![allow(clippy::disallowed_methods, reason = "a small program of its own: it reads the environment")]

use std::error::Error;

use bson::{Bson, DateTime, Document, doc};
use mongodb::change_stream::event::ResumeToken;
use mongodb::options::FullDocumentType;
use mongodb::{Client, Collection};
use serde::{Deserialize, Serialize};

/// The token is saved after this many events, and earlier when no event is waiting.
const BATCH: usize = 100;
const TOKEN: &str = "token";

/// The stored position.
#[derive(Serialize, Deserialize)]
struct State {
    #[serde(rename = "_id")]
    id: String,
    token: ResumeToken,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::with_uri_str(std::env::var("MONGODB_URI")?).await?;
    let database = client.database(&std::env::var("MONGODB_DATABASE")?);
    let offers = database.collection::<Document>("jobs_partners");
    let states = database.collection::<State>("peer_state");
    let saved = states.find_one(doc! { "_id": TOKEN }).await?;
    let recruiters = database.collection::<Document>("recruiters");
    let watch = recruiters.watch().full_document(FullDocumentType::UpdateLookup);
    let mut events = match saved {
        Some(state) => watch.resume_after(state.token).await?,
        None => watch.await?,
    };
    loop {
        let mut applied = 0;
        while applied < BATCH {
            let Some(event) = events.next_if_any().await? else { break };
            if let Some(recruiter) = event.full_document {
                apply(&offers, &recruiter).await?;
            }
            applied += 1;
        }
        if applied == 0 {
            continue;
        }
        if let Some(token) = events.resume_token() {
            let state = State { id: TOKEN.to_owned(), token };
            states.replace_one(doc! { "_id": TOKEN }, state).upsert(true).await?;
        }
    }
}

/// Writes the offers of all jobs of a recruiter.
async fn apply(offers: &Collection<Document>, recruiter: &Document) -> Result<(), mongodb::error::Error> {
    if recruiter.get_str("address").unwrap_or_default().is_empty() {
        return Ok(());
    }
    for job in list(recruiter, "jobs").iter().filter_map(Bson::as_document) {
        let Ok(id) = job.get_object_id("_id") else { continue };
        let mut offer = of_recruiter(recruiter);
        offer.extend(of_job(recruiter, job));
        offer.insert("lba_url", url(&id.to_hex(), offer.get_str("offer_title").unwrap_or_default()));
        offers.replace_one(doc! { "_id": id }, offer).upsert(true).await?;
    }
    Ok(())
}

/// The fields of an offer that are the same for all jobs of a recruiter.
fn of_recruiter(recruiter: &Document) -> Document {
    let detail = recruiter.get_document("address_detail").cloned().unwrap_or_default();
    let city = [get(&detail, "localite"), get(&detail, "libelle_commune"), "".into()];
    let names = ["establishment_raison_sociale", "establishment_enseigne"].map(|field| get(recruiter, field));
    doc! {
        "partner_label": "RECRUTEURS_LBA",
        "is_delegated": recruiter.get_bool("is_delegated").unwrap_or(false),
        "workplace_legal_name": first(names, "Enseigne inconnue"),
        "workplace_brand": get(recruiter, "establishment_enseigne"),
        "workplace_siret": get(recruiter, "establishment_siret"),
        "workplace_geopoint": get(recruiter, "geopoint"),
        "workplace_address_label": get(recruiter, "address"),
        "workplace_address_zipcode": get(&detail, "code_postal"),
        "workplace_address_city": first(city, ""),
        "workplace_opco": get(recruiter, "opco"), "workplace_idcc": get(recruiter, "idcc"),
        "workplace_naf_code": get(recruiter, "naf_code"), "workplace_naf_label": get(recruiter, "naf_label"),
        "workplace_size": get(recruiter, "establishment_size"),
        "apply_email": get(recruiter, "email"), "apply_phone": get(recruiter, "phone"),
        "offer_origin": get(recruiter, "origin"),
        "managed_by": get(recruiter, "managed_by"), "establishment_id": get(recruiter, "establishment_id"),
        "recruiter_status": get(recruiter, "status"),
        "contract_is_disabled_elligible": false, "offer_access_conditions": [],
        "cfa_siret": null, "cfa_legal_name": null, "cfa_address_label": null,
        "cfa_apply_email": null, "cfa_apply_phone": null,
        "stats_detail_view": 0, "stats_search_view": 0, "stats_postuler": 0,
        "offer_status_history": [], "offer_multicast": true, "contract_remote": null,
        "workplace_address_street_label": null, "workplace_name": null, "workplace_website": null, "apply_url": null,
    }
}

fn of_job(recruiter: &Document, job: &Document) -> Document {
    let id = job.get_object_id("_id").map(|id| id.to_hex()).unwrap_or_default();
    let dates = [get(job, "job_update_date"), get(recruiter, "updatedAt"), get(job, "job_creation_date")];
    let titles = ["offer_title_custom", "rome_appellation_label", "rome_label"].map(|field| get(job, field));
    let skills = job.get_document("competences_rome").cloned().unwrap_or_default();
    let count = if job.get_i32("job_count").is_ok() { get(job, "job_count") } else { 1.into() };
    doc! {
        "partner_job_id": id,
        "created_at": first([get(job, "job_creation_date")], DateTime::now()),
        "updated_at": first(dates, DateTime::now()),
        "job_status_comment": get(job, "job_status_comment"),
        "job_delegation_count": get(job, "job_delegation_count"), "delegations": get(job, "delegations"),
        "contract_start": get(job, "job_start_date"), "contract_duration": whole(job, "job_duration"),
        "contract_type": first([get(job, "job_type")], vec!["Apprentissage", "Professionnalisation"]),
        "contract_rythm": get(job, "job_rythm"),
        "offer_target_diploma": diploma(job.get_str("job_level_label").unwrap_or_default()),
        "offer_desired_skills": labels(&skills, "savoir_etre_professionnel"),
        "offer_to_be_acquired_skills": paired_labels(&skills, "savoir_faire"),
        "offer_to_be_acquired_knowledge": paired_labels(&skills, "savoirs"),
        "offer_title": first(titles, "Offre"),
        "offer_rome_codes": get(job, "rome_code"),
        "offer_rome_appellation": get(job, "rome_appellation_label"),
        "offer_description": first([get(job, "job_description")], ""),
        "workplace_description": get(job, "job_employer_description"),
        "offer_creation": get(job, "job_creation_date"), "offer_expiration": get(job, "job_expiration_date"),
        "offer_status": status(recruiter, job), "offer_opening_count": count,
        "relance_mail_expiration_J7": get(job, "relance_mail_expiration_J7"),
        "relance_mail_expiration_J1": get(job, "relance_mail_expiration_J1"),
        "job_last_prolongation_date": get(job, "job_last_prolongation_date"),
        "job_prolongation_count": job.get_i32("job_prolongation_count").unwrap_or_default(),
        "mer_sent": get(job, "mer_sent"),
    }
}

fn status(recruiter: &Document, job: &Document) -> &'static str {
    match (recruiter.get_str("status"), job.get_str("job_status")) {
        (Ok("Actif"), Ok("Active")) => "Active",
        (Ok("Actif"), Ok("Pourvue")) => "Filled",
        _ => "Cancelled",
    }
}

fn diploma(label: &str) -> Bson {
    let european = match label {
        "Cap, autres formations (Infrabac)" => "3",
        "BP, Bac, autres formations (Bac)" => "4",
        "BTS, DEUST, autres formations (Bac+2)" => "5",
        "Licence, Maîtrise, autres formations (Bac+3 à Bac+4)" => "6",
        "Master, titre ingénieur, autres formations (Bac+5)" => "7",
        _ => return Bson::Null,
    };
    doc! { "european": european, "label": label }.into()
}

/// Without the rule of the platform for breaks inside of words.
fn url(id: &str, title: &str) -> String {
    let words = title.to_lowercase();
    let words: Vec<&str> =
        words.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("http://localhost:3000/emploi/offres_emploi_lba/{id}/{}", words.join("-"))
}

fn labels(skills: &Document, field: &str) -> Vec<String> {
    list(skills, field).iter().filter_map(label).collect()
}

fn paired_labels(skills: &Document, field: &str) -> Vec<String> {
    let mut paired = Vec::new();
    for category in list(skills, field).iter().filter_map(Bson::as_document) {
        let name = category.get_str("libelle").unwrap_or_default();
        paired.extend(labels(category, "items").into_iter().map(|item| format!("{name}\t{item}")));
    }
    paired
}

fn label(entry: &Bson) -> Option<String> {
    entry.as_document()?.get_str("libelle").ok().map(str::to_owned)
}

/// The validator wants an int32.
fn whole(document: &Document, field: &str) -> Bson {
    match document.get(field) {
        Some(Bson::Double(number)) => Bson::Int32(*number as i32),
        Some(Bson::Int64(number)) => Bson::Int32(*number as i32),
        Some(number) => number.clone(),
        None => Bson::Null,
    }
}

/// The first value that is neither null nor empty.
fn first<const N: usize>(values: [Bson; N], otherwise: impl Into<Bson>) -> Bson {
    let is_set = |value: &Bson| !matches!(value, Bson::Null) && value.as_str() != Some("");
    values.into_iter().find(is_set).unwrap_or_else(|| otherwise.into())
}

fn get(document: &Document, field: &str) -> Bson {
    document.get(field).cloned().unwrap_or(Bson::Null)
}

fn list<'a>(document: &'a Document, field: &str) -> &'a [Bson] {
    document.get_array(field).map(Vec::as_slice).unwrap_or_default()
}
