//! One `mongod` on a free port of 127.0.0.1, with its data in a folder. The methods block the thread. They may be
//! called inside an async runtime, because async work runs on a thread of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bson::Document;
use mongodb::Client;
use mongodb::options::ClientOptions;

use super::Failure;
use crate::guarded::{GuardedProcess, Signal, last_lines};
use crate::ports::free_port;

/// The time limit of a start or an election. A busy machine needs far less, so only a fault reaches it.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
pub(super) const POLL: Duration = Duration::from_millis(20);
/// By default, a server prepares three files of 100 MB for its journal. A dozen servers at once would need a disk of 4 GB.
const SMALL_JOURNAL: &str = "log=(file_max=16MB,prealloc=false)";
/// The number of ports that are tried. Another process may take a port before `mongod` opens it.
const PORT_ATTEMPTS: usize = 5;

/// One `mongod`. Dropping it kills it with SIGKILL.
#[derive(Debug)]
pub struct Member {
    program: PathBuf,
    preload: Option<String>,
    arguments: Vec<String>,
    folder: PathBuf,
    port: u16,
    starts: u32,
    process: Option<GuardedProcess>,
}

impl Member {
    /// Creates `folder` for the data, starts `program`, and waits until it accepts connections. `preload` is the value
    /// of `LD_PRELOAD`.
    pub(super) fn start(
        program: &Path,
        preload: Option<String>,
        folder: PathBuf,
        arguments: Vec<String>,
    ) -> Result<Self, Failure> {
        fs::create_dir(&folder).map_err(Failure::file(format!("cannot create {}", folder.display())))?;
        let mut member =
            Self { program: program.to_owned(), preload, arguments, folder, port: 0, starts: 0, process: None };
        let mut attempt = 1;
        loop {
            member.port = free_port().map_err(Failure::file("no free port on 127.0.0.1"))?;
            match member.launch() {
                Err(Failure::EndedAtStart { .. })
                    if attempt < PORT_ATTEMPTS && member.logged("Address already in use") =>
                {
                    attempt += 1;
                }
                Err(failure) => return Err(failure),
                Ok(()) => return Ok(member),
            }
        }
    }

    /// The address `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// False after [`Member::kill`], or when the process has ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(GuardedProcess::is_running)
    }

    /// The process id; `None` after [`Member::kill`].
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(GuardedProcess::pid)
    }

    /// Kills the process with SIGKILL. Its data stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the member again after [`Member::kill`], on the same port with the same data, and waits until it accepts
    /// connections.
    ///
    /// # Errors
    /// When `mongod` does not start, for instance because another process took the port.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.kill();
        self.launch()
    }

    /// Sends a signal to the process, for instance [`Signal::Stop`] to freeze it. Does nothing after [`Member::kill`].
    pub fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Runs a command of the `admin` database on this member, whatever its role in a set.
    pub(super) fn ask(&self, command: Document) -> Result<Document, Failure> {
        let uri = format!("mongodb://{}/?directConnection=true&serverSelectionTimeoutMS=5000", self.host());
        on_own_thread(async move {
            let client = Client::with_options(ClientOptions::parse(uri).await?)?;
            Ok(client.database("admin").run_command(command).await?)
        })
    }

    /// The end of the log, for an error message.
    pub(super) fn last_lines(&self) -> String {
        last_lines(&self.log(), 8)
    }

    fn launch(&mut self) -> Result<(), Failure> {
        self.starts += 1;
        let log = self.log();
        let mut command = Command::new(&self.program);
        command.envs(self.preload.iter().map(|preload| ("LD_PRELOAD", preload)));
        command.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"]);
        command.args(["--wiredTigerEngineConfigString", SMALL_JOURNAL]);
        for parameter in ["enableTestCommands=1", "diagnosticDataCollectionEnabled=false"] {
            command.args(["--setParameter", parameter]);
        }
        command.arg("--dbpath").arg(&self.folder).args(["--port", &self.port.to_string()]).args(&self.arguments);
        let process = GuardedProcess::start(&command, &log, &log)
            .map_err(Failure::file("cannot start sh, which watches over mongod"))?;
        self.process = Some(process);
        let started = Instant::now();
        // The log tells that the server is ready. A connection to the port could reach another server.
        while !self.logged("Waiting for connections") {
            if !self.is_running() {
                return Err(Failure::EndedAtStart { last_lines: self.last_lines() });
            }
            if started.elapsed() > PATIENCE {
                return Err(Failure::too_slow("the start of mongod", PATIENCE, self.last_lines()));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn logged(&self, words: &str) -> bool {
        fs::read_to_string(self.log()).is_ok_and(|text| text.contains(words))
    }

    /// The log of the last start. Each start has its own log, beside the data.
    fn log(&self) -> PathBuf {
        self.folder.with_extension(format!("{}.log", self.starts))
    }
}

/// Runs a future to its end on a thread with its own runtime, because a caller inside a runtime may not block on it.
fn on_own_thread<T: Send>(future: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
    let run = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::file("cannot start an async runtime"))?
            .block_on(future)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
