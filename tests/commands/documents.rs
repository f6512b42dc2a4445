//! `--json`: each command prints one document, whatever there is to tell, of a form that `docs/json/` describes. Each
//! test that runs a command with `--json` checks the same of what it gets.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use clap::CommandFactory as _;
use serde_json::Value;
use stream_processor::cli::Cli;

use crate::support::database::TestDatabase;
use crate::support::documents::{document, form_of, forms};
use crate::support::fields::first_job;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};

/// A command line without `--json`, and the form of its document.
type Row<'a> = (&'a [&'a str], &'a str);

/// Commands that find nothing in an empty database.
const EMPTY: [Row<'static>; 19] = [
    (&["backfill"], "backfill"),
    (&["backfill", "--dry-run"], "backfill-dry-run"),
    (&["commands", "list"], "commands-list"),
    (&["config", "show"], "configuration"),
    (&["dead-letters", "list"], "dead-letters-list"),
    (&["dead-letters", "retry"], "dead-letters-retry"),
    (&["dead-letters", "show", "recruiters/x"], "not-done"),
    (&["doctor"], "doctor"),
    (&["events"], "events"),
    (&["jobs", "history"], "jobs-history"),
    (&["jobs", "list"], "jobs-list"),
    (&["pause", "--reason", "a test"], "pause"),
    (&["resume", "--reason", "a test"], "resume"),
    (&["phase", "history"], "phase-history"),
    (&["phase", "show"], "phase-show"),
    (&["status"], "status"),
    (&["throttle", "off", "--reason", "a test"], "throttle"),
    (&["tokens", "list"], "tokens-list"),
    (&["verify"], "verification"),
];

