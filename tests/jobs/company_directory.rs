//! `refresh-pending-establishments` (4.6) against a server that speaks the directory's API, and the cache before it.

use bson::{DateTime, Document, doc};
use serde_json::{Value, json};

use crate::jobs::ticker::offer_jobs::assert_settled;
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::ticking::{counts, date, later, text, told};
use crate::support::web_server::{Answer, Asked, WebServer};

const NOW: &str = "2026-06-14T22:10:00Z";
const PENDING: &str = "En attente de validation";

fn establishment(state: &str) -> Value {
    json!({ "data": {
        "etat_administratif": state, "status_diffusion": "diffusible",
        "unite_legale": { "personne_morale_attributs": { "raison_sociale": "EXEMPLE SAS" } },
        "adresse": { "numero_voie": "7", "type_voie": "RUE", "libelle_voie": "DES ESSAIS", "code_postal": "69001",
                     "libelle_commune": "LYON" },
    }, "links": {}, "meta": {} })
}

fn found(state: &str) -> Answer {
    Answer::Say(200, establishment(state).to_string())
}

/// Recruiters that wait for their validation, each with two jobs, under these sirets.
async fn waiting(name: &str, sirets: &[&str]) -> TestDatabase {
    let test = TestDatabase::create(name).await;
    let recruiters = sirets.iter().map(|siret| {
        let jobs = [job("Boulanger"), with(job("Vendeur"), doc! { "job_status": "Pourvue" })];
        with(recruiter(jobs), doc! { "establishment_siret": *siret, "status": PENDING })
    });
    test.collection("recruiters").insert_many(recruiters.collect::<Vec<Document>>()).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    test
}

async fn run(test: &TestDatabase, server: &WebServer, more: &[&str]) -> (i32, Value) {
    let base = format!("{}/v3", server.url());
    let settings = [
        ("STREAM_PROCESSOR__DIRECTORY__BASE_URL", base.as_str()),
        ("STREAM_PROCESSOR__DIRECTORY__TOKEN", "a-token"),
        ("STREAM_PROCESSOR__DIRECTORY__RECIPIENT", "12345678900012"),
        ("STREAM_PROCESSOR__DIRECTORY__TIMEOUT", "300ms"),
        ("STREAM_PROCESSOR__DIRECTORY__RATE", "100"),
    ];
    let arguments = [&["jobs", "run", "refresh-pending-establishments", "--json", "--now", NOW], more].concat();
    let (code, mut lines) = told(&arguments, test, &settings).await;
    (code, lines.pop().unwrap())
}

/// How many recruiters, and how many offers, have this status.
async fn with_status(test: &TestDatabase, status: &str) -> (u64, u64) {
    let recruiters = test.collection("recruiters").count_documents(doc! { "status": status }).await.unwrap();
    let offers = test.collection("jobs_partners").count_documents(doc! { "recruiter_status": status }).await.unwrap();
    (recruiters, offers)
}

fn siret(asked: &Asked) -> &str {
    asked.path.rsplit('/').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_directory_says_decides_about_an_establishment_and_both_sides_agree() {
    let sirets = [
        "11111111111111",
        "22222222222222",
        "33333333333333",
        "44444444444444",
        "55555555555555",
        "66666666666666",
        "7777",
        "88888888888888",
    ];
    let test = waiting("directory_answers", &sirets).await;
    let server = WebServer::start(|asked, before| match (siret(asked), before) {
        ("11111111111111", _) => found("A"),
        ("22222222222222", _) => found("F"),
        ("33333333333333", _) => Answer::Say(404, json!({ "errors": [] }).to_string()),
        ("44444444444444", 0) => Answer::Later(429, 1),
        ("55555555555555", _) => Answer::Say(200, "<html>maintenance</html>".to_owned()),
        ("66666666666666", 0) => Answer::Say(500, "oops".to_owned()),
        ("66666666666666", 1) => Answer::Stall,
        ("88888888888888", _) => Answer::Say(451, String::new()),
        _ => found("A"),
    })
    .await;
    let (code, rehearsed) = run(&test, &server, &["--dry-run"]).await;
    assert_eq!((code, counts(&rehearsed)), (1, [16, 6, 2]));
    assert_eq!(with_status(&test, PENDING).await, (8, 16), "a dry run changes nothing");

    let (code, done) = run(&test, &server, &[]).await;
    assert_eq!((code, counts(&done)), (1, [16, 6, 2]), "{done}");
    assert_eq!(done["skipped"], json!({ "closed": 2, "invalid_siret": 2, "unknown": 2, "unpublished": 2 }));
    assert_eq!((with_status(&test, PENDING).await, with_status(&test, "Actif").await), ((5, 10), (3, 6)));
    let offers = test.collection("jobs_partners");
    for (title, status) in [("Boulanger", "Active"), ("Vendeur", "Filled")] {
        let offer = doc! { "workplace_siret": sirets[3], "offer_title": title };
        let offer = offers.find_one(offer).await.unwrap().unwrap();
        assert_eq!(text(&offer, "offer_status"), Some(status));
        assert_eq!(text(&offer, "workplace_legal_name"), Some("EXEMPLE SAS"));
        assert_eq!(text(&offer, "workplace_address_label"), Some("7 RUE DES ESSAIS 69001 LYON"));
        let history = offer.get_array("offer_status_history").unwrap();
        assert_eq!(text(history[0].as_document().unwrap(), "reason"), Some("établissement vérifié"));
    }
    assert_settled(&test).await;
    let asked = &server.asked()[0];
    assert!(asked.path.starts_with("/v3/insee/sirene/etablissements/diffusibles/"), "{}", asked.path);
    assert_eq!(asked.authorization.as_deref(), Some("Bearer a-token"));
    let query =
        "context=La+bonne+alternance&object=V%C3%A9rification+d%27un+%C3%A9tablissement&recipient=12345678900012";
    assert_eq!(asked.query, query);

    let (_, again) = run(&test, &server, &[]).await;
    assert_eq!(counts(&again), [10, 0, 2], "a second run changes nothing: {again}");
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
    let server = WebServer::start(|_, _| found("A")).await;
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
    let data = |state: &str| doc! { "data": bson::serialize_to_bson(&establishment(state)).unwrap() };
    let month = 30 * 24 * 3_600_000;
    let entries = [
        entry(sirets[0], month - 1, data("A")),
        entry(sirets[1], month - 1, doc! { "error": "NON_DIFFUSIBLE" }),
        entry(sirets[2], month, data("F")),
        entry(sirets[3], 0, doc! { "data": { "another": "shape" } }),
    ];
    test.collection("cache_siret").insert_many(entries).await.unwrap();
    let server = WebServer::start(|_, _| found("A")).await;
    let (code, done) = run(&test, &server, &[]).await;
    assert_eq!((code, counts(&done), &done["skipped"]["unpublished"]), (0, [8, 6, 0], &2.into()));
    let mut asked: Vec<String> = server.asked().iter().map(|asked| siret(asked).to_owned()).collect();
    asked.sort();
    assert_eq!(asked, sirets[2..]);
}
