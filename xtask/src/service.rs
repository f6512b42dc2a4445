//! The service as a child process: it is built, started, watched and stopped here.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::cargo::{cargo, executable};
use crate::guarded::{GuardedProcess, Signal, last_lines};
use crate::ports::free_port;

/// The port that the documentation names. When it is taken, the service gets another port.
const USUAL_PORT: u16 = 9464;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Builds the service with cargo and returns the path of its program.
///
/// # Errors
/// Cargo cannot be started, or the build fails.
pub fn build(release: bool) -> Result<PathBuf, Failure> {
    // The whole workspace is built, so that dependencies have the same features as for the tests and are shared.
    let mut cargo = cargo(&["build", "--workspace", "--bin", "stream-processor"]);
    cargo.arg("--message-format=json-render-diagnostics");
    if release {
        cargo.arg("--release");
    }
    let output = cargo.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the service does not build".into());
    }
    executable(&output.stdout).ok_or_else(|| "cargo built no program".into())
}

/// A command of the service in `folder`, for `database` of the MongoDB at `uri`. The caller adds the arguments.
#[must_use]
pub fn command(program: &Path, uri: &str, database: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    // The user's own settings are removed, so that the service cannot write to another database.
    for (name, _) in std::env::vars_os() {
        if ["STREAM_PROCESSOR_", "MONGODB_", "SMTP_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(folder)
        .env("MONGODB_URI", uri)
        .env("MONGODB_DATABASE", database)
        .env("STREAM_PROCESSOR__TARGET__PUBLIC_URL", "http://localhost:3000");
    command
}

/// The running service. It ends with this value.
pub struct Service {
    process: GuardedProcess,
    log: PathBuf,
    address: String,
    http: reqwest::Client,
}

impl Service {
    /// Starts the command `run` for `database` of the MongoDB at `uri`. `settings` are added to its environment.
    /// `folder` is its working folder and has its log.
    ///
    /// # Errors
    /// The program cannot be started, or no port is free.
    pub fn start(
        program: &Path,
        uri: &str,
        database: &str,
        folder: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let usual = TcpListener::bind(("127.0.0.1", USUAL_PORT)).is_ok();
        let address = format!("127.0.0.1:{}", if usual { USUAL_PORT } else { free_port()? });
        let log = folder.join("stream-processor.log");
        let mut command = command(program, uri, database, folder);
        command.arg("run").env("STREAM_PROCESSOR__HTTP__LISTEN", &address).envs(settings.iter().copied());
        let process = GuardedProcess::start(&command, &log, &log)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
        Ok(Self { process, log, address, http })
    }

    /// The address of its HTTP server, with `http://`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// The service ends, or is not ready within a minute.
    pub async fn until_ready(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let url = format!("{}/readyz", self.base_url());
        loop {
            self.must_be_running()?;
            let answer = self.http.get(&url).send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let last = match answer {
                    Ok(answer) => answer.text().await?,
                    Err(failure) => failure.to_string(),
                };
                let seconds = PATIENCE.as_secs();
                return Err(format!("the service is not ready after {seconds} s: {last}\n{}", self.last_lines()).into());
            }
            sleep(POLL).await;
        }
    }

    /// Checks that the service has not ended.
    ///
    /// # Errors
    /// The service has ended. The error has the end of the log.
    pub fn must_be_running(&mut self) -> Result<(), Failure> {
        if self.process.is_running() {
            return Ok(());
        }
        let code = self.process.wait(Duration::ZERO).unwrap_or(-1);
        Err(format!("the service ended by itself with exit code {code}; the end of its log:\n{}", self.last_lines())
            .into())
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// The service does not answer, or with an error.
    pub async fn metrics(&self) -> Result<String, Failure> {
        let answer = self.http.get(format!("{}/metrics", self.base_url())).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends SIGTERM, and SIGKILL when the service does not end. Returns a text about the end, and true for exit code
    /// 0.
    pub async fn stop(&mut self) -> (String, bool) {
        self.process.signal(Signal::Terminate);
        let started = Instant::now();
        while self.process.is_running() {
            if started.elapsed() > PATIENCE {
                self.process.kill();
                return (format!("killed after {} s", PATIENCE.as_secs()), false);
            }
            sleep(POLL).await;
        }
        let code = self.process.wait(Duration::ZERO).unwrap_or(-1);
        (format!("exit code {code}"), code == 0)
    }

    /// The end of its log.
    #[must_use]
    pub fn last_lines(&self) -> String {
        last_lines(&self.log, 20)
    }
}
