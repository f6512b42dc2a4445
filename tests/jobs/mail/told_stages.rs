//! What people are told about a mail server that takes no mail from us: the code, the stage of the dialogue, and a remedy
//! that fits the stage.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::database::TestDatabase;
use crate::support::mail_server::{Fault, MailServer, Step};
use crate::support::mails::{NOW, expecting};
use crate::support::processor::Processor;

async fn smtp_check(test: &TestDatabase, url: &str) -> Value {
    let ended = Processor::command(&["doctor", "--json"], test, &[("SMTP_URL", url)]).await;
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    found["checks"].as_array().unwrap().iter().find(|check| check["check"] == "smtp").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_the_code_and_the_stage_with_a_remedy_for_that_stage() {
    let test = TestDatabase::create("mail_told_doctor").await;
    for (step, words, found, remedy) in [
        (Step::Greeting, "554 go away", "554 at greeting", "this host"),
        (Step::Hello, "550 5.7.1 who are you", "550 5.7.1 at greeting", "this host"),
        (Step::Greeting, "421 busy", "421 at greeting", "may pass"),
        (Step::Login, "535 5.7.8 wrong password", "535 5.7.8 at login", "the password in smtp.url"),
        (Step::Sender, "550 5.7.1 not you", "550 5.7.1 at sender", "smtp.from"),
        (Step::Sender, "530 5.7.0 log in first", "530 5.7.0 at sender", "the password and `tls` in smtp.url"),
    ] {
        let server =
            MailServer::offering("250 AUTH PLAIN", move |at, _| (at == step).then_some(Fault::Say(words))).await;
        let check = smtp_check(&test, &server.url().replace("//", "//mailer:hunter2@")).await;
        assert_eq!(check["verdict"], "failed", "{words}: {check}");
        assert!(check["found"].as_str().unwrap().ends_with(&format!(" answers {found}")), "{words}: {check}");
        let told = check["remedy"].as_str().unwrap();
        assert!(told.contains(remedy), "{words}: {check}");
        let is_about_login = remedy.contains("password");
        assert_eq!(told.contains("password"), is_about_login, "the login was accepted: {check}");
        assert!(!check.to_string().contains("hunter2"), "{check}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_a_server_that_accepts_one_that_lacks_a_feature_and_one_that_is_not_there() {
    let test = TestDatabase::create("mail_told_reach").await;
    let server = MailServer::start(|_, _| None).await;
    let check = smtp_check(&test, &server.url()).await;
    assert_eq!(check["verdict"], "ok", "{check}");
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    for (url, found) in [
        (format!("{}/?tls=required", server.url()), "the server offers no STARTTLS"),
        (server.url().replace("//", "//mailer:hunter2@"), "the server offers no login that smtp.url can use"),
        (server.url().replace("smtp:", "smtps:"), "no encrypted connection"),
        (format!("smtp://{nobody}"), "no connection"),
    ] {
        let check = smtp_check(&test, &url).await;
        assert_eq!(check["verdict"], "failed", "{check}");
        assert!(check["found"].as_str().unwrap().ends_with(found), "{check}");
        assert!(check["remedy"].as_str().unwrap().contains("smtp.url"), "{check}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_refused_says_so_once_whatever_the_number_of_connections() {
    let names: Vec<String> = (0..8).map(|number| format!("user-{number}@example.com")).collect();
    let test = expecting("mail_told_once", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let server = MailServer::start(|at, _| (at == Step::Sender).then_some(Fault::Say("550 5.7.1 not you"))).await;
    let url = server.url();
    let settings = [("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__SMTP__CONNECTIONS", "4")];
    let run = ["jobs", "run", "remind-expiring-offers-j7", "--now", NOW];
    let ended = Processor::command(&run, &test, &settings).await;
    assert_eq!(ended.stderr.matches("the run ends").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("550 5.7.1 at sender"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("user-"), "no address: {}", ended.stderr);
}
