//! Unit tests of the configuration: layers, faults, secrets. Each test gives its own environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::*;

const URI: &str = "mongodb://someone:hunter2@db.example.com:27017/?replicaSet=rs0";

fn variables(given: &[(&str, &str)]) -> BTreeMap<String, OsString> {
    given.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect()
}

/// Sources with the required variables and these variables.
fn with_variables(given: &[(&str, &str)]) -> Sources {
    let mut environment = variables(&[("MONGODB_URI", URI), ("MONGODB_DATABASE", "lba")]);
    environment.extend(variables(given));
    Sources { file: None, environment, flags: Vec::new() }
}

fn with_file(folder: &Path, text: &str) -> Sources {
    let path = folder.join("settings.toml");
    std::fs::write(&path, text).unwrap();
    Sources { file: Some(path), ..with_variables(&[]) }
}

fn faults_of(sources: &Sources) -> Vec<String> {
    let faults = load(sources).unwrap_err();
    faults.0.iter().map(ToString::to_string).collect()
}

/// The value and the source of a key, as `config show` prints them.
fn shown(sources: &Sources, key: &str) -> (String, String) {
    let loaded = load(sources).unwrap();
    let row = loaded.effective.into_iter().find(|row| row.key == key).unwrap();
    let value = row.value.as_str().map_or_else(|| row.value.to_string(), str::to_owned);
    (value, row.source)
}

#[test]
fn the_defaults_are_valid_and_every_key_of_the_table_is_shown() {
    let loaded = load(&with_variables(&[])).unwrap();
    let keys: usize = sections().iter().map(|section| section.keys.len()).sum();
    assert_eq!(loaded.effective.len(), keys);
    let settings = loaded.settings;
    assert_eq!(settings.mongodb.uri.expose_secret(), URI);
    assert_eq!(settings.mongodb.database, "lba");
    assert_eq!(settings.stream.batch_max, 5000);
    assert_eq!(settings.stream.on_history_lost, OnHistoryLost::Resync);
    assert_eq!(settings.tokens.history_keep, Duration::from_hours(14 * 24));
    assert_eq!(settings.phase.initial, Phase::Sync);
    assert_eq!(settings.http.listen.port(), 9464);
    assert_eq!(settings.ticker.jobs.len(), 15);
    assert!(settings.log.colors);
}

#[test]
fn every_secret_has_a_key_that_names_a_file() {
    let sections = sections();
    let keys: Vec<&ConfigKey> = sections.iter().flat_map(|section| &section.keys).collect();
    for secret in keys.iter().filter(|key| key.secret) {
        assert!(keys.iter().any(|key| key.path == secret.file_path()), "{}", secret.path);
    }
}

