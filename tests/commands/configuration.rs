//! The configuration from outside (spec 06): the built binary with files, variables and flags, and
//! `deploy/stream-processor.toml` against the table of keys. Needs no MongoDB.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it says"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use stream_processor::config::{ConfigKey, Fallback, Section, ValueKind, sections};

const URI: &str = "mongodb://someone:hunter2@db.example.com:27017/?replicaSet=rs0";

/// Runs the binary with nothing in its environment but these variables.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stream-processor"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The value and the source of one key in `config show --json`.
fn shown(arguments: &[&str], variables: &[(&str, &str)], key: &str) -> (String, String) {
    let output = run(&[&["config", "show", "--json"], arguments].concat(), variables);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = shown["keys"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap();
    let part = |name: &str| row[name].as_str().unwrap().to_owned();
    (part("value"), part("source"))
}

#[test]
fn an_unknown_key_and_two_bad_values_are_reported_at_once_with_key_and_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "[stream]\nbatch_mx = 10\nbatch_max = 'many'\n").unwrap();
    let path = file.to_str().unwrap();
    let variables = [("MONGODB_URI", URI), ("MONGODB_DATABASE", "lba"), ("STREAM_PROCESSOR__LEASE__DURATION", "soon")];
    for command in [&["config", "check"][..], &["config", "show"], &["run"], &["backfill"]] {
        let output = run(&[command, &["--config", path]].concat(), &variables);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(output.stdout.is_empty());
        let faults = text(&output.stderr);
        for expected in [
            "3 faults".to_owned(),
            format!("stream.batch_mx (file {path}, line 2): is not a key; did you mean `stream.batch_max`?"),
            format!(
                "stream.batch_max (file {path}, line 3): `many` is not a whole number; allowed: a whole number from 1 to 50000"
            ),
            "lease.duration (environment STREAM_PROCESSOR__LEASE__DURATION): `soon` is not a duration".to_owned(),
        ] {
            assert!(faults.contains(&expected), "missing: {expected}\nin:\n{faults}");
        }
    }
}

#[test]
fn without_a_database_the_faults_say_how_to_name_one() {
    let output = run(&["run"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let faults = text(&output.stderr);
    assert!(faults.contains("mongodb.uri (not set): is required"), "{faults}");
    assert!(faults.contains("the flag --database or the variable MONGODB_DATABASE"), "{faults}");
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "[mongodb]\ndatabase = 'from_file'\n").unwrap();
    let path = file.to_str().unwrap();
    let key = "mongodb.database";
    let uri = ("MONGODB_URI", URI);

    let (value, source) = shown(&["--config", path], &[uri], key);
    assert_eq!((value.as_str(), source), ("from_file", format!("file {path}, line 2")));

    let short = [uri, ("MONGODB_DATABASE", "from_short")];
    let (value, source) = shown(&["--config", path], &short, key);
    assert_eq!((value.as_str(), source.as_str()), ("from_short", "environment MONGODB_DATABASE"));

    let name = "STREAM_PROCESSOR__MONGODB__DATABASE";
    let both = [uri, ("MONGODB_DATABASE", "from_short"), (name, "from_long")];
    let (value, source) = shown(&["--config", path], &both, key);
    assert_eq!((value.as_str(), source), ("from_long", format!("environment {name}")));

    let flags = ["--config", path, "--database", "from_flag"];
    let (value, source) = shown(&flags, &both, key);
    assert_eq!((value.as_str(), source.as_str()), ("from_flag", "flag --database"));
}

#[test]
fn a_secret_never_appears_in_what_is_printed() {
    let good = [
        ("MONGODB_URI", URI),
        ("MONGODB_DATABASE", "lba"),
        ("SMTP_URL", "smtp://mailer:hunter2@mail.example.com:587"),
        ("STREAM_PROCESSOR__DIRECTORY__TOKEN", "hunter2"),
        ("STREAM_PROCESSOR__NOTICES__WEBHOOK_URL", "https://hooks.example.com/hunter2"),
        ("RUST_LOG", "trace"),
    ];
    let bad = [
        ("MONGODB_URI", "mongo://someone:hunter2@db.example.com"),
        ("MONGODB_DATABASE", URI),
        ("SMTP_URL", "http://mailer:hunter2@mail.example.com"),
        ("STREAM_PROCESSOR__NOTICES__WEBHOOK_URL", "hooks.example.com/hunter2"),
    ];
    for (variables, code) in [(&good[..], 0), (&bad[..], 2)] {
        for arguments in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check"]] {
            let output = run(arguments, variables);
            assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert!(!printed.contains("hunter2"), "{arguments:?}:\n{printed}");
        }
    }
    let output = run(&["config", "show"], &good);
    let table = text(&output.stdout);
    assert!(table.contains("mongodb://***@db.example.com:27017/?replicaSet=rs0"), "{table}");
}

