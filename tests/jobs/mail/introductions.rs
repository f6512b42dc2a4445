//! `send-introductions` (4.7): which offers, which centres, to the metre and the millisecond; once per offer.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::mail_server::MailServer;
use crate::support::mails::{marked, user};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::ticking::{counts, date, later, told};

const NOW: &str = "2026-06-14T23:55:00Z";
const RUN: [&str; 6] = ["jobs", "run", "send-introductions", "--json", "--now", NOW];
const DAY: i64 = 24 * 3_600_000;
/// MongoDB's radius of the earth, in kilometres.
const EARTH: f64 = 6378.1;

/// A course so many kilometres north of where `recruiter` has its establishments.
pub(super) fn course(kilometres: f64, fields: Document) -> Document {
    let latitude = 48.85 + (kilometres / EARTH).to_degrees();
    let course = doc! {
        "_id": ObjectId::new(),
        "rome_codes": ["D1102", "D1104"],
        "lieu_formation_geopoint": { "type": "Point", "coordinates": [2.35, latitude] },
        "etablissement_gestionnaire_courriel": "cfa@example.com",
        "etablissement_formateur_id": ObjectId::new().to_hex(),
        "etablissement_formateur_siret": "33333333300033",
        "catalogue_published": true,
        "certifie_qualite": true,
    };
    with(course, fields)
}

/// With the index of the live collection.
pub(super) async fn catalogue(test: &TestDatabase, courses: &[Document]) {
    let keys = doc! { "lieu_formation_geopoint": "2dsphere", "rome_codes": 1, "diploma": 1 };
    let index = doc! { "key": keys, "name": "place" };
    let create = doc! { "createIndexes": "formationcatalogues", "indexes": [index] };
    test.database.run_command(create).await.unwrap();
    test.collection("formationcatalogues").delete_many(doc! {}).await.unwrap();
    test.collection("formationcatalogues").insert_many(courses).await.unwrap();
}

fn aged(title: &str, milliseconds: i64) -> Document {
    with(job(title), doc! { "job_creation_date": later(date(NOW), -milliseconds) })
}

async fn filled(name: &str, jobs: Vec<Document>) -> (TestDatabase, MailServer) {
    let somebody = user("somebody@example.com");
    let test = TestDatabase::create(name).await;
    test.collection("userswithaccounts").insert_one(&somebody).await.unwrap();
    let managed = doc! { "managed_by": id(&somebody).to_hex() };
    test.collection("recruiters").insert_one(with(recruiter(jobs), managed)).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    (test, MailServer::start(|_, _| None).await)
}

async fn run(test: &TestDatabase, server: &MailServer) -> [u64; 3] {
    run_with(test, server, &[]).await
}

