//! The links and the headers of delivered e-mails (spec 09, "Links in e-mails"), read by a library that others wrote
//! (PyJWT).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::slice::from_ref;

use bson::doc;
use serde_json::{Value, json};
use xtask::guarded::TemporaryFolder;

use super::introductions::{catalogue, course};
use crate::support::mail_server::{MailServer, Received};
use crate::support::mails::{NOW, filled, recruiter_of, user};
use crate::support::processor::Processor;
use crate::support::recruiters::id;
use crate::support::ticking::{counts, date, told};

const PYJWT: &str = "pyjwt==2.10.1";
const KEY: &str = "a key that only the platform and this test know";
const SITE: &str = "https://site.example.com";
const REMINDER: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];
const INTRODUCTION: [&str; 6] = ["jobs", "run", "send-introductions", "--json", "--now", NOW];

/// A message as Python reads it, its tokens checked.
fn read(message: &Received) -> Value {
    let packages = xtask::python::installed(PYJWT, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/links.py");
    let mut command = Command::new("python3");
    command.arg(script).args([KEY, SITE]).env("PYTHONPATH", packages);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(message.message.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A file with the key, and the settings that name it.
fn key_file(folder: &TemporaryFolder, key: &str) -> String {
    let path = folder.path().join("key");
    std::fs::write(&path, format!("{key}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn scope(method: &str, path: &str, parameters: Value) -> Value {
    json!({ "options": { "params": parameters }, "path": path, "method": method })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_links_of_a_delivered_message_carry_tokens_that_another_library_accepts() {
    let somebody = user("Somebody@Example.com");
    let recruiter = recruiter_of(&somebody, &["Boulanger"]);
    let job = recruiter.get_array("jobs").unwrap()[0].as_document().unwrap().get_object_id("_id").unwrap().to_hex();
    let establishment = recruiter.get_str("establishment_id").unwrap().to_owned();
    let test = filled("mail_links", from_ref(&somebody), from_ref(&recruiter)).await;
    let folder = TemporaryFolder::create("stream-processor-mail-").unwrap();
    let file = key_file(&folder, KEY);
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    let settings = [
        ("SMTP_URL", url.as_str()),
        ("STREAM_PROCESSOR__TARGET__PUBLIC_URL", SITE),
        ("STREAM_PROCESSOR__MAIL__LINKS__JWT_SECRET_FILE", &file),
        ("STREAM_PROCESSOR__MAIL__CONTACT", "La bonne alternance <contact@example.com>"),
        ("STREAM_PROCESSOR__MAIL__UNSUBSCRIBE", "mailto:off@example.com?subject=off"),
    ];
    let (code, lines) = told(&REMINDER, &test, &settings).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]), "{lines:?}");
    let reminder = read(&server.received()[0]);
    let offer = |what: &str| format!("{SITE}/espace-pro/offre/offres_emploi_lba/{job}/{what}?token=");
    let text = reminder["text"].as_str().unwrap();
    assert!(text.contains("expire le samedi 20 juin 2026 à 21 h 20"), "{text}");
    let scopes = [("provided", "provided"), ("cancel", "canceled")].map(|(put, post)| {
        json!([
            scope("put", &format!("/formulaire/offre/:jobId/{put}"), json!({ "jobId": job })),
            scope("post", &format!("/v2/_private/jobs/{post}/:id"), json!({ "id": job })),
        ])
    });
    assert_message(&reminder, &somebody, &[offer("provided"), offer("cancel")], &scopes);
    assert_eq!(reminder["headers"]["reply-to"], "La bonne alternance <contact@example.com>");
    assert_eq!(reminder["headers"]["list-unsubscribe"], "<mailto:off@example.com?subject=off>");
    for said in ["contact@example.com", "opposition", "https://site.example.com/politique-de-confidentialite"] {
        assert!(text.contains(said) && reminder["html"].as_str().unwrap().contains(said), "{said}: {text}");
    }

    let old = doc! { "$set": { "created_at": date("2026-06-01T00:00:00Z") } };
    test.collection("jobs_partners").update_many(doc! {}, old).await.unwrap();
    catalogue(&test, &[course(1.0, doc! {})]).await;
    let (code, lines) = told(&INTRODUCTION, &test, &settings).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]), "{lines:?}");
    let introduction = read(&server.received()[1]);
    let link = format!("{SITE}/espace-pro/mise-en-relation/{establishment}/{job}?token=");
    let own = json!([
        scope("post", "/formulaire/offre/:jobId/delegation/by-token", json!({ "jobId": job })),
        scope("get", "/formulaire/:establishment_id/by-token", json!({ "establishment_id": establishment })),
    ]);
    let [provided, cancel] = scopes;
    assert_message(&introduction, &somebody, &[offer("provided"), offer("cancel"), link], &[provided, cancel, own]);
}

fn assert_message(message: &Value, user: &bson::Document, links: &[String], scopes: &[Value]) {
    let found: Vec<&str> = message["links"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let with_token: Vec<&&str> = found.iter().filter(|link| link.contains("?token=")).collect();
    assert_eq!(with_token.len(), links.len(), "{found:?}");
    for (link, expected) in with_token.iter().zip(links) {
        assert!(link.starts_with(expected.as_str()) && link.len() < 2083, "{link}");
        assert!(message["html"].as_str().unwrap().contains(**link), "the part in HTML has the same link");
    }
    assert!(found.contains(&"https://site.example.com/espace-pro/authentification"), "{found:?}");
    let issued = date(NOW).timestamp_millis() / 1000;
    for (claims, scopes) in message["claims"].as_array().unwrap().iter().zip(scopes) {
        let identity = json!({ "type": "IUser2", "_id": id(user).to_hex(), "email": "somebody@example.com" });
        let until = issued + 30 * 24 * 3600;
        let expected = json!({ "identity": identity, "scopes": scopes, "iat": issued, "exp": until, "iss": SITE });
        assert_eq!(claims, &expected);
    }
    assert!(message["heads"].as_array().unwrap().iter().all(|head| head["alg"] == "HS256"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_a_message_has_the_log_in_link_only_and_doctor_says_so() {
    let somebody = user("somebody@example.com");
    let test = filled("mail_no_key", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger"])]).await;
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    let settings = [("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__TARGET__PUBLIC_URL", SITE)];
    let (code, lines) = told(&REMINDER, &test, &settings).await;
    assert_eq!((code, counts(lines.last().unwrap())), (0, [1, 1, 0]), "{lines:?}");
    let message = read(&server.received()[0]);
    assert_eq!(message["claims"], json!([]));
    assert!(message["text"].as_str().unwrap().contains("https://site.example.com/espace-pro/authentification"));
    assert!(message["headers"].get("list-unsubscribe").is_none());
    let doctor = Processor::command(&["doctor"], &test, &settings).await.stdout;
    assert!(doctor.contains("no signing key: e-mails have the link to the log-in page only"), "{doctor}");
    let folder = TemporaryFolder::create("stream-processor-mail-").unwrap();
    for (key, reason) in [("short", "is too short for a signing key"), ("", "is empty")] {
        let file = key_file(&folder, key);
        let wrong = [("STREAM_PROCESSOR__MAIL__LINKS__JWT_SECRET_FILE", file.as_str())];
        let ended = Processor::command(&["doctor"], &test, &wrong).await;
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(ended.stderr.contains("mail.links.jwt_secret") && ended.stderr.contains(reason), "{}", ended.stderr);
        assert!(ended.stderr.contains("a text of at least 32 bytes"));
    }
}