#[test]
fn no_two_keys_have_one_name_in_the_environment() {
    let sections = sections();
    let keys = sections.iter().flat_map(|section| &section.keys);
    let mut names: Vec<String> =
        keys.flat_map(|key| std::iter::once(key.variable()).chain(key.short.map(str::to_owned))).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn the_file_wins_over_the_default_the_environment_over_the_file_and_a_flag_over_all() {
    let folder = tempfile::tempdir().unwrap();
    let key = "http.listen";
    let mut sources = with_variables(&[]);
    assert_eq!(shown(&sources, key), ("127.0.0.1:9464".into(), "default".into()));

    sources = with_file(folder.path(), "\n[http]\nlisten = '127.0.0.1:1'");
    let (value, source) = shown(&sources, key);
    assert_eq!(value, "127.0.0.1:1");
    assert!(source.starts_with("file ") && source.ends_with("settings.toml, line 3"), "{source}");

    let name = "STREAM_PROCESSOR__HTTP__LISTEN";
    sources.environment.extend(variables(&[(name, "127.0.0.1:2")]));
    assert_eq!(shown(&sources, key), ("127.0.0.1:2".into(), format!("environment {name}")));

    sources.flags.push(("--listen", SecretString::from("127.0.0.1:3")));
    assert_eq!(shown(&sources, key), ("127.0.0.1:3".into(), "flag --listen".into()));
}

#[test]
fn the_prefixed_variable_wins_over_the_short_one() {
    let name = "STREAM_PROCESSOR__MONGODB__DATABASE";
    let sources = with_variables(&[(name, "other")]);
    let expected = ("other".to_owned(), format!("environment {name}"));
    assert_eq!(shown(&sources, "mongodb.database"), expected);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let sources = with_variables(&[("SMTP_URL", ""), ("STREAM_PROCESSOR__SOMETHING__ELSE", "")]);
    assert_eq!(shown(&sources, "smtp.url"), ("null".into(), "not set".into()));
}

#[test]
fn all_faults_of_all_layers_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = "http = 5\n[stream]\nbatch_maxx = 1\nbatch_max = 0\nawait_time = 3\n[log]\nformat = 'xml'";
    let mut sources = with_file(folder.path(), text);
    sources.environment =
        variables(&[("STREAM_PROCESSOR__LEASE__DURATION", "10"), ("STREAM_PROCESSOR__STREEM__BATCH_MAX", "10")]);
    sources.flags.push(("--database", SecretString::from("admin")));
    let faults = faults_of(&sources).join("\n");
    for expected in [
        "settings.toml, line 1): is a section: write `[http]`",
        "settings.toml, line 3): is not a key; did you mean `stream.batch_max`?",
        "streem.batch_max (environment STREAM_PROCESSOR__STREEM__BATCH_MAX): is not a key; \
         did you mean `STREAM_PROCESSOR__STREAM__BATCH_MAX`?",
        "settings.toml, line 4): `0` is too small; allowed: a whole number from 1 to 50000",
        "settings.toml, line 5): `3` is a number, not a text in quotes; allowed: a duration (`10s`",
        "lease.duration (environment STREAM_PROCESSOR__LEASE__DURATION): `10` is not a duration",
        "mongodb.uri (not set): is required; set `mongodb.uri` in the file, `mongodb.uri_file`, \
         the flag --mongodb-uri or the variable MONGODB_URI; allowed: a connection string",
        "mongodb.database (flag --database): `admin` cannot be watched by a change stream",
        "settings.toml, line 7): `xml` is not an allowed value; allowed: one of `auto`, `json`, `pretty`",
    ] {
        assert!(faults.contains(expected), "missing: {expected}\nin:\n{faults}");
    }
    assert_eq!(faults.lines().count(), 9, "{faults}");
}

#[test]
fn a_file_that_is_not_there_is_one_fault() {
    let sources =
        Sources { file: Some("/nowhere/settings.toml".into()), environment: BTreeMap::new(), flags: Vec::new() };
    let faults = faults_of(&sources);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("--config (flag --config): cannot read /nowhere/"), "{faults:?}");
}

#[test]
fn broken_toml_is_reported_by_line_without_quoting_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[mongodb]\nuri = \"mongodb://someone:hunter2@host\n[lease\nduration = '10s'\n";
    let faults = faults_of(&with_file(folder.path(), text)).join("\n");
    assert!(faults.contains("settings.toml, line 2): "), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn a_quoted_name_with_a_dot_is_not_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let faults = faults_of(&with_file(folder.path(), "\"lease.duration\" = '10s'"));
    assert!(faults[0].starts_with("\"lease.duration\" ("), "{faults:?}");
}

#[test]
fn values_beyond_their_bounds_are_refused() {
    for (name, value) in [
        ("STREAM__BATCH_MAX", "50001"),
        ("STREAM__BATCH_MAX", "99999999999999999999999"),
        ("STREAM__BATCH_MAX", "1.5"),
        ("STREAM__AWAIT_TIME", "49ms"),
        ("STREAM__AWAIT_TIME", "61s"),
        ("LEASE__DURATION", "0s"),
        ("HTTP__LISTEN", "localhost:9464"),
        ("TARGET__PUBLIC_URL", "ftp://example.com"),
        ("TARGET__PUBLIC_URL", "https://example.com/?a=b"),
        ("MONGODB__DATABASE", "a.b"),
        ("PRIVACY__ANONYMIZED_EMAIL", "nobody"),
        ("TICKER__ENABLED", "yes"),
        ("TICKER__JOBS__VERIFY__CRON", "30 4 * * *;"),
        ("SMTP__URL", "http://example.com"),
        ("SMTP__URL", "smtp://example.com?tls=maybe"),
        ("SMTP__URL", "smtp://user@example.com"),
        ("SMTP__URL", "smtps://example.com?pool=3"),
        ("SENTRY__DSN", "https://sentry.example.com/1"),
        ("SENTRY__DSN", "https://key@sentry.example.com"),
        ("LOG__LEVEL", "info,a=loud"),
        ("MONGODB__URI", "http://example.com"),
    ] {
        let sources = with_variables(&[(&format!("STREAM_PROCESSOR__{name}"), value)]);
        assert_eq!(faults_of(&sources).len(), 1, "{name}={value}");
    }
}

