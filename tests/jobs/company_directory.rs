//! `refresh-pending-establishments` (4.6) against a server that speaks the directory's API and that of the geocoding
//! service, and the cache before it.

use bson::{Bson, DateTime, Document, doc};
use serde_json::{Value, json};

use super::ticker::offer_jobs::assert_settled;
use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::ticking::{counts, date, later, text, time, told};
use crate::support::web_server::{Answer, Asked, WebServer};

pub(super) const NOW: &str = "2026-06-14T22:10:00Z";
/// The two spellings of the status.
pub(super) const PENDING: &str = "En attente de validation";
pub(super) const PENDING_BY_NAME: &str = "EN_ATTENTE_VALIDATION";
pub(super) const JOB: &str = "refresh-pending-establishments";

fn establishment(state: &str, fields: Value) -> Value {
    let mut data = json!({
        "etat_administratif": state, "status_diffusion": "diffusible",
        "activite_principale": { "code": "10.71C", "libelle": "Boulangerie et boulangerie-pâtisserie" },
        "unite_legale": {
            "personne_morale_attributs": { "raison_sociale": "EXEMPLE SAS" },
            "tranche_effectif_salarie": { "code": "12" }, "date_creation": 1_262_304_000,
        },
        "adresse": { "numero_voie": "7", "type_voie": "RUE", "libelle_voie": "DES ESSAIS", "code_postal": "69001",
                     "libelle_commune": "LYON" },
    });
    data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "data": data, "links": {}, "meta": {} })
}

pub(super) fn found(state: &str) -> Answer {
    found_with(state, json!({}))
}

fn found_with(state: &str, fields: Value) -> Answer {
    Answer::Say(200, establishment(state, fields).to_string())
}

/// The geocoding service: it knows Lyon.
fn place(asked: &Asked) -> Answer {
    let features = if asked.query.contains("postcode=69001") {
        json!([{ "type": "Feature", "geometry": { "type": "Point", "coordinates": [4.83, 45.76] },
                 "properties": { "score": 0.9, "postcode": "69001" } }])
    } else {
        json!([])
    };
    Answer::Say(200, json!({ "type": "FeatureCollection", "features": features }).to_string())
}

