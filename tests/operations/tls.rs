//! TLS to MongoDB with a private authority: accepted where all is right, refused where the authority, the name or the
//! time is wrong, with a message that says so.

use std::fs;
use std::path::Path;

use bson::{Bson, Document, doc};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use xtask::guarded::TemporaryFolder;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::{shifted_clock, stopped};
use crate::support::waiting::caught_up;

const TEN_YEARS: i64 = 10 * 365 * 24 * 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_its_authority_its_name_and_its_time_and_refused_without() {
    let folder = TemporaryFolder::create("stream-processor-tls-").unwrap();
    let (ours, theirs) = (authority(), authority());
    let file = |name: &str, text: String| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let certificate = file("server.pem", certificate_for("127.0.0.1", &ours));
    let (ours_file, theirs_file) = (file("ours.pem", ours.pem()), file("theirs.pem", theirs.pem()));
    let set = ReplicaSet::start(&Options { certificate: Some(certificate), ..Options::default() }).unwrap();
    let mut test = TestDatabase::create_on(&set.uri(), "tls").await;
    let plain = test.uri.clone();
    let trusting =
        |authority: &Path| format!("{plain}&tls=true&tlsCAFile={}&serverSelectionTimeoutMS=3000", authority.display());

    test.uri = trusting(&ours_file);
    let before = encrypted(&test).await;
    let processor = Processor::start_ready(&test, &[]).await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    caught_up(&test.database).await;
    assert_eq!(test.collection("jobs_partners").count_documents(doc! {}).await.unwrap(), 1);
    assert!(encrypted(&test).await > before, "the server counts encrypted connections");
    stopped(processor).await;

    let ahead = shifted_clock(folder.path(), TEN_YEARS);
    assert_refused(&test, &[("LD_PRELOAD", &ahead)], "the certificate has expired").await;
    test.uri = trusting(&theirs_file);
    assert_refused(&test, &[], "an authority that this machine does not trust").await;
    test.uri = trusting(&ours_file);
    fs::write(folder.path().join("server.pem"), certificate_for("database.example", &ours)).unwrap();
    let rotated = test.database.client().database("admin").run_command(doc! { "rotateCertificates": 1 }).await;
    assert_eq!(rotated.unwrap().get_f64("ok").unwrap(), 1.0);
    assert_refused(&test, &[], "the certificate is for another name").await;
}

async fn assert_refused(test: &TestDatabase, environment: &[(&str, &str)], because: &str) {
    for command in ["run", "verify"] {
        let ended = Processor::command(&[command], test, environment).await;
        assert_eq!(ended.code, 3, "{}", ended.stderr);
        assert!(ended.stderr.contains(because), "{command} says `{because}`: {}", ended.stderr);
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.not_after = rcgen::date_time_ymd(2099, 1, 1);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key in one text, as `mongod` wants them. Good for some five years at most.
fn certificate_for(name: &str, authority: &CertifiedIssuer<'_, KeyPair>) -> String {
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let in_five_years = bson::DateTime::now().timestamp_millis() / 1_000 + TEN_YEARS / 2;
    parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(in_five_years as u64);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, authority).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

/// How many encrypted connections the server has seen.
async fn encrypted(test: &TestDatabase) -> i64 {
    let status = test.database.client().database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let by_version: &Document = status.get_document("transportSecurity").unwrap();
    by_version.values().filter_map(Bson::as_i64).sum()
}
