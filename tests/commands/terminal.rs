//! What a person sees in a terminal, narrow, usual and wide: bars and pictures that fit, and a clean line after Ctrl-C.

use bson::{DateTime, doc};
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::terminal::{ROWS, Terminal};
use crate::support::waiting::{PATIENCE, eventually};

const COLUMNS: [u16; 3] = [60, 80, 200];
/// A paused leader keeps the lease.
const LEASE: [(&str, &str); 1] = [("STREAM_PROCESSOR__LEASE__DURATION", "120s")];
const CTRL_C: &str = "\u{3}";

#[tokio::test(flavor = "multi_thread")]
async fn bars_and_pictures_fit_the_terminal_and_ctrl_c_leaves_a_clean_line() {
    let test = TestDatabase::create("terminal").await;
    let broken = with(job("Vendeur"), doc! { "job_status": "?" });
    test.collection("recruiters").insert_many([recruiter([job("Boulanger"), broken]), recruiter([])]).await.unwrap();
    let mut processor = started_with(&test, &LEASE).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let events = test.collection("stream_processor_events");
    // Later than the events of the service itself.
    let at = DateTime::from_millis(DateTime::now().timestamp_millis() + 60_000);
    let event = |number: i32| doc! { "at": at, "kind": "job_failed", "job": format!("job-{number}") };
    events.insert_many((0..30).map(event)).await.unwrap();

    let piped = Processor::command(&["backfill"], &test, &[]).await;
    assert!(
        piped.stderr.starts_with("the leader ") && piped.stderr.lines().count() == 1,
        "for people: {}",
        piped.stderr
    );

    // The leader does not take the command up, so that the bar stays until Ctrl-C.
    processor.signal(Signal::Stop);
    assert_bars_fit(&test).await;
    processor.signal(Signal::Continue);
    assert_pictures_fit(&test).await;
    let log = stopped(processor).await.stderr;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let positions: Vec<_> = lines.filter_map(|line| line.get("position").cloned()).collect();
    assert_eq!(positions.len(), 2, "the stream begins, and the leadership ends: {log}");
    for position in positions {
        let is_time = position.as_str().is_some_and(|text| DateTime::parse_rfc3339_str(text).is_ok());
        assert!(is_time, "a time in the log is for people: {position}");
    }
}

async fn assert_bars_fit(test: &TestDatabase) {
    for columns in COLUMNS {
        let mut terminal = Terminal::spawn(&["backfill"], test, columns, &LEASE);
        terminal.until_shown("0/2 recruiters").await;
        assert_ends_clean(&mut terminal, 4).await;
        let screen = terminal.screen().contents();
        assert!(screen.ends_with("interrupted: the command is withdrawn; nothing was done"), "{screen}");
        assert!(!screen.contains("recruiters,"), "the bar is gone: {:?}", terminal.written());
        assert!(terminal.widest() <= columns, "{columns} columns: {}", terminal.written());
        for service in ["INFO", "WARN", "finishing the batch"] {
            assert!(!terminal.written().contains(service), "{}", terminal.written());
        }
    }
}

async fn assert_pictures_fit(test: &TestDatabase) {
    let no_color = [("NO_COLOR", "1")];
    for (columns, environment) in COLUMNS.into_iter().zip([&[][..], &[], &no_color]) {
        let mut terminal = Terminal::spawn(&["status", "--watch"], test, columns, environment);
        // The second picture stands in the place of the first.
        terminal.until_shown("verdict").await;
        let home = "\u{1b}[H";
        eventually(PATIENCE, "two pictures", async || (terminal.written().matches(home).count() >= 2).then_some(()))
            .await;
        let mut screen = terminal.screen();
        let shown = screen.contents();
        assert_eq!(shown.matches("verdict").count(), 1, "{shown}");
        assert!(shown.starts_with("at "), "nothing scrolled away: {shown}");
        assert!(screen.alternate_screen() && screen.hide_cursor(), "the terminal's own lines stay");
        screen.set_scrollback(usize::from(ROWS));
        assert_eq!(screen.scrollback(), 0, "nothing scrolled");
        assert!(terminal.widest() <= columns, "{columns} columns: {shown}");
        assert_eq!(terminal.written().contains("\u{1b}[33m"), environment.is_empty(), "warnings are yellow");
        assert_ends_clean(&mut terminal, 0).await;
        assert!(!terminal.screen().alternate_screen());
        let written = terminal.written();
        let (_, last) = written.rsplit_once("\u{1b}[?1049l").unwrap();
        let events = [29, 20, 19].map(|number| last.contains(&format!("job=\"job-{number}\"")));
        assert_eq!(events, [true, true, false], "the last ten events: {last}");
    }
}