#[test]
fn a_cron_expression_may_be_one_or_a_list_and_a_job_name_has_underscores_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[ticker.jobs.verify]\ncron = '1 2 * * *'\n[ticker.jobs.full-sync]\ncron = ['1 2 * * *', '3 4 * * *']";
    let mut sources = with_file(folder.path(), text);
    let name = "STREAM_PROCESSOR__TICKER__JOBS__CANCEL_EXPIRED_OFFERS__CRON";
    sources.environment.extend(variables(&[(name, "5 6 * * *; 7 8 * * *")]));
    let jobs = load(&sources).unwrap().settings.ticker.jobs;
    assert_eq!(jobs["verify"].crons, ["1 2 * * *"]);
    assert_eq!(jobs["full-sync"].crons, ["1 2 * * *", "3 4 * * *"]);
    assert_eq!(jobs["cancel-expired-offers"].crons, ["5 6 * * *", "7 8 * * *"]);
}

#[test]
fn a_job_that_is_enabled_needs_a_cron_expression() {
    let name = "STREAM_PROCESSOR__TICKER__JOBS__ANALYZE_CLOSED_COMPANIES__ENABLED";
    let faults = faults_of(&with_variables(&[(name, "true")]));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("enabled but has no cron expression"), "{faults:?}");
}

#[test]
fn the_trailing_slash_of_the_public_url_goes() {
    let sources = with_variables(&[("STREAM_PROCESSOR__TARGET__PUBLIC_URL", "http://localhost:3000/")]);
    assert_eq!(load(&sources).unwrap().settings.target.public_url, "http://localhost:3000");
}

#[test]
fn no_color_turns_colors_off_unless_it_is_empty() {
    assert!(!load(&with_variables(&[("NO_COLOR", "1")])).unwrap().settings.log.colors);
    assert!(load(&with_variables(&[("NO_COLOR", "")])).unwrap().settings.log.colors);
}

#[test]
fn rust_log_is_the_level() {
    let loaded = load(&with_variables(&[("RUST_LOG", "debug")])).unwrap();
    assert_eq!(loaded.settings.log.level, "debug");
}

#[test]
fn secrets_come_from_files_too_and_are_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uri");
    std::fs::write(&path, format!("{URI}\n")).unwrap();
    let path = path.to_str().unwrap();
    let mut sources = with_variables(&[("STREAM_PROCESSOR__MONGODB__URI_FILE", path)]);
    sources.environment.remove("MONGODB_URI");
    assert_eq!(load(&sources).unwrap().settings.mongodb.uri.expose_secret(), URI);
    let (value, source) = shown(&sources, "mongodb.uri");
    assert_eq!(value, "mongodb://***@db.example.com:27017/?replicaSet=rs0");
    assert_eq!(source, format!("content of {path}"));
}

#[test]
fn a_secret_given_directly_and_as_a_file_is_refused() {
    let name = "STREAM_PROCESSOR__MONGODB__URI_FILE";
    let faults = faults_of(&with_variables(&[(name, "/run/secrets/uri")]));
    let expected = format!(
        "mongodb.uri_file (environment {name}): `mongodb.uri` is given too (environment MONGODB_URI): give one of them"
    );
    assert_eq!(faults, [expected]);
}

#[test]
fn a_secret_file_that_cannot_be_read_or_holds_nothing_good_is_one_fault() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad");
    std::fs::write(&bad, "hunter2\n").unwrap();
    let missing = folder.path().join("missing");
    for path in [&bad, &missing] {
        let name = "STREAM_PROCESSOR__MONGODB__URI_FILE";
        let mut sources = with_variables(&[(name, path.to_str().unwrap())]);
        sources.environment.remove("MONGODB_URI");
        let faults = faults_of(&sources);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(!faults[0].contains("hunter2"), "{faults:?}");
    }
}