/// A server of both services; the script is that of the directory.
pub(super) async fn services(directory: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> WebServer {
    WebServer::start(move |asked, before| if is_geocoding(asked) { place(asked) } else { directory(asked, before) })
        .await
}

pub(super) fn is_geocoding(asked: &Asked) -> bool {
    asked.path == "/search/"
}

pub(super) fn pending(siret: &str, jobs: impl IntoIterator<Item = Document>, fields: Document) -> Document {
    let pending = with(recruiter(jobs), doc! { "establishment_siret": siret, "status": PENDING });
    with(pending, fields)
}

/// Recruiters that wait for their validation, each with two jobs, under these sirets.
async fn waiting(name: &str, sirets: &[&str]) -> TestDatabase {
    let test = TestDatabase::create(name).await;
    let jobs = || [job("Boulanger"), with(job("Vendeur"), doc! { "job_status": "Pourvue" })];
    let recruiters = sirets.iter().map(|siret| pending(siret, jobs(), doc! {}));
    test.collection("recruiters").insert_many(recruiters.collect::<Vec<Document>>()).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    test
}

/// The settings under which the server is both services.
pub(super) fn settings(server: &WebServer) -> Vec<(&'static str, String)> {
    vec![
        ("STREAM_PROCESSOR__DIRECTORY__BASE_URL", format!("{}/v3", server.url())),
        ("STREAM_PROCESSOR__DIRECTORY__GEOCODING_URL", format!("{}/search/", server.url())),
        ("STREAM_PROCESSOR__DIRECTORY__TOKEN", "a-token".to_owned()),
        ("STREAM_PROCESSOR__DIRECTORY__RECIPIENT", "12345678900012".to_owned()),
        ("STREAM_PROCESSOR__DIRECTORY__TIMEOUT", "300ms".to_owned()),
        ("STREAM_PROCESSOR__DIRECTORY__RATE", "100".to_owned()),
    ]
}

pub(super) async fn run(test: &TestDatabase, server: &WebServer, more: &[&str]) -> (i32, Value) {
    run_with(test, server, more, &[]).await
}

pub(super) async fn run_with(
    test: &TestDatabase,
    server: &WebServer,
    more: &[&str],
    further: &[(&'static str, &str)],
) -> (i32, Value) {
    let mut settings = settings(server);
    settings.retain(|(name, _)| !further.iter().any(|(other, _)| other == name));
    settings.extend(further.iter().map(|(name, value)| (*name, (*value).to_owned())));
    settings.retain(|(_, value)| !value.is_empty());
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let arguments = [&["jobs", "run", JOB, "--json", "--now", NOW], more].concat();
    let (code, mut lines) = told(&arguments, test, &settings).await;
    (code, lines.pop().unwrap())
}

/// How many recruiters, and how many offers, have this status.
pub(super) async fn with_status(test: &TestDatabase, status: &str) -> (u64, u64) {
    let recruiters = test.collection("recruiters").count_documents(doc! { "status": status }).await.unwrap();
    let offers = test.collection("jobs_partners").count_documents(doc! { "recruiter_status": status }).await.unwrap();
    (recruiters, offers)
}

pub(super) fn siret(asked: &Asked) -> &str {
    asked.path.rsplit('/').next().unwrap()
}

/// The establishments, by the answer of the directory.
const SIRETS: [&str; 13] = [
    "11111111111111",
    "22222222222222",
    "33333333333333",
    "44444444444444",
    "55555555555555",
    "66666666666666",
    "7777",
    "88888888888888",
    "99999999999999",
    "12121212121212",
    "13131313131313",
    "14141414141414",
    "15151515151515",
];

fn of_directory(asked: &Asked, before: usize) -> Answer {
    match (siret(asked), before) {
        ("22222222222222", _) => found("F"),
        ("33333333333333", _) => Answer::Say(404, json!({ "errors": [] }).to_string()),
        ("44444444444444", 0) => Answer::Later(429, 1),
        ("55555555555555", _) => Answer::Say(200, "<html>maintenance</html>".to_owned()),
        ("66666666666666", 0) => Answer::Say(500, "oops".to_owned()),
        ("66666666666666", 1) => Answer::Stall,
        ("88888888888888", _) => Answer::Say(451, String::new()),
        ("99999999999999", _) => found_with("A", json!({ "status_diffusion": "partiellement_diffusible" })),
        ("12121212121212", _) => found_with("A", json!({ "activite_principale": { "code": "85.59A" } })),
        ("13131313131313", _) => {
            found_with("A", json!({ "adresse": { "code_postal": "20000", "libelle_commune": "AJACCIO" } }))
        }
        ("14141414141414", _) => found_with("A", json!({ "adresse": null })),
        ("15151515151515", _) => found_with("A", json!({ "unite_legale": null })),
        _ => found("A"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_directory_says_decides_about_an_establishment_and_both_sides_agree() {
    let test = waiting("directory_answers", &SIRETS).await;
    let server = services(of_directory).await;
    let before = offers::read(&test.database).await;
    let (code, rehearsed) = run(&test, &server, &["--dry-run"]).await;
    assert_eq!((code, counts(&rehearsed)), (1, [26, 14, 2]), "{rehearsed}");
    offers::assert_same(&before, &offers::read(&test.database).await);
    assert_eq!(with_status(&test, PENDING).await, (13, 26), "a dry run changes nothing");

    let keeps = ("STREAM_PROCESSOR__REFRESH__ARCHIVE_REFUSED", "false");
    let (code, off) = run_with(&test, &server, &["--dry-run"], &[keeps]).await;
    assert_eq!((code, counts(&off)), (1, [26, 6, 2]), "{off}");
    let refused = json!({ "closed": 2, "unpublished": 4, "training_body": 2 });
    assert!(refused.as_object().unwrap().iter().all(|(why, count)| &off["skipped"][why] == count), "{off}");

    let (code, done) = run(&test, &server, &[]).await;
    assert_eq!((code, counts(&done)), (1, [26, 14, 2]), "{done}");
    let left = json!({ "invalid_siret": 2, "no_address": 2, "no_geopoint": 2, "no_name": 2, "unknown": 2 });
    assert_eq!(done["skipped"], left);
    let archived = json!({ "archived_closed": 2, "archived_training_body": 2, "archived_unpublished": 4 });
    assert_eq!(done["changed_as"], archived);
    for (status, recruiters) in [(PENDING, 6), ("Actif", 3), ("Archivé", 4)] {
        assert_eq!(with_status(&test, status).await, (recruiters, 2 * recruiters), "{status}");
    }
    let offers = test.collection("jobs_partners");
    for (place, title, status, reason) in [
        (3, "Boulanger", "Active", "établissement vérifié"),
        (3, "Vendeur", "Filled", "établissement vérifié"),
        (1, "Boulanger", "Cancelled", "établissement fermé"),
        (7, "Boulanger", "Cancelled", "établissement non diffusible"),
        (8, "Vendeur", "Cancelled", "établissement non diffusible"),
        (9, "Boulanger", "Cancelled", "organisme de formation"),
    ] {
        let offer = doc! { "workplace_siret": SIRETS[place], "offer_title": title };
        let offer = offers.find_one(offer).await.unwrap().unwrap();
        assert_eq!((text(&offer, "offer_status"), time(&offer, "updated_at")), (Some(status), Some(date(NOW))));
        let entry = doc! { "status": status, "reason": reason, "date": date(NOW), "granted_by": "stream-processor" };
        assert_eq!(offer.get_array("offer_status_history").unwrap(), &[Bson::from(entry)]);
    }
    assert_settled(&test).await;
    let (_, again) = run(&test, &server, &[]).await;
    assert_eq!(counts(&again), [12, 0, 2], "a second run changes nothing: {again}");
    assert_asked(&server);
}

/// What the services were asked, and how.
fn assert_asked(server: &WebServer) {
    let (places, establishments): (Vec<Asked>, Vec<Asked>) = server.asked().into_iter().partition(is_geocoding);
    let asked = &establishments[0];
    assert!(asked.path.starts_with("/v3/insee/sirene/etablissements/diffusibles/"), "{}", asked.path);
    assert_eq!(asked.authorization.as_deref(), Some("Bearer a-token"));
    let query =
        "context=La+bonne+alternance&object=V%C3%A9rification+d%27un+%C3%A9tablissement&recipient=12345678900012";
    assert_eq!(asked.query, query);
    let lyon = "q=7+RUE+DES+ESSAIS+69001+LYON&postcode=69001&limit=1";
    assert!(places.iter().any(|asked| asked.query == lyon), "{places:?}");
    assert!(places.iter().any(|asked| asked.query == "q=20000+AJACCIO&postcode=20000&limit=1"), "{places:?}");
    assert!(places.iter().all(|asked| asked.authorization.is_none()), "the token is the directory's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_geocoding_service_that_is_down_ends_the_run_early_and_nothing_is_lost() {
    let sirets: Vec<String> = (0..5).map(|number| format!("1111111111111{number}")).collect();
    let sirets: Vec<&str> = sirets.iter().map(String::as_str).collect();
    let test = waiting("directory_no_places", &sirets).await;
    for (answer, places) in [
        (Answer::Say(403, String::new()), 1),
        (Answer::Later(429, 3_600), 1),
        (Answer::Say(502, String::new()), 12),
        (Answer::Say(200, "{}".to_owned()), 12),
    ] {
        let server =
            WebServer::start(move |asked, _| if is_geocoding(asked) { answer.clone() } else { found("A") }).await;
        let (code, done) = run(&test, &server, &[]).await;
        assert_eq!((code, done["error"].as_str()), (1, Some("geocoding_down")), "{done}");
        assert_eq!(server.asked().iter().filter(|asked| is_geocoding(asked)).count(), places);
        assert_eq!(with_status(&test, PENDING).await, (5, 10));
    }
    let server = services(|_, _| found("A")).await;
    let (code, done) = run(&test, &server, &[]).await;
    assert_eq!((code, counts(&done)), (0, [10, 10, 0]));
    let ended = Processor::command(
        &["config", "check"],
        &test,
        &[("STREAM_PROCESSOR__DIRECTORY__GEOCODING_URL", "http://example.com/search/")],
    )
    .await;
    assert!(ended.code == 2 && ended.stderr.contains("directory.geocoding_url"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_down_ends_the_run_early_and_the_next_one_goes_on() {
    let sirets: Vec<String> = (0..9).map(|number| format!("1111111111111{number}")).collect();
    let sirets: Vec<&str> = sirets.iter().map(String::as_str).collect();
    let test = waiting("directory_down", &sirets).await;
    let answers = [
        (Answer::Say(500, String::new()), 3, 12),
        (Answer::Say(200, "{}".to_owned()), 3, 12),
        (Answer::Stall, 1, 4),
        (Answer::Say(401, String::new()), 1, 1),
        (Answer::Later(429, 3_600), 1, 1),
    ];
    for (answer, establishments, calls) in answers {
        let server = WebServer::start(move |_, _| answer.clone()).await;
        let (code, done) = run(&test, &server, &[]).await;
        assert_eq!(
            (code, done["outcome"].as_str(), done["error"].as_str()),
            (1, Some("failed"), Some("directory_down"))
        );
        let mut asked: Vec<String> = server.asked().iter().map(|asked| asked.path.clone()).collect();
        assert_eq!(asked.len(), calls);
        asked.sort();
        asked.dedup();
        assert_eq!(asked.len(), establishments, "the others are not asked about");
        assert_eq!(with_status(&test, PENDING).await, (9, 18));
    }
    let server = services(|_, _| found("A")).await;
    let (code, done) = run(&test, &server, &[]).await;
    assert_eq!((code, counts(&done)), (0, [18, 18, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_young_entry_of_the_cache_is_taken_and_an_old_one_is_not() {
    let sirets = ["11111111111111", "22222222222222", "33333333333333", "44444444444444"];
    let test = waiting("directory_cache", &sirets).await;
    let entry = |siret: &str, age: i64, fields: Document| {
        let updated = later(date(NOW), -age);
        with(doc! { "siret": siret, "createdAt": DateTime::MIN, "updatedAt": updated }, fields)
    };
    let data = |state: &str| doc! { "data": bson::serialize_to_bson(&establishment(state, json!({}))).unwrap() };
    let month = 30 * 24 * 3_600_000;
    let entries = [
        entry(sirets[0], month - 1, data("A")),
        entry(sirets[1], month - 1, doc! { "error": "NON_DIFFUSIBLE" }),
        entry(sirets[2], month, data("F")),
        entry(sirets[3], 0, doc! { "data": { "another": "shape" } }),
    ];
    test.collection("cache_siret").insert_many(entries).await.unwrap();
    let server = services(|_, _| found("A")).await;
    let (code, done) = run(&test, &server, &[]).await;
    let archived = json!({ "archived_unpublished": 2 });
    assert_eq!((code, counts(&done), &done["changed_as"]), (0, [8, 8, 0], &archived));
    let asked = server.asked();
    let mut asked: Vec<&str> = asked.iter().filter(|asked| !is_geocoding(asked)).map(siret).collect();
    asked.sort();
    assert_eq!(asked, sirets[2..]);
}
