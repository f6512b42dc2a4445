//! The real program as a process: `run` on a database, or any other command to its end.
//! Its settings are only those that the test gives: nothing of the user's environment reaches it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use xtask::guarded::{GuardedProcess, Signal, TemporaryFolder, last_lines};
use xtask::ports::free_port;

use super::database::TestDatabase;
use super::documents;
use super::waiting::{PATIENCE, eventually};

/// A started program. Dropping it kills it, and so does the end of the test process.
pub(crate) struct Processor {
    process: GuardedProcess,
    address: String,
    http: reqwest::Client,
    // Last: the process writes into it.
    folder: TemporaryFolder,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Processor {
    /// Starts `run` on the database with further environment variables, and does not wait.
    pub(crate) fn start(test: &TestDatabase, environment: &[(&str, &str)]) -> Self {
        Self::spawn(&["run"], test, environment)
    }

    /// Starts `run` and waits until `/readyz` answers 200.
    pub(crate) async fn start_ready(test: &TestDatabase, environment: &[(&str, &str)]) -> Self {
        let mut processor = Self::start(test, environment);
        processor.until_ready().await;
        processor
    }

    /// Runs a command on the database to its end. With `--json`, what it prints must be a document as described.
    pub(crate) async fn command(arguments: &[&str], test: &TestDatabase, environment: &[(&str, &str)]) -> Ended {
        let ended = Self::spawn(arguments, test, environment).until_ended().await;
        // Wrong arguments print nothing, and neither does a process that was killed.
        let is_cut_off = ended.code > 4 || (ended.code == 2 && ended.stdout.is_empty());
        if arguments.contains(&"--json") && !is_cut_off {
            documents::document(arguments, &ended);
        }
        ended
    }

    /// Starts any command on the database, in an empty folder, with further environment variables.
    pub(crate) fn spawn(arguments: &[&str], test: &TestDatabase, environment: &[(&str, &str)]) -> Self {
        let folder = TemporaryFolder::create("stream-processor-test-").unwrap();
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_stream-processor"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["MONGODB_", "SENTRY_", "SMTP_", "STREAM_PROCESSOR_", "RUST_LOG"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(folder.path())
            .env("MONGODB_URI", &test.uri)
            .env("MONGODB_DATABASE", test.name())
            .env("STREAM_PROCESSOR__HTTP__LISTEN", &address)
            // `caught_up` waits for a checkpoint later than the last write, and so for that of an idle stream.
            .env("STREAM_PROCESSOR__TOKENS__IDLE_INTERVAL", "1s")
            // A test that is about a job turns the ticker on.
            .env("STREAM_PROCESSOR__TICKER__ENABLED", "false")
            .envs(environment.iter().copied());
        let process = GuardedProcess::start(&command, &folder.path().join("stdout"), &folder.path().join("stderr"));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { process: process.unwrap(), address, http, folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn sigterm(&mut self) {
        self.process.signal(Signal::Terminate);
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn sigkill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Whether SIGSTOP stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for its end, however long that takes within reason.
    pub(crate) async fn until_ended(&mut self) -> Ended {
        let code = eventually(PATIENCE, "the program ends", async || self.process.wait(Duration::ZERO)).await;
        Ended { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits until `/readyz` answers 200; fails at once when the program ends before.
    pub(crate) async fn until_ready(&mut self) {
        eventually(PATIENCE, "the service is ready", async || {
            assert!(self.is_running(), "the service ended before it was ready:\n{}", self.last_lines());
            self.try_get("/readyz").await.filter(|(status, _)| *status == 200)
        })
        .await;
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Status and body of a page.
    pub(crate) async fn http_get(&self, path: &str) -> (u16, String) {
        self.try_get(path).await.unwrap_or_else(|| panic!("no answer for {path}:\n{}", self.last_lines()))
    }

    /// The same, `None` while nobody answers.
    pub(crate) async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.http.get(self.url(path)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// The value of one series of `/metrics`, as it is written there, such as `stream_processor_leader`
    /// or `stream_processor_offers_written_total{result="created"}`.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.http_get("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    }

    pub(crate) fn stdout(&self) -> String {
        self.read("stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// The end of all that it printed, for the message of a failed test.
    pub(crate) fn last_lines(&self) -> String {
        ["stdout", "stderr"].map(|name| last_lines(&self.path(name), 15)).join("\n")
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