/// Ctrl-C ends it with this code, and the cursor is there for the next command, at the beginning of a line.
async fn assert_ends_clean(terminal: &mut Terminal, code: i32) {
    terminal.types(CTRL_C);
    assert_eq!(terminal.until_ended().await, code, "{}", terminal.written());
    let screen = terminal.screen();
    assert_eq!(screen.cursor_position().1, 0, "{}", terminal.written());
    assert!(!screen.hide_cursor(), "the cursor is shown");
}

/// What the bar shows is also what `status` knows: the work that runs, with percent.
#[tokio::test(flavor = "multi_thread")]
async fn status_tells_percent_and_time_left_of_what_runs() {
    let test = TestDatabase::create("terminal_running").await;
    test.collection("recruiters").insert_many((0..4).map(|_| recruiter([]))).await.unwrap();
    let minute_ago = DateTime::from_millis(DateTime::now().timestamp_millis() - 60_000);
    let command = doc! {
        "order": { "name": "backfill", "recruiter": null, "active_only": false }, "state": "running", "who": "x",
        "requested_at": minute_ago, "progress": { "recruiters": 1_i64 }, "term": 1_i64,
    };
    test.collection("stream_processor_commands").insert_one(command).await.unwrap();
    let run = doc! { "job": "verify", "started": minute_ago, "scheduled_for": minute_ago, "outcome": null };
    test.collection("stream_processor_job_runs").insert_one(run).await.unwrap();
    let ended = Processor::command(&["status", "--json"], &test, &[]).await;
    let status: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let running = status["running"].as_array().unwrap();
    assert_eq!((&running[0]["what"], &running[0]["percent"]), (&"backfill".into(), &25.into()), "{status:#}");
    assert!(running[0]["seconds_left"].as_u64().is_some_and(|left| left >= 180), "{status:#}");
    assert_eq!((&running[1]["what"], &running[1]["percent"]), (&"job verify".into(), &serde_json::Value::Null));
}

/// The bar stands below whole lines of the log, and is gone at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_verification_shows_a_bar_that_warnings_do_not_garble() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "terminal_verify").await;
    test.collection("recruiters").insert_many([recruiter([job("Boulanger")]), recruiter([])]).await.unwrap();
    let mut processor = started_with(&test, &LEASE).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let spoiled = doc! { "$set": { "offer_title": "spoiled" } };
    test.collection("jobs_partners").update_one(doc! {}, spoiled).await.unwrap();

    // A recheck waits for the leader, so that the bar stays.
    processor.signal(Signal::Stop);
    let mut terminal = Terminal::spawn(&["verify"], &test, 200, &[]);
    terminal.until_shown("2/3 documents").await;
    failpoints::refuse(&test.database, "find", "jobs_partners", failpoints::passing()).await;
    processor.signal(Signal::Continue);
    let warning = "an attempt failed; retrying";
    eventually(PATIENCE, "two warnings", async || {
        (terminal.screen().contents().matches(warning).count() >= 2).then_some(())
    })
    .await;
    let shown = eventually(PATIENCE, "the bar is below", async || {
        let shown = terminal.screen().contents();
        shown.trim_end().lines().last().is_some_and(|last| last.contains(" documents, ")).then_some(shown)
    })
    .await;
    assert_eq!(shown.matches(" documents, ").count(), 1, "one bar: {shown}");
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains(warning)).collect();
    assert!(lines.iter().all(|line| line.trim_start().starts_with("WARN")), "whole lines: {shown}");
    failpoints::mend(&test.database).await;
    assert_eq!(terminal.until_ended().await, 1, "{}", terminal.written());
    let shown = terminal.screen().contents();
    assert!(!shown.contains(" documents, ") && shown.contains("1 difference: 1 offer differs"), "{shown}");
    stopped(processor).await;
    let piped = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!((piped.code, piped.stderr.as_str()), (1, ""), "no bar outside a terminal");
}