async fn run_with(test: &TestDatabase, server: &MailServer, further: &[&str]) -> [u64; 3] {
    let url = server.url();
    let settings = [("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__SMTP__RATE", "1000")];
    let (code, lines) = told(&[&RUN[..], further].concat(), test, &settings).await;
    assert_eq!(code, 0, "{lines:?}");
    counts(lines.last().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_course_that_is_near_open_and_reachable_leads_to_a_message() {
    let near: [(&str, f64, Document); 4] = [
        ("at a hundred kilometres", 99.99, doc! {}),
        (
            "another contact",
            0.1,
            doc! {
                "etablissement_gestionnaire_courriel": "", "etablissement_formateur_courriel": "cfa@example.com",
            },
        ),
        ("another occupation of the same field", 1.0, doc! { "rome_codes": ["D1109"] }),
        ("on the spot", 0.0, doc! { "catalogue_published": Bson::Null }),
    ];
    let far: [(&str, f64, Document); 9] = [
        ("beyond", 100.01, doc! {}),
        ("another occupation", 1.0, doc! { "rome_codes": ["K1101"] }),
        ("no contact", 1.0, doc! { "etablissement_gestionnaire_courriel": Bson::Null }),
        (
            "a contact that gets no offers",
            1.0,
            doc! {
                "etablissement_gestionnaire_courriel": Bson::Null, "email": "cfa@example.com",
            },
        ),
        ("not certified", 1.0, doc! { "certifie_qualite": false }),
        ("no word of a certificate", 1.0, doc! { "certifie_qualite": Bson::Null }),
        ("unsubscribed by id", 1.0, doc! { "etablissement_formateur_id": "65102a7347a6ef7545b05ef0" }),
        ("unsubscribed by siret", 1.0, doc! { "etablissement_formateur_siret": "99999999900099" }),
        ("not in the catalogue any more", 1.0, doc! { "catalogue_published": false }),
    ];
    let all = near.map(|case| (case, 1)).into_iter().chain(far.map(|case| (case, 0)));
    let (test, server) = filled("introductions_near", vec![aged("Boulanger", 10 * DAY)]).await;
    let gone = [
        doc! { "catalogue_id": ObjectId::parse_str("65102a7347a6ef7545b05ef0").unwrap() },
        doc! { "establishment_siret": "99999999900099" },
    ];
    test.collection("unsubscribedofs").insert_many(gone).await.unwrap();
    for ((name, kilometres, fields), sent) in all {
        let before = server.received().len();
        catalogue(&test, &[course(kilometres, fields)]).await;
        assert_eq!(run(&test, &server).await, [1, 1, 0], "{name}");
        assert_eq!(server.received().len() - before, sent, "{name}");
        assert_eq!(marked(&test, "mer_sent").await, (1, 1), "{name}");
        assert_eq!(run(&test, &server).await, [0, 0, 0], "{name}: a second run");
        crate::jobs::ticker::offer_jobs::assert_settled(&test).await;
        forget(&test).await;
    }
    let message = &server.received()[0];
    assert_eq!(message.to, "somebody@example.com");
    assert!(message.header("Message-ID").unwrap().starts_with("<introduction."));
}

/// As if nothing had been sent.
async fn forget(test: &TestDatabase) {
    let nothing = |field: &str| doc! { "$set": { field: Bson::Null } };
    test.collection("jobs_partners").update_many(doc! {}, nothing("mer_sent")).await.unwrap();
    test.collection("recruiters").update_many(doc! {}, nothing("jobs.$[].mer_sent")).await.unwrap();
    test.collection("stream_processor_outbox").delete_many(doc! {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_offers_of_the_right_age_with_few_applications_are_introduced() {
    let ages = [5 * DAY - 1, 5 * DAY, 45 * DAY, 45 * DAY + 1];
    let mut jobs: Vec<Document> = ages.iter().map(|age| aged(&format!("Offre {age}"), *age)).collect();
    jobs.extend(["Quatorze", "Quinze"].map(|title| aged(title, 10 * DAY)));
    jobs.push(with(aged("Pourvue", 10 * DAY), doc! { "job_status": "Pourvue" }));
    jobs.push(with(aged("Présentée", 10 * DAY), doc! { "mer_sent": DateTime::MIN }));
    let (fourteen, fifteen) = (id(&jobs[4]), id(&jobs[5]));
    let (test, server) = filled("introductions_offers", jobs).await;
    // Old applications name the offer as a text.
    let application = |offer: ObjectId, number: i32| match number % 2 {
        0 => doc! { "job_id": offer },
        _ => doc! { "job_id": offer.to_hex() },
    };
    let of = |offer, count| (0..count).map(move |number| application(offer, number));
    test.collection("applications").insert_many(of(fourteen, 14).chain(of(fifteen, 15))).await.unwrap();
    catalogue(&test, &[course(1.0, doc! {})]).await;
    let before = marked(&test, "mer_sent").await;
    assert_eq!(run_with(&test, &server, &["--dry-run"]).await, [4, 3, 0]);
    assert_eq!((server.received().len(), marked(&test, "mer_sent").await), (0, before), "a dry run does nothing");
    assert_eq!(test.collection("stream_processor_outbox").count_documents(doc! {}).await.unwrap(), 0);

    assert_eq!(run(&test, &server).await, [4, 3, 0]);
    assert_eq!((server.received().len(), marked(&test, "mer_sent").await), (3, (4, 4)));
    let left = test.collection("jobs_partners").find_one(doc! { "_id": fifteen }).await.unwrap().unwrap();
    assert_eq!(left.get("mer_sent"), Some(&Bson::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_introduced_about_an_offer_whose_job_says_otherwise() {
    let (test, server) = filled("introductions_unsettled", (0..3).map(|_| aged("Boulanger", 21 * DAY)).collect()).await;
    catalogue(&test, &[course(1.0, doc! {})]).await;
    let elsewhere = doc! { "$set": { "jobs.0.mer_sent": date(NOW), "jobs.1.job_status": "Pourvue" } };
    test.collection("recruiters").update_one(doc! {}, elsewhere).await.unwrap();
    assert_eq!(run(&test, &server).await, [3, 1, 0]);
    assert_eq!(server.received().len(), 1);
}
