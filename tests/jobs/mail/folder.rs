//! Without a mail server, messages are files; what stands in them is what the offers say, and nothing that a name could
//! smuggle in. And what `emails preview` shows.

use std::slice::from_ref;

use bson::{Document, doc};
use xtask::guarded::TemporaryFolder;

use crate::support::mail_server::{MailServer, Received};
use crate::support::mails::{NOW, filled, marked, outbox, recruiter_of, user};
use crate::support::recruiters::with;
use crate::support::ticking::{counts, told};

const RUN: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];

/// The messages in a folder.
fn messages(folder: &std::path::Path) -> Vec<Received> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "eml"));
    files.map(|file| Received { to: String::new(), message: std::fs::read_to_string(file).unwrap() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_cannot_smuggle_a_header_in_and_a_title_is_shown_as_text() {
    let evil = doc! { "first_name": "Eve\r\nBcc: victim@example.com\r\n\r\n", "last_name": "\"<x@example.com>, Y" };
    let users = [with(user("eve@example.com"), evil), user("\r\nBcc: victim@example.com"), user("nobody")];
    let mut recruiters: Vec<Document> = users.iter().map(|user| recruiter_of(user, &["<script>x</script>"])).collect();
    recruiters[0].insert("establishment_raison_sociale", "<b>\r\n.\r\nQUIT\r\n");
    let test = filled("mail_injection", &users, &recruiters).await;
    let folder = TemporaryFolder::create("stream-processor-mail-").unwrap();
    let path = folder.path().join("deep/outbox");
    let settings = [("STREAM_PROCESSOR__MAIL__OUTBOX_DIRECTORY", path.to_str().unwrap())];
    let (code, lines) = told(&RUN, &test, &settings).await;
    let summary = lines.last().unwrap();
    assert_eq!((code, counts(summary)), (0, [3, 0, 0]), "{lines:?}");
    assert_eq!(summary["skipped"], serde_json::json!({ "no_address": 2, "written_to_folder": 1 }));
    let written = messages(&path);
    let [message] = written.as_slice() else { panic!("one message, not {}", written.len()) };
    let head = message.message.split("\r\n\r\n").next().unwrap();
    let names: Vec<&str> =
        head.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(':').next()).collect();
    let expected = "From To Reply-To Date Message-ID Subject Auto-Submitted MIME-Version Content-Type";
    assert_eq!(names.join(" "), expected);
    assert!(message.header("To").unwrap().ends_with("<eve@example.com>"));
    let (text, html) = message.message.split_once("Content-Type: text/html").unwrap();
    assert!(text.contains("<script>x</script>") && !html.contains("<script"), "{html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_a_folder_is_not_remembered_and_is_sent_once_there_is_a_server() {
    let somebody = user("somebody@example.com");
    let test = filled("mail_folder", from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger"])]).await;
    let folder = TemporaryFolder::create("stream-processor-mail-").unwrap();
    let settings = [("STREAM_PROCESSOR__MAIL__OUTBOX_DIRECTORY", folder.path().to_str().unwrap())];
    for _ in 0..2 {
        let (code, lines) = told(&RUN, &test, &settings).await;
        let summary = lines.last().unwrap();
        assert_eq!((code, counts(summary)), (0, [1, 0, 0]), "{lines:?}");
        assert_eq!(summary["skipped"], serde_json::json!({ "written_to_folder": 1 }));
        assert_eq!(messages(folder.path()).len(), 1, "the second run replaces the file of the first one");
        assert_eq!(marked(&test, "relance_mail_expiration_J7").await, (0, 0));
        assert!(outbox(&test).await.is_empty());
    }
    let server = MailServer::start(|_, _| None).await;
    let url = server.url();
    let (code, lines) = told(&RUN, &test, &[("SMTP_URL", url.as_str())]).await;
    assert_eq!((code, counts(lines.last().unwrap()), server.received().len()), (0, [1, 1, 0], 1));
    assert_eq!(marked(&test, "relance_mail_expiration_J7").await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_can_be_looked_at_without_a_database() {
    let folder = TemporaryFolder::create("stream-processor-mail-").unwrap();
    let file = folder.path().join("j1.html");
    let run = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_stream-processor");
        std::process::Command::new(program).args(arguments).env_clear().output().unwrap()
    };
    let ended = run(&["emails", "preview", "remind-j1", "--out", file.to_str().unwrap()]);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0));
    let html = std::fs::read_to_string(&file).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.contains("expire demain"), "{html}");
    let text = String::from_utf8(run(&["emails", "preview", "introduction", "--text"]).stdout).unwrap();
    assert!(text.starts_with("Bonjour Camille Exemple,") && text.contains("centres de formation"), "{text}");
    let standard = run(&["emails", "preview", "remind-j1", "--out", "-"]);
    assert!(standard.stdout == html.as_bytes(), "`-` is the standard output");
    let ended = run(&["emails", "preview", "other"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the e-mails are remind-J7, remind-J1, introduction"));
}