/// Commands that find something in a filled database.
const FILLED: [Row<'static>; 18] = [
    (&["backfill", "--dry-run"], "backfill-dry-run"),
    (&["commands", "list"], "commands-list"),
    (&["dead-letters", "list"], "dead-letters-list"),
    (&["doctor", "--against-platform"], "doctor"),
    (&["events"], "events"),
    (&["jobs", "history"], "jobs-history"),
    (&["jobs", "list"], "jobs-list"),
    (&["jobs", "run", "cap-offer-expirations"], "jobs-run"),
    // Refused: the database is not named as a copy.
    (&["obfuscate", "--dry-run"], "not-done"),
    (&["phase", "history"], "phase-history"),
    (&["phase", "set", "sync"], "phase-set"),
    (&["phase", "show"], "phase-show"),
    (&["resync", "--reason", "a test"], "resync"),
    (&["setup", "--dry-run"], "setup"),
    // Nobody leads.
    (&["stepdown"], "not-done"),
    (&["tokens", "list"], "tokens-list"),
    (&["tokens", "show"], "tokens-show"),
    (&["verify", "--sample", "5"], "verification"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_command_with_json_prints_one_document_as_described_also_when_there_is_nothing_to_tell() {
    let test = TestDatabase::create("documents").await;
    for source in ["userswithaccounts", "cfas", "referentielromes"] {
        test.database.create_collection(source).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    for row in EMPTY {
        run(&test, row, &mut seen).await;
    }
    let from = DateTime::now().try_to_rfc3339_string().unwrap();
    let (broken, user) = fill(&test).await;
    let unknown = format!("recruiters/{}", ObjectId::new());
    let unfinished = command(&test).await;
    let certificate = tempfile::NamedTempFile::new().unwrap();
    let file = certificate.path().to_str().unwrap();
    let made = run(&test, (&["phase", "certificate"], "certificate"), &mut seen).await;
    std::fs::write(file, made.to_string()).unwrap();
    let rows: [Row<'_>; 9] = [
        (&["anonymize", "user", &user, "--dry-run"], "jobs-run"),
        (&["commands", "cancel", &unfinished], "commands-cancel"),
        (&["dead-letters", "show", &broken], "dead-letters-show"),
        (&["dead-letters", "retry", &broken], "dead-letters-retry"),
        (&["dead-letters", "drop", &broken, &unknown, "--reason", "stays"], "dead-letters-drop"),
        (&["phase", "certificate", "--check", file], "certificate-check"),
        (&["replay", "--from", &from, "--dry-run"], "replay-dry-run"),
        (&["replay", "--from", &from, "--find"], "replay-find"),
        (&["replay", "--from", &from], "replay"),
    ];
    for row in rows.into_iter().chain(FILLED) {
        run(&test, row, &mut seen).await;
    }
    assert_eq!(run(&test, (&["status"], "status"), &mut seen).await["jobs"][0]["outcome"], "done");
    // Those of the mirror are printed in `shadow` (phases/mirror_backfill.rs), and that of `stepdown` needs two instances
    // (commands/control.rs). `support-bundle` has no other form (commands/support_bundle.rs).
    let elsewhere = ["stepdown", "support-bundle"];
    let described = forms().filter(|form| !form.starts_with("backfill-mirror") && !elsewhere.contains(form));
    assert_eq!(seen, described.map(str::to_owned).collect(), "each described form is printed");
    let run_here = EMPTY.into_iter().chain(rows).chain(FILLED).chain([(&["phase", "certificate"] as &[&str], "")]);
    let run_here: BTreeSet<String> = run_here.map(|(arguments, _)| named(arguments)).collect();
    let mut with_json = BTreeSet::new();
    collect(&Cli::command(), "", &mut with_json);
    assert_eq!(run_here, with_json, "each command with --json is run here");
}

/// Fills the database, and gives back the id of a dead letter and that of a user.
async fn fill(test: &TestDatabase) -> (String, String) {
    let processor = started(test).await;
    until_no_resync(&test.database).await;
    let broken = recruiter([job("Boulanger"), with(job("Vendeur"), doc! { "job_status": "?" })]);
    let user = doc! { "_id": ObjectId::new(), "email": "someone@example.org" };
    test.collection("recruiters").insert_one(&broken).await.unwrap();
    test.collection("userswithaccounts").insert_one(&user).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    let wrong = doc! { "$set": { "offer_title": "wrong" } };
    test.collection("jobs_partners").update_one(doc! { "_id": first_job(&broken) }, wrong).await.unwrap();
    let letters = test.collection("stream_processor_dead_letters");
    let letter: Document = letters.find_one(doc! {}).await.unwrap().unwrap();
    (letter.get_str("_id").unwrap().to_owned(), id(&user).to_hex())
}

/// A command that nobody carries out; gives back its id.
async fn command(test: &TestDatabase) -> String {
    let waiting = doc! {
        "order": { "name": "backfill-mirror" }, "state": "requested", "requested_at": DateTime::now(),
    };
    let stored = test.collection("stream_processor_commands").insert_one(waiting).await.unwrap();
    stored.inserted_id.as_object_id().unwrap().to_hex()
}

async fn run(test: &TestDatabase, (arguments, form): Row<'_>, seen: &mut BTreeSet<String>) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let ended = Processor::command(&arguments, test, &[]).await;
    let document = document(&arguments, &ended);
    assert_eq!(form_of(&document), form, "{arguments:?}");
    seen.insert(form.to_owned());
    document
}

/// The words of a command line that name the command.
fn named(arguments: &[&str]) -> String {
    let (mut command, mut names) = (Cli::command(), Vec::new());
    for word in arguments {
        let Some(inner) = command.find_subcommand(word).cloned() else { break };
        names.push(*word);
        command = inner;
    }
    names.join(" ")
}

/// The names of the commands that have `--json`.
fn collect(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    if command.get_arguments().any(|argument| argument.get_id() == "json") {
        found.insert(path.to_owned());
    }
    for inner in command.get_subcommands() {
        collect(inner, format!("{path} {}", inner.get_name()).trim(), found);
    }
}

/// The rows of lists, one in each line, are the elements of the list in the document.
#[tokio::test(flavor = "multi_thread")]
async fn rows_come_line_by_line_only_where_that_is_asked_for() {
    let test = TestDatabase::create("documents_rows").await;
    let letter = |number: i32| doc! { "_id": format!("recruiters/{number}"), "reason": "too_slow", "attempts": number };
    let letters = test.collection("stream_processor_dead_letters");
    letters.insert_many([1, 2, 3].map(letter)).await.unwrap();
    let listed = Processor::command(&["dead-letters", "list", "--json", "--limit", "2"], &test, &[]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((&listed["count"], listed["dead_letters"].as_array().unwrap().len()), (&3.into(), 2));
    let lines = Processor::command(&["dead-letters", "list", "--ndjson", "--limit", "2"], &test, &[]).await.stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(lines), listed["dead_letters"]);
    for arguments in
        [&["dead-letters", "list"][..], &["events", "--follow"], &["jobs", "history"], &["status", "--watch"]]
    {
        let both = Processor::command(&[arguments, &["--json", "--ndjson"]].concat(), &test, &[]).await;
        assert_eq!(both.code, 2, "{arguments:?}");
    }
    for stream in [["events", "--follow", "--json"], ["status", "--watch", "--json"]] {
        assert_eq!(Processor::command(&stream, &test, &[]).await.code, 2, "{stream:?}: a stream is no document");
    }
}
