//! What cannot work is refused before anything is written: one sentence with what to do, exit code 2 or 3
//! (1 beside a running instance), and never a password.

use std::net::TcpListener;

use bson::oid::ObjectId;
use bson::{Document, doc};
use mongodb::{Client, Database};
use xtask::mongod::{Options, ReplicaSet, Standalone};

use crate::support::database::TestDatabase;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{id, job, recruiter};
use crate::support::waiting::{PATIENCE, caught_up, eventually};

const PASSWORD: &str = "hunter2";
const USAGE: i32 = 2;
const CANNOT_CONNECT: i32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_string_that_cannot_be_used_is_refused_with_what_to_do() {
    let test = TestDatabase::create("bad_uri").await;
    let cases = [
        ("garbage-hunter2", "mongodb.uri"),
        ("http://user:hunter2@127.0.0.1:27017/", "begins with `mongodb://` or `mongodb+srv://`"),
        ("mongodb://user:hun@ter:hunter2@127.0.0.1:27017/", "special characters percent-encoded"),
        ("mongodb://user:hunter2/@127.0.0.1:27017/", "special characters percent-encoded"),
        ("mongodb://user:hunter2@127.0.0.1:27017/?replicaset=rs0&w=many&readPreference=best", "mongodb.uri"),
        ("mongodb://user:hunter2@127.0.0.1:port/", "expected mongodb://"),
    ];
    for (uri, advice) in cases {
        let ended = refused(&["run"], &test, uri).await;
        assert_refused(&ended, USAGE, &["mongodb.uri", advice]);
    }
    assert_untouched(&test.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_refused_with_what_to_do() {
    let test = TestDatabase::create("bad_server").await;
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let uri = format!("mongodb://user:{PASSWORD}@{nobody}/?serverSelectionTimeoutMS=200");
    for command in ["run", "backfill"] {
        let ended = refused(&[command], &test, &uri).await;
        assert_refused(&ended, CANNOT_CONNECT, &[&nobody.to_string(), "check that MongoDB runs"]);
    }
    assert_untouched(&test.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_replica_set_is_refused_with_what_to_do() {
    let server = Standalone::start().unwrap();
    let test = TestDatabase::create_on(&server.uri(), "no_replica_set").await;
    let ended = Processor::command(&["run"], &test, &[]).await;
    assert_refused(&ended, CANNOT_CONNECT, &["not a replica set", "--replSet"]);
    assert_untouched(&test.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_index_in_which_offers_collide_is_refused_by_its_name() {
    let test = TestDatabase::create("bad_index").await;
    let index = |options: Document| {
        let mut index = doc! { "name": "one_per_siret", "key": { "workplace_siret": 1 }, "unique": true };
        index.extend(options);
        doc! { "createIndexes": "jobs_partners", "indexes": [index] }
    };
    test.database.run_command(index(doc! {})).await.unwrap();
    for command in ["run", "backfill"] {
        let ended = Processor::command(&[command], &test, &[]).await;
        assert_refused(&ended, CANNOT_CONNECT, &["`one_per_siret`", "drop it"]);
    }
    let mut present = test.database.list_collection_names().await.unwrap();
    present.sort();
    assert_eq!(present, ["jobs_partners", "recruiters"]);

    let drop = doc! { "dropIndexes": "jobs_partners", "index": "one_per_siret" };
    test.database.run_command(drop).await.unwrap();
    let of_others = doc! { "partialFilterExpression": { "partner_label": "somebody else" } };
    test.database.run_command(index(of_others)).await.unwrap();
    let ended = Processor::command(&["backfill"], &test, &[]).await;
    assert_eq!(ended.code, 0, "an index over other partners' offers is none of our business: {}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_refused_with_what_to_do() {
    let test = TestDatabase::create("bad_port").await;
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Processor::command(&["run"], &test, &[("STREAM_PROCESSOR__HTTP__LISTEN", &address)]).await;
    assert_refused(&ended, USAGE, &["http.listen", &address, "choose another port"]);
    assert_untouched(&test.database).await;
}

/// One server for all of it: each start of one costs seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_the_documented_privileges_and_no_others() {
    let set = ReplicaSet::start(&Options { access_control: true, ..Options::default() }).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "privileges").await;
    let admin = Client::with_uri_str(set.uri()).await.unwrap().database("admin");
    let name = test.name();

    let uri = set.uri();
    let anonymous = format!("mongodb://{}", uri.split_once('@').unwrap().1.replace("&authSource=admin", ""));
    assert_refused(&refused(&["run"], &test, &anonymous).await, CANNOT_CONNECT, &["requires a user"]);
    create_user(&admin, "complete", privileges(name, |_, _| true)).await;
    let ended = refused(&["run"], &test, &set.uri_for("complete", "hunter2-wrong")).await;
    assert_refused(&ended, CANNOT_CONNECT, &["check the user, the password and authSource"]);

    let lacking = [
        ("jobs_partners", "update", "update on jobs_partners"),
        ("stream_processor_state", "remove", "remove on stream_processor_state"),
        ("stream_processor_links", "createIndex", "createIndex on stream_processor_links"),
        ("stream_processor_checkpoints", "createIndex", "createIndex on stream_processor_checkpoints"),
        ("", "changeStream", "changeStream on the whole database"),
    ];
    for (index, (collection, action, named)) in lacking.into_iter().enumerate() {
        let user = format!("lacking-{index}");
        let granted = privileges(name, |place, what| (place, what) != (collection, action));
        create_user(&admin, &user, granted).await;
        let ended = refused(&["run"], &test, &set.uri_for(&user, PASSWORD)).await;
        assert_refused(&ended, CANNOT_CONNECT, &[name, named, "grant them"]);
        assert_eq!(ended.stderr.matches(" on ").count(), 1, "only what is missing is named: {}", ended.stderr);
    }
    assert_untouched(&test.database).await;

    let uri = set.uri_for("complete", PASSWORD);
    let mut processor = Processor::start_ready(&test, &[("MONGODB_URI", &uri)]).await;
    let recruiters = test.collection("recruiters");
    let (kept, deleted) = (recruiter([job("Boulanger")]), recruiter([job("Boulanger")]));
    recruiters.insert_many([&kept, &deleted]).await.unwrap();
    recruiters.delete_one(doc! { "_id": id(&deleted) }).await.unwrap();
    caught_up(&test.database).await;
    eventually(PATIENCE, "the history of checkpoints begins", async || {
        test.collection("stream_processor_checkpoints").find_one(doc! {}).await.unwrap()
    })
    .await;
    processor.sigterm();
    let ended = processor.until_ended().await;
    assert_eq!(ended.code, 0);
    for trouble in ["WARN", "ERROR", PASSWORD] {
        assert!(!ended.stderr.contains(trouble), "{}", ended.stderr);
    }
    assert_eq!(test.collection("resumetokens").count_documents(doc! {}).await.unwrap(), 1);
}

/// Runs a command with another connection string than that of the test's database.
async fn refused(arguments: &[&str], test: &TestDatabase, uri: &str) -> Ended {
    Processor::command(arguments, test, &[("MONGODB_URI", uri)]).await
}

/// One sentence on the standard error that has all these words and no password, and this exit code. The service tells it
/// as a line of its log. Faults of the configuration have a heading, because there may be several.
#[track_caller]
fn assert_refused(ended: &Ended, code: i32, words: &[&str]) {
    let Ended { stdout, stderr, .. } = ended;
    assert_eq!(ended.code, code, "{stderr}");
    assert_eq!(stdout, "");
    let line: serde_json::Value = serde_json::from_str(stderr).unwrap_or_default();
    let sentence = line["error"].as_str().or_else(|| stderr.strip_prefix("error: "));
    let sentence = sentence.unwrap_or_else(|| panic!("no error: {stderr}"));
    let sentence = sentence.strip_prefix("1 fault in the configuration\n").unwrap_or(sentence);
    assert_eq!(sentence.trim_end().lines().count(), 1, "not one sentence: {stderr}");
    for word in words {
        assert!(sentence.contains(word), "no `{word}` in: {stderr}");
    }
    assert!(!stderr.contains(PASSWORD), "a password is printed");
}

async fn assert_untouched(database: &Database) {
    assert_eq!(database.list_collection_names().await.unwrap(), ["recruiters"], "something was written");
}

/// Messages in a folder reach nobody.
#[tokio::test(flavor = "multi_thread")]
async fn in_production_jobs_that_send_e_mails_need_a_mail_server() {
    let test = TestDatabase::create("bad_input_mail").await;
    let settings = [("STREAM_PROCESSOR__ENVIRONMENT", "production"), ("STREAM_PROCESSOR__TICKER__ENABLED", "true")];
    let ended = Processor::command(&["run"], &test, &settings).await;
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    for named in ["smtp.url", "remind-expiring-offers-j7", "send-introductions"] {
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    }
    assert_untouched(&test.database).await;
}

/// The privileges of the service in `database`, collection by collection ("" for all of them together).
fn privileges(database: &str, keep: impl Fn(&str, &str) -> bool) -> Vec<Document> {
    let sources = "recruiters anonymized_recruiters userswithaccounts anonymized_userswithaccounts cfas referentielromes \
                   referentiel_engagement_entreprise";
    let mut granted: Vec<(&str, &str)> = vec![
        ("", "changeStream find listCollections"),
        ("jobs_partners", "find insert update listIndexes"),
        ("stream_processor_links", "find insert update remove createIndex"),
        ("stream_processor_checkpoints", "find insert update remove createIndex"),
        ("stream_processor_state", "find insert update remove"),
        ("stream_processor_dead_letters", "find insert update remove"),
        ("stream_processor_commands", "find insert update remove"),
        ("stream_processor_canary", "find insert update"),
        ("stream_processor_gaps", "find insert update"),
        ("stream_processor_events", "find insert update remove"),
        ("stream_processor_instances", "find insert update remove"),
        ("resumetokens", "find insert update"),
        ("stream_processor_job_runs", "find insert update remove createIndex"),
        ("stream_processor_outbox", "find insert update"),
        ("rolemanagements", "find remove"),
        ("recruiters", "update remove"),
        ("userswithaccounts", "remove"),
        ("anonymized_recruiters", "insert update"),
        ("anonymized_userswithaccounts", "insert update"),
    ];
    granted.extend(sources.split_whitespace().map(|source| (source, "find")));
    let privilege = |(collection, actions): (&str, &str)| {
        let actions: Vec<&str> = actions.split(' ').filter(|action| keep(collection, action)).collect();
        doc! { "resource": { "db": database, "collection": collection }, "actions": actions }
    };
    granted.into_iter().map(privilege).collect()
}

/// A user with a role of its own that has these privileges.
async fn create_user(admin: &Database, user: &str, privileges: Vec<Document>) {
    let role = format!("role-{}", ObjectId::new());
    admin.run_command(doc! { "createRole": &role, "privileges": privileges, "roles": [] }).await.unwrap();
    admin.run_command(doc! { "createUser": user, "pwd": PASSWORD, "roles": [role] }).await.unwrap();
}
