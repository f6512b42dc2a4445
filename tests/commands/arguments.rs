//! Wrong arguments of every command. Each one is refused before a connection is made: nothing listens at the address of
//! the database, and a connection would end with another exit code.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory as _;
use stream_processor::cli::Cli;
use stream_processor::refusal::Exit;

/// The argument under test, a command line with a wrong value for it, and a part of the message.
type Row = (&'static str, &'static [&'static str], &'static str);

const ROWS: &[Row] = &[
    ("anonymize user id", &["anonymize", "user", "12"], "24 hexadecimal digits"),
    ("backfill recruiter", &["backfill", "--recruiter", "12"], "24 hexadecimal digits"),
    ("backfill filter", &["backfill", "--filter", "{}"], "selects everything"),
    ("backfill filter", &["backfill", "--filter", r#"{ "email": "x" }"#], "holds the contact of a person"),
    ("backfill ids", &["backfill", "--ids", "a-file"], "line 1 is not an _id"),
    ("backfill since", &["backfill", "--since", "nonsense"], "not a time such as"),
    ("commands cancel id", &["commands", "cancel", "12"], "24 hexadecimal digits"),
    ("commands list limit", &["commands", "list", "--limit", "0"], "0 is not in 1.."),
    ("completions shell", &["completions", "nosh"], "possible values"),
    ("config", &["status", "--config", "missing.toml"], "missing.toml"),
    ("database", &["status", "--database", "a/b"], "mongodb.database"),
    (
        "dead-letters drop ids",
        &["dead-letters", "drop", "--reason", "x", "recruiters/x", "nonsense"],
        "dead-letters list",
    ),
    ("dead-letters drop reason", &["dead-letters", "drop", "recruiters/x", "--reason", ""], "--reason"),
    ("dead-letters list limit", &["dead-letters", "list", "--limit", "0"], "0 is not in 1.."),
    ("dead-letters list reason", &["dead-letters", "list", "--reason", "bad"], "refused_by_validation"),
    ("dead-letters show id", &["dead-letters", "show", "nowhere/65102a7347a6ef7545b05ef0"], "dead-letters list"),
    ("dead-letters retry ids", &["dead-letters", "retry", "recruiters/x", "nonsense"], "dead-letters list"),
    ("emails preview out", &["emails", "preview", "remind-J7", "--out", "missing/e.html"], "there is no such folder"),
    ("emails preview template", &["emails", "preview", "remind-J9"], "remind-J1, introduction"),
    ("events kind", &["events", "--kind", "nonsense"], "leadership, phase_step"),
    ("events limit", &["events", "--limit", "0"], "0 is not in 1.."),
    ("events since", &["events", "--since", "nonsense"], "not a time such as"),
    ("jobs history job", &["jobs", "history", "--job", "nonsense"], "anonymize-user, obfuscate"),
    ("jobs history limit", &["jobs", "history", "--limit", "0"], "0 is not in 1.."),
    ("jobs run job", &["jobs", "run", "nonsense", "--dry-run"], "cancel-expired-offers"),
    ("jobs run now", &["jobs", "run", "verify", "--now", "soon"], "not a time such as"),
    ("man folder", &["man", "a-file/man"], "choose another folder"),
    ("mongodb-uri", &["status", "--mongodb-uri", "mongo://db"], "mongodb.uri"),
    ("operator", &["status", "--as", ""], "--as"),
    ("operator", &["status", "--as", "x\ny"], "one line of 100 characters"),
    ("pause limit", &["pause", "--reason", "x", "--limit", "soon"], "not a duration such as"),
    ("pause reason", &["pause", "--reason", ""], "--reason"),
    ("pause reason", &["pause", "--reason", "  "], "and not blank"),
    ("pause reason", &["pause", "--reason", "over\nverdict: in step"], "one line of 500 characters"),
    ("phase certificate check", &["phase", "certificate", "--check", "a-file"], "it has no schema"),
    ("phase certificate check", &["phase", "certificate", "--check", "missing.json"], "cannot be read"),
    ("phase certificate out", &["phase", "certificate", "--out", "missing/c.json"], "there is no such folder"),
    ("phase set phase", &["phase", "set", "nowhere"], "the phases are sync, dual-write, shadow, retired"),
    ("phase set reason", &["phase", "set", "shadow", "--force", "--reason", ""], "--reason"),
    ("phase set reason", &["phase", "set", "shadow", "--force"], "--reason"),
    ("replay collection", &["replay", "--from", "1h ago", "--collection", "cache_siret"], "choose one of recruiters"),
    ("replay from", &["replay", "--from", "nonsense"], "not an id of the history such as"),
    ("replay from", &["replay", "--from", "2999-01-01T00:00:00Z"], "a position cannot have this time"),
    ("replay from", &["replay", "--from", "a-file"], "expected a file from `tokens export`"),
    ("replay until", &["replay", "--from", "1h ago", "--until", "a-file"], "not a time such as"),
    ("replay until", &["replay", "--from", "1h ago", "--until", "2h ago"], "exchange them"),
    (
        "replay until",
        &["replay", "--from", "2026-02-01T00:00:00Z", "--until", "2026-01-31T00:00:00Z", "--dry-run"],
        "exchange them",
    ),
    ("resume from", &["resume", "--reason", "x", "--from", "nonsense"], "not an id of the history such as"),
    ("resume reason", &["resume", "--reason", ""], "--reason"),
    ("resync reason", &["resync", "--reason", ""], "--reason"),
    ("run listen", &["run", "--listen", "nowhere"], "http.listen (flag --listen)"),
    ("stepdown seconds", &["stepdown", "--for", "0"], "0 is not in 1.."),
    ("support-bundle file", &["support-bundle", "a-file"], "choose another file"),
    ("support-bundle file", &["support-bundle", "missing/bundle.json"], "there is no such folder"),
    ("support-bundle log", &["support-bundle", "-", "--log", "missing.log"], "give another file"),
    ("support-bundle log", &["support-bundle", "-", "--log", "."], "give another file"),
    ("throttle ceiling", &["throttle", "many", "--reason", "x"], "not `off`"),
    ("throttle ceiling", &["throttle", "0", "--reason", "x"], "from 1 to 1000000"),
    ("throttle reason", &["throttle", "off", "--reason", ""], "--reason"),
    ("throttle reason", &["throttle", "off", "--reason", "\u{1b}[2J"], "one line of 500 characters"),
    ("time-zone", &["status", "--time-zone", "Paris"], "Europe/Paris or UTC"),
    ("tokens export file", &["tokens", "export", "a-file"], "choose another file"),
    ("tokens export file", &["tokens", "export", "missing/position.json"], "there is no such folder"),
    ("tokens export id", &["tokens", "export", "-", "--id", "1h ago"], "`tokens list` shows the ids"),
    ("tokens import file", &["tokens", "import", "a-file"], "expected a file from `tokens export`"),
    ("tokens import file", &["tokens", "import", "missing.json"], "expected a file from `tokens export`"),
    ("tokens import reason", &["tokens", "import", "--old-worker", "--force", "--reason", ""], "--reason"),
    ("tokens list limit", &["tokens", "list", "--limit", "many"], "--limit"),
    ("tokens reset reason", &["tokens", "reset", "--force", "--reason", ""], "--reason"),
    ("tokens show position", &["tokens", "show", "nonsense"], "not an id of the history such as"),
    ("verify recruiter", &["verify", "--recruiter", "12"], "24 hexadecimal digits"),
    ("verify report", &["verify", "--report", "missing/report.json"], "there is no such folder"),
    ("verify report", &["verify", "--report", "/proc/report.json"], "cannot be written"),
    ("verify since", &["verify", "--since", "nonsense"], "not a time such as"),
    ("verify sample", &["verify", "--sample", "0"], "0 is not in 1.."),
];

#[test]
fn a_wrong_argument_of_any_command_is_refused_before_a_connection_is_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a-file"), "{}").unwrap();
    for (argument, line, words) in ROWS {
        let ended = run(line, folder.path());
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(Exit::Usage as i32), "{argument}: {line:?}:\n{told}");
        assert!(told.contains(words), "{argument}: {line:?}: not `{words}`:\n{told}");
        assert!(ended.stdout.is_empty(), "{argument}");
    }
}

/// A new argument gets a row above.
#[test]
fn every_argument_with_a_value_has_a_row() {
    let mut expected = BTreeSet::new();
    arguments(&Cli::command(), "", &mut expected);
    let rows: BTreeSet<String> = ROWS.iter().map(|(argument, ..)| (*argument).to_owned()).collect();
    assert_eq!(rows, expected);
}

fn arguments(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    let with_value = command.get_arguments().filter(|argument| argument.get_action().takes_values());
    found.extend(with_value.map(|argument| format!("{path}{}", argument.get_id()).replace('_', "-")));
    for inner in command.get_subcommands() {
        arguments(inner, &format!("{path}{} ", inner.get_name()), found);
    }
}

fn run(line: &[&str], folder: &Path) -> Output {
    // Nothing can listen at port 0.
    let variables = [("MONGODB_URI", "mongodb://127.0.0.1:0/?directConnection=true"), ("MONGODB_DATABASE", "lba")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_stream-processor"));
    command.args(line).current_dir(folder).env_clear().envs(variables).output().unwrap()
}

/// The position that the standard input holds is read by each command that takes a file with a position.
#[test]
fn a_dash_is_the_standard_input_where_a_position_is_read() {
    let lines: [&[&str]; 4] = [
        &["tokens", "import", "-"],
        &["replay", "--from", "-"],
        &["tokens", "show", "-"],
        &["resume", "--from", "-", "--reason", "repaired"],
    ];
    for line in lines {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stream-processor"))
            .args(line)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(br#"{"_data": "zz"}"#).unwrap();
        let ended = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(told.contains("invalid value '-'") && told.contains("expected a file from `tokens export`"), "{told}");
        assert_eq!(ended.status.code(), Some(2), "{line:?}: {told}");
    }
}