#[test]
fn no_secret_shows_in_debug_output_or_in_the_effective_configuration() {
    let loaded = load(&with_variables(&[
        ("SMTP_URL", "smtp://mailer:hunter2@mail.example.com:587?tls=required"),
        ("STREAM_PROCESSOR__DIRECTORY__TOKEN", "hunter2"),
        ("STREAM_PROCESSOR__NOTICES__WEBHOOK_URL", "https://hooks.example.com/hunter2"),
        ("STREAM_PROCESSOR__MONGODB__URI", "mongodb://a:hunter2@h1:27017,h2/?tlsCertificateKeyFilePassword=hunter2"),
    ]))
    .unwrap();
    let debug = format!("{loaded:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    assert!(debug.contains("mongodb://***@h1:27017,h2/?tlsCertificateKeyFilePassword=***"), "{debug}");
}

#[test]
fn credentials_under_the_wrong_key_are_masked_in_the_fault() {
    let faults = faults_of(&with_variables(&[("STREAM_PROCESSOR__MONGODB__DATABASE", URI)]));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(!faults[0].contains("hunter2") && faults[0].contains("***@db.example.com"), "{faults:?}");
}

#[test]
fn a_window_that_ends_before_it_begins_and_a_short_key_are_faults_that_name_the_key_and_not_its_value() {
    let given = [
        ("STREAM_PROCESSOR__TICKER__JOBS__REMIND_EXPIRING_OFFERS_J1__WINDOW_FROM", "1d"),
        ("STREAM_PROCESSOR__MAIL__LINKS__JWT_SECRET", "too-short"),
        ("STREAM_PROCESSOR__MAIL__LINKS__CANCEL", "{public_url}/cancel?token={token}"),
    ];
    let faults = faults_of(&with_variables(&given)).join("\n");
    for named in [
        "ticker.jobs.remind-expiring-offers-j1.window_to",
        "the window of the reminder ends before it begins",
        "is too short for a signing key",
        "does not name `{job}`",
    ] {
        assert!(faults.contains(named), "{named}: {faults}");
    }
    assert!(!faults.contains("too-short"), "{faults}");
    let moved = ("STREAM_PROCESSOR__TICKER__JOBS__REMIND_EXPIRING_OFFERS_J1__WINDOW_TO", "2d");
    let loaded = load(&with_variables(&[given[0], moved])).unwrap();
    let window = loaded.settings.ticker.jobs["remind-expiring-offers-j1"].window.unwrap();
    assert_eq!((window.from, window.to), (Duration::from_hours(24), Duration::from_hours(48)));
}

#[test]
fn a_word_of_the_log_level_that_is_no_level_is_a_fault_with_the_nearest_one() {
    for (level, told) in [
        ("inof", "did you mean `info`?"),
        ("WRAN", "did you mean `warn`?"),
        ("info,tarce", "did you mean `trace`?"),
        ("stream_processor", "`stream_processor=debug`"),
        ("info,stream_processor=loud", "cannot be parsed"),
    ] {
        let faults = faults_of(&with_variables(&[("STREAM_PROCESSOR__LOG__LEVEL", level)]));
        assert!(faults.len() == 1 && faults[0].contains(told), "{level}: {faults:?}");
        assert!(faults[0].starts_with("log.level (environment STREAM_PROCESSOR__LOG__LEVEL)"), "{faults:?}");
    }
    for level in ["info", "WARN", "off", "info,stream_processor::leader=debug", "warn,mongodb=trace", "[span]=debug"] {
        assert!(load(&with_variables(&[("RUST_LOG", level)])).is_ok(), "{level}");
    }
}

#[test]
fn a_variable_with_one_underscore_is_a_fault_and_one_that_kubernetes_sets_is_none() {
    for name in ["STREAM_PROCESSOR_STREAM__BATCH_MAX", "STREAM_PROCESSOR_STREAM_BATCH_MAX"] {
        let faults = faults_of(&with_variables(&[(name, "100")]));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with(&format!("stream.batch_max (environment {name}): is ignored")), "{faults:?}");
        assert!(faults[0].ends_with("did you mean `STREAM_PROCESSOR__STREAM__BATCH_MAX`?"), "{faults:?}");
    }
    let of_service = [
        ("STREAM_PROCESSOR_SERVICE_HOST", "10.0.0.1"),
        ("STREAM_PROCESSOR_SERVICE_PORT", "9464"),
        ("STREAM_PROCESSOR_PORT", "tcp://10.0.0.1:9464"),
        ("STREAM_PROCESSOR_PORT_9464_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(load(&with_variables(&of_service)).is_ok());
}
