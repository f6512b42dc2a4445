//! What people see: the help of every command, and what the main commands print of a small database. Kept as snapshots;
//! `INSTA_UPDATE=always cargo xtask test -- printed` accepts what has changed.

use std::process::Stdio;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use clap::CommandFactory as _;
use stream_processor::cli::Cli;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync};

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let mut command = Cli::command().term_width(100).version("");
    command.build();
    let mut helps = Vec::new();
    collect(&mut command, "", &mut helps);
    assert!(helps.len() > 20);
    for (name, help) in helps {
        insta::assert_snapshot!(format!("help {name}"), help);
    }
}

fn collect(command: &mut clap::Command, prefix: &str, helps: &mut Vec<(String, String)>) {
    let name = format!("{prefix}{}", command.get_name());
    helps.push((name.clone(), command.render_long_help().to_string()));
    for inner in command.get_subcommands_mut() {
        collect(inner, &format!("{name} "), helps);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_commands_print_what_they_printed() {
    let test = TestDatabase::create("printed").await;
    for source in ["userswithaccounts", "cfas", "referentielromes"] {
        test.database.create_collection(source).await.unwrap();
    }
    test.create_platform_indexes().await;
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    let processor = started(&test).await;
    let id = |last: u8| ObjectId::from_bytes([0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let jobs = [1, 2].map(|last| with(job("Boulanger"), doc! { "_id": id(last) }));
    let broken = with(job("Pâtissier"), doc! { "_id": id(3), "job_status": "?" });
    let recruiter = with(recruiter(jobs.into_iter().chain([broken])), doc! { "_id": id(9), "establishment_id": "e" });
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    stopped(processor).await;
    let second = DateTime::now().timestamp_millis() / 1_000 * 1_000;
    let from = DateTime::from_millis(second).try_to_rfc3339_string().unwrap();
    let offers = test.collection("jobs_partners");
    offers.update_one(doc! { "_id": id(1) }, doc! { "$set": { "offer_title": "wrong" } }).await.unwrap();
    offers.delete_one(doc! { "_id": id(2) }).await.unwrap();
    let dead_letter = format!("recruiters/{}/{}", id(9), id(3));
    let commands: [(&[&str], i32); 12] = [
        (&["status"], 0),
        (&["tokens", "list"], 0),
        (&["tokens", "show"], 0),
        (&["replay", "--from", &from, "--dry-run"], 0),
        (&["backfill", "--dry-run"], 0),
        (&["verify"], 1),
        (&["dead-letters", "list"], 0),
        (&["dead-letters", "show", &dead_letter], 0),
        (&["phase", "show"], 0),
        (&["setup"], 0),
        (&["config", "check"], 0),
        (&["dead-letters", "drop", &dead_letter, "recruiters/x", "--reason", "stays"], 1),
    ];
    let mut printed = String::new();
    for (arguments, code) in commands {
        let ended = Processor::command(arguments, &test, &[]).await;
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
        printed.push_str(&format!("$ stream-processor {}\n{}\n", arguments.join(" "), ended.stdout));
    }
    insta::assert_snapshot!("the main commands", without_what_varies(&printed));
    test.create_platform_indexes().await;
    let doctor = Processor::command(&["doctor"], &test, &[]).await;
    let set = test.uri.split_once("replicaSet=").unwrap().1.split('&').next().unwrap();
    // How large the machine's oplog is, is not ours to say, nor what to do about that.
    let ours = |line: &&str| !["oplog", "outage", "catches up", " failed, "].iter().any(|word| line.contains(word));
    let lines = doctor.stdout.replace(set, "SET").lines().filter(ours).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!("doctor", without_what_varies(&lines));
    let left: Option<Document> = test.collection("stream_processor_dead_letters").find_one(doc! {}).await.unwrap();
    assert_eq!(left, None, "the dead letter is dropped");
}

/// Without what has to do with time or the machine: numbers, and how many words a length of time takes.
fn without_what_varies(text: &str) -> String {
    let varies = |word: &str| {
        word.contains(|character: char| character.is_ascii_digit())
            && !word.starts_with("65000000")
            && !word.contains("recruiters/")
    };
    let line = |line: &str| {
        if line.starts_with("kind ") {
            return "kind          #\n".to_owned();
        }
        // A young oplog has none.
        if line.starts_with("headroom ") {
            return "headroom      #\n".to_owned();
        }
        // The columns are as wide as the ids and the times of the day.
        if line.trim_start().starts_with("ID ") && ["OPLOG", "DETAIL"].iter().any(|last| line.ends_with(last)) {
            return format!("  {}\n", line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let words = line.split(' ').map(|word| if varies(word) { "#" } else { word });
        let mut masked: Vec<&str> = Vec::new();
        for word in words {
            let after_number = masked.iter().rev().find(|word| !word.is_empty()) == Some(&"#");
            match word {
                "" | "#" if after_number => {}
                word => masked.push(word),
            }
        }
        masked.join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

/// `| head`: no error, and no panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_early_is_no_error() {
    let test = TestDatabase::create("printed_early").await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stream-processor"));
    command.args(["status", "--watch"]).env("MONGODB_URI", &test.uri).env("MONGODB_DATABASE", test.name());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && !said.contains("panic"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_pages_name_every_command() {
    let test = TestDatabase::create("pages").await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Processor::command(&["completions", shell], &test, &[]).await;
        assert!(ended.code == 0 && ended.stdout.contains("dead-letters"), "{shell}: {}", ended.stderr);
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let ended = Processor::command(&["man", pages.to_str().unwrap()], &test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for page in ["stream-processor.1", "stream-processor-replay.1", "stream-processor-tokens-import.1"] {
        assert!(std::fs::read_to_string(pages.join(page)).unwrap().contains(".SH"), "{page}");
    }
    let nowhere = Processor::command(&["man", "/dev/null/man"], &test, &[]).await;
    assert!(nowhere.code == 2 && nowhere.stderr.contains("choose another folder"), "{}", nowhere.stderr);
}
