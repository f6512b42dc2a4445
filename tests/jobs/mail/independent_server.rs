//! E-mail over encrypted connections with a login, to a mail server that others wrote (aiosmtpd) and whose parser others
//! wrote (Python's).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice::from_ref;

use bson::Document;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use xtask::guarded::{GuardedProcess, TemporaryFolder, last_lines};

use crate::support::database::TestDatabase;
use crate::support::mails::{NOW, filled, marked, recruiter_of, user};
use crate::support::ticking::{counts, told};
use crate::support::waiting::{PATIENCE, eventually};

const AIOSMTPD: &str = "aiosmtpd==1.4.6";
const RUN: [&str; 6] = ["jobs", "run", "remind-expiring-offers-j7", "--json", "--now", NOW];

/// A server for the name `localhost`, whose certificate is of an authority that only the test trusts.
struct Server {
    port: u16,
    output: PathBuf,
    authority: PathBuf,
    _process: GuardedProcess,
    _folder: TemporaryFolder,
}

impl Server {
    async fn start(mode: &str) -> Self {
        let packages = xtask::python::installed(AIOSMTPD, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        let folder = TemporaryFolder::create("stream-processor-mail-").unwrap();
        let [authority, certificate, key] = certificates(folder.path());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/mail_server.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(mode).args([&certificate, &key]).env("PYTHONPATH", packages);
        let (output, errors) = (folder.path().join("output"), folder.path().join("errors"));
        let process = GuardedProcess::start(&command, &output, &errors).unwrap();
        let port = eventually(PATIENCE, "the mail server tells its port", async || {
            let printed = std::fs::read_to_string(&output).unwrap_or_default();
            let failed = last_lines(&errors, 20);
            assert!(failed.is_empty() || failed.contains("Warning"), "{failed}");
            printed.split_once('\n').and_then(|(line, _)| line.parse().ok())
        })
        .await;
        Self { port, output, authority, _process: process, _folder: folder }
    }

    fn received(&self) -> Vec<Value> {
        let printed = std::fs::read_to_string(&self.output).unwrap();
        printed.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// An authority and a certificate of it for `localhost`, as files: authority, certificate, its key.
fn certificates(folder: &Path) -> [PathBuf; 3] {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let files = [("ca.pem", root.pem()), ("certificate.pem", certificate.pem()), ("key.pem", key.serialize_pem())];
    files.map(|(name, content)| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    })
}

async fn one_user(name: &str) -> (TestDatabase, Document) {
    let somebody = user("somebody@example.com");
    let test = filled(name, from_ref(&somebody), &[recruiter_of(&somebody, &["Boulanger <b>", "Pâtissier"])]).await;
    (test, somebody)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_whole_over_starttls_and_over_tls_from_the_start_with_a_login() {
    for (mode, scheme, option) in [("starttls", "smtp", "?tls=required"), ("tls", "smtps", "")] {
        let server = Server::start(mode).await;
        let (test, _) = one_user("mail_tls").await;
        let url = format!("{scheme}://mailer:s3cret%2F%40%3A@localhost:{}{option}", server.port);
        let authority = server.authority.to_str().unwrap();
        let settings = [("SMTP_URL", url.as_str()), ("STREAM_PROCESSOR__SMTP__CA_FILE", authority)];
        let (code, lines) = told(&RUN, &test, &settings).await;
        assert_eq!((code, counts(lines.last().unwrap())), (0, [2, 2, 0]), "{mode}: {lines:?}");
        let received = server.received();
        let [message] = received.as_slice() else { panic!("{mode}: one message, not {}", received.len()) };
        assert_eq!(message["to"], serde_json::json!(["somebody@example.com"]));
        assert_eq!((&message["encrypted"], &message["login"]), (&true.into(), &"mailer".into()));
        assert_eq!(message["subject"], "Votre offre expire dans 6 jours");
        assert_eq!((&message["type"], &message["defects"]), (&"multipart/alternative".into(), &serde_json::json!([])));
        let (text, html) = (message["text"].as_str().unwrap(), message["html"].as_str().unwrap());
        assert!(text.contains("Boulanger <b>") && text.contains("Pâtissier") && text.contains("Boulangerie d'essai"));
        assert!(html.contains("Boulanger &lt;b&gt;") || html.contains("Boulanger &#60;b&#62;"), "{html}");
        assert!(html.contains("Pâtissier"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_server_that_is_not_trusted_or_does_not_know_the_login() {
    let server = Server::start("starttls").await;
    let (test, _) = one_user("mail_untrusted").await;
    let authority = server.authority.to_str().unwrap();
    let url = |login: &str| format!("smtp://{login}localhost:{}?tls=required", server.port);
    let (right, wrong, plain) =
        (url("mailer:s3cret%2F%40%3A@"), url("mailer:wrong@"), url("").replace("?tls=required", ""));
    let trusting = ("STREAM_PROCESSOR__SMTP__CA_FILE", authority);
    for (settings, error) in [
        (vec![("SMTP_URL", right.as_str())], "mail_server_down: no encrypted connection"),
        (vec![("SMTP_URL", &wrong), trusting], "mail_server_refuses: 535"),
    ] {
        let (code, lines) = told(&RUN, &test, &settings).await;
        let summary = lines.last().unwrap();
        assert!(code == 1 && summary["error"].as_str().unwrap().starts_with(error), "{summary}");
    }
    // Without encryption it takes no sender: that is about us.
    let (code, lines) = told(&RUN, &test, &[("SMTP_URL", &plain)]).await;
    let summary = lines.last().unwrap();
    assert!(code == 1 && summary["error"].as_str().unwrap().starts_with("mail_server_refuses: 530"), "{summary}");
    assert_eq!((server.received().len(), marked(&test, "relance_mail_expiration_J7").await), (0, (0, 0)));
    let settings = [("SMTP_URL", right.as_str()), ("STREAM_PROCESSOR__SMTP__CA_FILE", "/nowhere/ca.pem")];
    let (code, lines) = told(&RUN, &test, &settings).await;
    assert_eq!((code, lines.last().unwrap()["error"].as_str()), (1, Some("mail_settings")));
}