#[test]
fn a_secret_can_come_from_a_file_but_not_from_two_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("uri");
    std::fs::write(&file, format!("{URI}\n")).unwrap();
    let path = file.to_str().unwrap();
    let name = "STREAM_PROCESSOR__MONGODB__URI_FILE";
    let alone = [("MONGODB_DATABASE", "lba"), (name, path)];
    let (value, source) = shown(&[], &alone, "mongodb.uri");
    assert_eq!(value, "mongodb://***@db.example.com:27017/?replicaSet=rs0");
    assert_eq!(source, format!("content of {path}"));

    let output = run(&["config", "check"], &[&alone[..], &[("MONGODB_URI", URI)]].concat());
    assert_eq!(output.status.code(), Some(2));
    let faults = text(&output.stderr);
    assert!(faults.contains("mongodb.uri_file") && faults.contains("give one of them"), "{faults}");
}

#[test]
fn a_valid_configuration_is_called_valid_and_a_wrong_command_line_is_a_usage_error() {
    let variables = [("MONGODB_URI", URI), ("MONGODB_DATABASE", "lba")];
    let output = run(&["config", "check"], &variables);
    assert_eq!(text(&output.stdout), "configuration is valid\n");
    let production = [&variables[..], &[("STREAM_PROCESSOR__ENVIRONMENT", "production")]].concat();
    let output = run(&["config", "check"], &production);
    assert_eq!(output.status.code(), Some(2), "`run` would refuse it too");
    assert!(text(&output.stderr).contains("smtp.url is not set"), "{}", text(&output.stderr));
    let mailing = [&production[..], &[("SMTP_URL", "smtp://localhost:25")]].concat();
    assert_eq!(run(&["config", "check"], &mailing).status.code(), Some(0));
    assert_eq!(run(&["config", "chekc"], &variables).status.code(), Some(2));
    let version = text(&run(&["--version"], &[]).stdout);
    assert!(version.starts_with(&format!("stream-processor {} (commit ", env!("CARGO_PKG_VERSION"))), "{version}");
}

#[test]
fn the_commented_file_shows_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/stream-processor.toml");
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let expected = commented_file();
    if found != expected {
        let right = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stream-processor.toml");
        std::fs::write(&right, expected).unwrap();
        panic!(
            "deploy/stream-processor.toml is not in step with the table of keys; to renew it:\n  cp {} {}",
            right.display(),
            path.display()
        );
    }
}

#[test]
fn the_commented_file_loads_as_it_is_and_changes_no_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/stream-processor.toml");
    let variables = [("MONGODB_URI", URI), ("MONGODB_DATABASE", "lba")];
    let values = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let output = run(&[&["config", "show", "--json"], arguments].concat(), &variables);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        shown["keys"].as_array().unwrap().iter().map(|row| row["value"].clone()).collect()
    };
    assert_eq!(values(&["--config", path.to_str().unwrap()]), values(&[]));
}

/// The file as the table of keys has it.
fn commented_file() -> String {
    let mut file = String::new();
    comment(
        &mut file,
        "The configuration of stream-processor: every key with its default. A key that has none is \
         commented out, with an example. The file is named by `--config`; the environment wins over \
         it, and flags win over the environment. Any key can be a variable: `stream.batch_max` is \
         STREAM_PROCESSOR__STREAM__BATCH_MAX (`.` becomes `__`, `-` becomes `_`). Secrets are better \
         kept in the files that the `*_file` keys name. `stream-processor config show` prints what \
         holds and where it came from; `config check` prints everything that is wrong.",
    );
    for section in sections() {
        file.push('\n');
        comment(&mut file, section.doc);
        if !section.path.is_empty() {
            writeln!(file, "[{}]", section.path).unwrap();
        }
        keys(&mut file, &section);
    }
    file
}

fn keys(file: &mut String, section: &Section) {
    for key in &section.keys {
        assert_eq!(key.path, format!("{}.{}", section.path, key.name()).trim_start_matches('.'));
        comment(file, key.doc);
        let evident = matches!(key.kind, ValueKind::Text | ValueKind::Path | ValueKind::Boolean);
        if !evident && !key.doc.is_empty() {
            comment(file, &format!("Allowed: {}.", key.kind.allowed()));
        }
        let ways: Vec<&str> = key.short.into_iter().chain(key.flag).collect();
        if !ways.is_empty() {
            comment(file, &format!("Also: {}.", ways.join(", ")));
        }
        let (mark, value) = match key.fallback {
            Fallback::Value(value) => ("", scalar(key, value)),
            Fallback::List(items) => ("", format!("{items:?}")),
            Fallback::Unset(example) => ("# ", scalar(key, example)),
            Fallback::Required(example) => {
                comment(file, "Required.");
                ("# ", scalar(key, example))
            }
        };
        writeln!(file, "{mark}{} = {value}", key.name()).unwrap();
    }
}

fn scalar(key: &ConfigKey, value: &str) -> String {
    match key.kind {
        ValueKind::Boolean | ValueKind::Count { .. } => value.to_owned(),
        _ => format!("{value:?}"),
    }
}

/// Comment lines of up to 100 characters.
fn comment(file: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 100 {
            writeln!(file, "{line}").unwrap();
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        writeln!(file, "{line}").unwrap();
    }
}
