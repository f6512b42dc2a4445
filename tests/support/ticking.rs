//! What tests of the ticker share: a clock that they set, commands about jobs, what the ledger says.

use std::fs;
use std::path::PathBuf;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use serde_json::Value;
use stream_processor::inside::{Schedule, zone};
use xtask::guarded::TemporaryFolder;

use super::database::TestDatabase;
use super::processor::Processor;
use super::waiting::{PATIENCE, eventually};

/// Turns the ticker on, which tests that are about something else leave off.
pub(crate) const ON: (&str, &str) = ("STREAM_PROCESSOR__TICKER__ENABLED", "true");

/// The clock of the ticker of all processes that are given its [`Time::variable`].
pub(crate) struct Time {
    file: PathBuf,
    path: String,
    _folder: TemporaryFolder,
}

impl Time {
    /// A clock that stands at this time.
    pub(crate) fn at(text: &str) -> Self {
        let folder = TemporaryFolder::create("stream-processor-clock-").unwrap();
        let file = folder.path().join("now");
        let time = Self { path: file.to_str().unwrap().to_owned(), file, _folder: folder };
        time.set(date(text));
        time
    }

    /// Puts it forward, or back.
    pub(crate) fn set(&self, time: DateTime) {
        let next = self.file.with_extension("next");
        fs::write(&next, time.try_to_rfc3339_string().unwrap()).unwrap();
        fs::rename(next, &self.file).unwrap();
    }

    pub(crate) fn variable(&self) -> (&str, &str) {
        ("STREAM_PROCESSOR_CLOCK", &self.path)
    }
}

/// A time as RFC 3339.
pub(crate) fn date(text: &str) -> DateTime {
    DateTime::parse_rfc3339_str(text).unwrap()
}

/// So many milliseconds later.
pub(crate) fn later(time: DateTime, milliseconds: i64) -> DateTime {
    DateTime::from_millis(time.timestamp_millis() + milliseconds)
}

/// A field that is a text.
pub(crate) fn text<'a>(document: &'a Document, field: &str) -> Option<&'a str> {
    document.get_str(field).ok()
}

/// A field that is a time.
pub(crate) fn time(document: &Document, field: &str) -> Option<DateTime> {
    document.get_datetime(field).ok().copied()
}

/// Runs a command about jobs to its end. Gives back its code, and the rows of the JSON document that it printed: the lines
/// of a run, with the document itself behind them, or the runs of the history.
pub(crate) async fn told(arguments: &[&str], test: &TestDatabase, settings: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let ended = Processor::command(arguments, test, settings).await;
    let document: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}\n{}", ended.stdout, ended.stderr));
    let rows = |field: &str| document[field].as_array().cloned();
    let rows = rows("runs").unwrap_or_else(|| {
        let lines = rows("lines").unwrap_or_default();
        lines.into_iter().chain([document.clone()]).collect()
    });
    (ended.code, rows)
}

/// Runs a job to its good end, as a command; gives back its counts.
pub(crate) async fn ran(job: &str, arguments: &[&str], test: &TestDatabase) -> Value {
    let arguments = [&["jobs", "run", job, "--json"], arguments].concat();
    let (code, mut lines) = told(&arguments, test, &[]).await;
    assert_eq!(code, 0, "{job}: {lines:?}");
    lines.pop().unwrap()
}

/// The counts that every run has: found, changed, failed.
pub(crate) fn counts(run: &Value) -> [u64; 3] {
    ["matched", "changed", "failed"].map(|field| run[field].as_u64().unwrap())
}

/// Everything in the ledger about a job, by the time for which it was scheduled.
pub(crate) async fn ledger(test: &TestDatabase, job: &str) -> Vec<Document> {
    let runs = test.collection("stream_processor_job_runs");
    runs.find(doc! { "job": job }).sort(doc! { "scheduled_for": 1 }).await.unwrap().try_collect().await.unwrap()
}

/// Waits until the last occurrence of each of these jobs (a name with its expressions) at or before `now` has an outcome,
/// and no other one is open.
pub(crate) async fn until_run(test: &TestDatabase, jobs: &[(&str, &[&str])], now: DateTime) {
    let runs = test.collection("stream_processor_job_runs");
    let last = |(job, crons): &(&str, &[&str])| {
        let schedule = Schedule::parse(crons, zone("Europe/Paris").unwrap()).unwrap();
        let last = schedule.due(later(now, -48 * 3_600_000), now).unwrap().last;
        format!("{job}/{}", last.try_to_rfc3339_string().unwrap())
    };
    let last: Vec<String> = jobs.iter().map(last).collect();
    let ended = doc! { "_id": { "$in": &last }, "state": "ended" };
    let open = doc! { "state": { "$in": ["due", "claimed"] } };
    eventually(PATIENCE, "all that was due has run", async || {
        let all = runs.count_documents(ended.clone()).await.unwrap() == last.len() as u64;
        (all && runs.count_documents(open.clone()).await.unwrap() == 0).then_some(())
    })
    .await;
}
