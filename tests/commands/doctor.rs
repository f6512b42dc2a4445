//! The command `doctor` (spec 06): what it finds is named with its reason and its remedy, one thing at a time; and the
//! service runs under exactly the role of deploy/mongodb-role.js.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{change_checkpoint, settled, until_no_resync};
use crate::support::ticking::ON;

/// The role, as an administrator would create it.
const ROLE: &str = include_str!("../../deploy/mongodb-role.js");
const GEOCODING_URL: &str = "STREAM_PROCESSOR__DIRECTORY__GEOCODING_URL";
const PASSWORD: &str = "hunter2";

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_nothing_is_to_be_fixed() {
    let test = TestDatabase::create("doctor_well").await;
    for source in ["userswithaccounts", "cfas", "referentielromes"] {
        test.database.create_collection(source).await.unwrap();
    }
    test.create_platform_indexes().await;
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    let processor = started(&test).await;
    settled(&test.database).await;
    let found = doctor(&test, &[], 0).await;
    assert_eq!(found["ok"], true);
    for check in ["server", "privileges", "collections", "indexes", "validator", "clock", "phase", "leader"] {
        assert_eq!(verdicts(&found, check), ["ok"], "{check} in {found:#}");
    }
    assert_ne!(verdicts(&found, "position"), ["failed"], "whatever oplog the machine has: {found:#}");
    for check in ["smtp", "directory", "geocoding", "sentry", "traces"] {
        assert_eq!(verdicts(&found, check), ["ok"], "{check} in {found:#}");
    }
    let text = Processor::command(&["doctor"], &test, &[]).await.stdout;
    assert!(text.contains("✓ server") && text.contains("0 failed"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours but on a terminal");
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_with_its_remedy_and_ends_with_1() {
    let test = TestDatabase::with_live_schema("doctor_faults").await;
    let found = doctor(&test, &[], 0).await;
    assert_eq!(verdicts(&found, "validator"), ["warning"], "{found:#}");
    assert!(finding(&found, "validator").0.contains("managed_by"), "{found:#}");
    assert!(finding(&found, "validator").1.contains("stream-processor setup"));
    assert_eq!(verdicts(&found, "leader"), ["warning"], "nobody runs");
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    doctor(&test, &[], 0).await;

    let index = doc! { "name": "one_per_siret", "key": { "workplace_siret": 1 }, "unique": true };
    test.database.run_command(doc! { "createIndexes": "jobs_partners", "indexes": [index] }).await.unwrap();
    let found = doctor(&test, &[], 1).await;
    assert_eq!(failed(&found), BTreeSet::from(["indexes"]));
    assert!(
        finding(&found, "indexes").0.contains("`one_per_siret`") && finding(&found, "indexes").1.contains("drop it")
    );
    test.database.run_command(doc! { "dropIndexes": "jobs_partners", "index": "one_per_siret" }).await.unwrap();

    let processor = started(&test).await;
    settled(&test.database).await;
    stopped(processor).await;
    change_checkpoint(&test.database, doc! { "token": "nonsense" }).await;
    let found = doctor(&test, &[], 1).await;
    assert_eq!(failed(&found), BTreeSet::from(["position"]));
    assert!(finding(&found, "position").1.contains("tokens import"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_a_directory_and_a_geocoding_service_are_reached_or_named_as_unreachable() {
    let test = TestDatabase::create("doctor_reach").await;
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let (smtp, directory) = (format!("smtp://someone:{PASSWORD}@{nobody}"), format!("http://{nobody}/v3"));
    let sentry = format!("http://{PASSWORD}@{nobody}/1");
    let unreachable = [
        ("SMTP_URL", smtp.as_str()),
        ("STREAM_PROCESSOR__DIRECTORY__BASE_URL", &directory),
        (GEOCODING_URL, &directory),
        ("SENTRY_DSN", &sentry),
    ];
    let found = doctor(&test, &unreachable, 1).await;
    assert_eq!(failed(&found), BTreeSet::from(["smtp", "directory", "geocoding"]), "{found:#}");
    assert!(finding(&found, "geocoding").1.contains("directory.geocoding_url"), "{found:#}");
    assert!(finding(&found, "smtp").0.contains(&nobody.to_string()) && finding(&found, "smtp").1.contains("smtp.url"));
    assert_eq!(verdicts(&found, "sentry"), ["warning"], "the service works without it: {found:#}");
    assert!(!found.to_string().contains(PASSWORD));

    let production = [("STREAM_PROCESSOR__ENVIRONMENT", "production"), ("STREAM_PROCESSOR__TICKER__ENABLED", "true")];
    let found = doctor(&test, &production, 1).await;
    assert!(failed(&found).contains("smtp"), "run refuses this: {found:#}");

    let mail = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("smtp://{}", mail.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (stream, _) = mail.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        (&stream).write_all(b"220-a mail server\r\n220 of a test\r\n").unwrap();
        let said = lines.next().unwrap().unwrap();
        (&stream).write_all(b"250-hello\r\n250 SIZE 1000\r\n").unwrap();
        said
    });
    let geocoder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let geocoding = format!("http://{}/search", geocoder.local_addr().unwrap());
    let found = doctor(&test, &[("SMTP_URL", &address), (GEOCODING_URL, &geocoding)], 0).await;
    assert_eq!(verdicts(&found, "smtp"), ["ok"], "{found:#}");
    assert!(finding(&found, "geocoding").0.ends_with("answers"), "{found:#}");
    assert!(served.join().unwrap().starts_with("EHLO "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_is_told_and_ends_with_3() {
    let test = TestDatabase::create("doctor_unreachable").await;
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let uri = format!("mongodb://{nobody}/?serverSelectionTimeoutMS=200");
    let found = doctor(&test, &[("MONGODB_URI", &uri)], 3).await;
    assert_eq!(failed(&found), BTreeSet::from(["server"]), "{found:#}");
    assert!(finding(&found, "server").1.contains("check that MongoDB runs"));
}

/// The patience of the driver is longer than that of the test, so another one finds the fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_string_that_can_never_work_is_told_with_its_remedy() {
    let test = TestDatabase::create("first_contact").await;
    let set = test.uri.split_once("replicaSet=").unwrap().1.split('&').next().unwrap();
    let patient = |uri: &str| format!("{uri}&serverSelectionTimeoutMS=600000");
    let wrong = patient(&test.uri.replace(&format!("replicaSet={set}"), "replicaSet=wrong"));
    let right = format!("write replicaSet={set}");
    for (uri, words) in [
        (wrong, right.as_str()),
        (patient("mongodb://nowhere.invalid:27017/?tls=false"), "check the names of the hosts in mongodb.uri"),
        (patient(&format!("{}&tls=true", test.uri)), "check the TLS options in mongodb.uri"),
    ] {
        let found = doctor(&test, &[("MONGODB_URI", &uri)], 3).await;
        assert!(finding(&found, "server").1.contains(words), "{words}: {found:#}");
        let ended = Processor::command(&["status"], &test, &[("MONGODB_URI", &uri)]).await;
        assert!(ended.code == 3 && ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

/// One server for all of it: each start of one costs seconds.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_runs_under_exactly_the_role_of_the_deployment_and_each_privilege_that_lacks_is_named() {
    let set = ReplicaSet::start(&Options { access_control: true, ..Options::default() }).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "doctor_role").await;
    let admin = Client::with_uri_str(set.uri()).await.unwrap().database("admin");
    let privileges = privileges(test.name());
    let role = doc! { "createRole": "streamProcessor", "privileges": &privileges, "roles": [] };
    admin.run_command(role).await.unwrap();
    let user = doc! { "createUser": "service", "pwd": PASSWORD, "roles": ["streamProcessor"] };
    admin.run_command(user).await.unwrap();
    let uri = set.uri_for("service", PASSWORD);
    let as_service = [("MONGODB_URI", uri.as_str()), ON];

    let processor = started_with(&test, &as_service).await;
    let (kept, gone) = (recruiter([job("Boulanger")]), recruiter([job("Pâtissier")]));
    test.collection("recruiters").insert_many([&kept, &gone]).await.unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(&gone) }).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    for command in [&["replay", "--from", "0s ago"][..], &["backfill"], &["tokens", "list"], &["status"], &["verify"]] {
        let ended = Processor::command(command, &test, &as_service).await;
        assert_eq!(ended.code, 0, "{command:?}: {}", ended.stderr);
    }
    let found = doctor(&test, &as_service, 0).await;
    assert_eq!((verdicts(&found, "privileges"), verdicts(&found, "oplog").len()), (vec!["ok"], 1), "{found:#}");
    assert!(!finding(&found, "oplog").0.contains("unknown"), "{found:#}");
    let ended = stopped(processor).await;
    for trouble in ["WARN", "ERROR"] {
        assert!(!ended.stderr.contains(trouble), "{}", ended.stderr);
    }
    setup_works_under_the_privileges_that_it_asks_for(&test, &admin, &set.uri_for("installer", PASSWORD)).await;
    each_privilege_that_lacks_is_named(&test, &admin, &uri).await;
}

/// The privileges that docs/migration.md names for `setup`, no others.
async fn setup_works_under_the_privileges_that_it_asks_for(test: &TestDatabase, admin: &Database, uri: &str) {
    let place = doc! { "db": test.name(), "collection": "stream_processor_setup" };
    let privileges = [doc! { "resource": place, "actions": ["insert", "update", "remove"] }];
    let role = doc! { "createRole": "setup", "privileges": &privileges[..], "roles": [] };
    admin.run_command(role).await.unwrap();
    let administers = doc! { "role": "dbAdmin", "db": test.name() };
    let roles: [Bson; 3] = ["streamProcessor".into(), "setup".into(), administers.into()];
    let user = doc! { "createUser": "installer", "pwd": PASSWORD, "roles": &roles[..] };
    admin.run_command(user).await.unwrap();
    for arguments in [&["setup"][..], &["setup", "--down"]] {
        let ended = Processor::command(arguments, test, &[("MONGODB_URI", uri), ON]).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    }
    let as_service = uri.replace("installer:", "service:");
    let refused = Processor::command(&["setup"], test, &[("MONGODB_URI", &as_service), ON]).await;
    assert!(refused.code != 0 && refused.stderr.contains("dbAdmin"), "{}: {}", refused.code, refused.stderr);
}

async fn each_privilege_that_lacks_is_named(test: &TestDatabase, admin: &Database, uri: &str) {
    let signals = ("STREAM_PROCESSOR__SIGNALS__ENABLED", "true");
    let (as_service, privileges) = ([("MONGODB_URI", uri), ON, signals], privileges(test.name()));
    let all = each(&privileges);
    assert!(all.len() > 20);
    for (place, action) in all {
        change_role(admin, &without(&privileges, &place, &action)).await;
        let found = doctor_ended(test, &as_service).await;
        let found: Value = serde_json::from_str(&found.stdout).unwrap();
        let named = format!("{action} on {}", if place.is_empty() { "the whole database" } else { &place });
        let checks = found["checks"].as_array().unwrap();
        let is_told = |verdict: &str, words: &str| {
            checks
                .iter()
                .any(|check| check["verdict"] == verdict && check["found"].as_str().unwrap().starts_with(words))
        };
        // What the service can do without is unknown then, and no fault.
        let can_do_without = place == "oplog.rs";
        // The role of 1.0.0 has none of these. The service then works without new events of the timeline, without its
        // signs of life, without counts of foreign writes, and without answers to signals, which are off by default.
        let without = ["events", "instances", "signals", "foreign_writes"].map(|own| format!("stream_processor_{own}"));
        if without.contains(&place) {
            assert!(found["ok"] == true && is_told("warning", &named), "{named}: {found:#}");
            continue;
        }
        if can_do_without || (action == "listIndexes" && place != "jobs_partners") {
            assert!(found["ok"] == true && action == "collStats" || is_told("warning", "unknown"), "{named}: {found:#}")
        } else {
            assert!(found["ok"] == false && is_told("failed", &named), "{named}: {found:#}")
        }
    }
    // Who may only read can see how things are.
    let reader = doc! { "createUser": "reader", "pwd": PASSWORD, "roles": [{ "role": "read", "db": test.name() }] };
    admin.run_command(reader).await.unwrap();
    let as_reader = [("MONGODB_URI", uri.replace("service:", "reader:"))];
    let as_reader = as_reader.each_ref().map(|(name, value)| (*name, value.as_str()));
    for command in [&["status"][..], &["tokens", "show"], &["dead-letters", "list"], &["phase", "show"], &["events"]] {
        let ended = Processor::command(command, test, &as_reader).await;
        assert_eq!(ended.code, 0, "{command:?}: {}", ended.stderr);
    }
    let ended = Processor::command(&["doctor", "--against-platform", "--json"], test, &as_reader).await;
    let rehearsed: Value = serde_json::from_str(&ended.stdout).unwrap();
    for (part, facts) in rehearsed["platform"].as_object().unwrap() {
        assert!(!facts.is_null(), "{part} can be read: {rehearsed:#}");
    }
    // Without a look at the oplog its window is not known, and is not made up.
    change_role(admin, &without(&privileges, "oplog.rs", "find")).await;
    let found = doctor(test, &as_service, 0).await;
    let (reason, remedy) = finding(&found, "oplog");
    assert!(reason.starts_with("unknown") && remedy.contains("`find` and `collStats`"), "{found:#}");
    let status = Processor::command(&["status", "--json"], test, &as_service).await;
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(
        (&status["oplog_window_seconds"], &status["position"]["headroom_seconds"]),
        (&Value::Null, &Value::Null)
    );
}

/// The privileges of the deployment's role, for the database of the test.
fn privileges(database: &str) -> Vec<Bson> {
    let json = ROLE.split_once("const role =").unwrap().1.split_once(";\n").unwrap().0;
    let role: Value = serde_json::from_str(&json.replace("labonnealternance", database)).unwrap();
    let role: Document = bson::serialize_to_document(&role).unwrap();
    assert_eq!(role.get_array("roles").unwrap().len(), 0, "no inherited role");
    role.get_array("privileges").unwrap().clone()
}

/// Collection and action of every privilege.
fn each(privileges: &[Bson]) -> Vec<(String, String)> {
    let pairs = |privilege: &Bson| {
        let privilege = privilege.as_document().unwrap();
        let place = privilege.get_document("resource").unwrap().get_str("collection").unwrap().to_owned();
        let actions = privilege.get_array("actions").unwrap().iter();
        actions.map(|action| (place.clone(), action.as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    privileges.iter().flat_map(pairs).collect()
}

fn without(privileges: &[Bson], place: &str, action: &str) -> Vec<Bson> {
    let mut privileges = privileges.to_vec();
    for privilege in privileges.iter_mut().map(|privilege| privilege.as_document_mut().unwrap()) {
        if privilege.get_document("resource").unwrap().get_str("collection").unwrap() == place {
            privilege.get_array_mut("actions").unwrap().retain(|granted| granted.as_str() != Some(action));
        }
    }
    privileges.retain(|privilege| !privilege.as_document().unwrap().get_array("actions").unwrap().is_empty());
    privileges
}

async fn change_role(admin: &Database, privileges: &[Bson]) {
    let role = doc! { "updateRole": "streamProcessor", "privileges": privileges };
    admin.run_command(role).await.unwrap();
}

async fn doctor_ended(test: &TestDatabase, environment: &[(&str, &str)]) -> Ended {
    Processor::command(&["doctor", "--json"], test, environment).await
}

async fn doctor(test: &TestDatabase, environment: &[(&str, &str)], code: i32) -> Value {
    let ended = doctor_ended(test, environment).await;
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn verdicts<'a>(found: &'a Value, check: &str) -> Vec<&'a str> {
    let checks = found["checks"].as_array().unwrap().iter().filter(|one| one["check"] == check);
    checks.map(|one| one["verdict"].as_str().unwrap()).collect()
}

fn failed(found: &Value) -> BTreeSet<&str> {
    let checks = found["checks"].as_array().unwrap().iter().filter(|one| one["verdict"] == "failed");
    checks.map(|one| one["check"].as_str().unwrap()).collect()
}

/// Reason and remedy of the first such check that is not well.
fn finding<'a>(found: &'a Value, check: &str) -> (&'a str, &'a str) {
    let checks = found["checks"].as_array().unwrap();
    let one = checks.iter().find(|one| one["check"] == check && one["verdict"] != "ok");
    let one = one.or_else(|| checks.iter().find(|one| one["check"] == check)).unwrap();
    (one["found"].as_str().unwrap(), one["remedy"].as_str().unwrap_or_default())
}
