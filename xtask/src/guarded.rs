//! Child processes that are killed when this process ends, in whatever way. A small shell starts the program and reads
//! from a pipe. Only this process has the other end, and the kernel closes it at the end of the process.
//! The pipe also carries signals, so no signal can reach another process that got the same process id.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The shell script that watches over a program. Its arguments are the file for the output, the file for the errors,
/// the program and the program's arguments. The script prints the program's process id. A line of its input is the name
/// of a signal for the program. The end of its input means SIGKILL. The script ends with the program, and with the same
/// exit code (128 + n after signal n).
const WATCHDOG: &str = r#"
exec 3<&0 </dev/null
output=$1 errors=$2
shift 2
"$@" >>"$output" 2>>"$errors" 3<&- &
program=$!
( while read -r signal; do kill -s "$signal" "$program"; done <&3; kill -s KILL "$program" ) >/dev/null 2>&1 &
watch=$!
exec 3<&-
echo "$program"
exec >/dev/null
wait "$program"
status=$?
kill -s KILL "$watch" 2>/dev/null
exit "$status"
"#;

/// The shell script that removes a folder at the end of its input. It tries several times, because a process that is
/// killed at the same time may still write.
const SWEEPER: &str = r#"
read -r _
tries=0
until rm -rf -- "$1" 2>/dev/null || [ "$tries" -ge 50 ]; do tries=$((tries + 1)); sleep 0.1; done
"#;

const POLL: Duration = Duration::from_millis(5);

/// A signal to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM asks the process to end.
    Terminate,
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGHUP asks the process to read its configuration again.
    Hangup,
    /// SIGKILL ends the process at once, without flushing.
    Kill,
    /// SIGSTOP pauses the process, like a frozen machine.
    Stop,
    /// SIGCONT ends a pause.
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Hangup => "HUP",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A running program. Dropping the value kills the program with SIGKILL, and the end of this process does the same.
#[derive(Debug)]
pub struct GuardedProcess {
    shell: Child,
    pid: u32,
}

impl GuardedProcess {
    /// Starts the program of `command` with its arguments, environment and folder. Other settings are ignored. The
    /// output of the program is appended to the files `output` and `errors`, which may be the same. Its input is empty.
    ///
    /// The program is in a process group of its own. So Ctrl-C in the terminal reaches only this process, which then
    /// stops the programs that it started.
    ///
    /// # Errors
    /// When `sh` cannot be started. A program that cannot be started ends with exit code 126 or 127, as in a shell.
    pub fn start(command: &Command, output: &Path, errors: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCHDOG, "sh"]).arg(output).arg(errors);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().map_err(|_| io::Error::other("sh did not start the program"))?;
        Ok(Self { shell, pid })
    }

    /// The process id of the program, not that of the shell.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. Does nothing once the program has ended.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(pipe) = &mut self.shell.stdin {
            // A closed pipe means that the program has ended.
            let _ = writeln!(pipe, "{}", signal.name());
        }
    }

    /// False once the program has ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.shell.try_wait(), Ok(None))
    }

    /// Waits for the end of the program and returns its exit code. `None` when it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = self.shell.try_wait() {
                return Some(code(status));
            }
            if started.elapsed() > patience {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Kills the program with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        drop(self.shell.stdin.take());
        // This cannot fail: the shell is a child of this process, and only this method waits for its end.
        let _ = self.shell.wait();
    }
}

impl Drop for GuardedProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn code(status: ExitStatus) -> i32 {
    // There is no code when a signal ended the shell. Nothing here sends a signal to the shell.
    status.code().unwrap_or(-1)
}

/// A temporary folder. It is removed when this value is dropped, or when this process ends.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
    sweeper: Child,
}

impl TemporaryFolder {
    /// Creates a folder whose name begins with `prefix`.
    ///
    /// # Errors
    /// When the system's folder for temporary files cannot be written to.
    pub fn create(prefix: &str) -> io::Result<Self> {
        let path = tempfile::Builder::new().prefix(prefix).tempdir()?.keep();
        let mut sweeper = Command::new("sh");
        sweeper.args(["-c", SWEEPER, "sh"]).arg(&path).process_group(0);
        sweeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { sweeper: sweeper.spawn()?, path })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// The last `count` lines of a file; empty when it cannot be read.
#[must_use]
pub fn last_lines(file: &Path, count: usize) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> (TemporaryFolder, GuardedProcess) {
        let folder = TemporaryFolder::create("xtask-guarded-").unwrap();
        let output = folder.path().join("output");
        let process = GuardedProcess::start(Command::new("sh").args(["-c", script]), &output, &output).unwrap();
        (folder, process)
    }

    fn alive(pid: u32) -> bool {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn the_exit_code_and_the_output_are_the_programs() {
        let (folder, mut process) = start("echo hello; exit 7");
        assert_eq!(process.wait(PATIENCE), Some(7));
        assert!(!process.is_running());
        assert_eq!(last_lines(&folder.path().join("output"), 5), "hello");
    }

    #[test]
    fn a_signal_reaches_the_program() {
        let (folder, mut process) =
            start("trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
        let output = folder.path().join("output");
        while last_lines(&output, 1) != "ready" {
            std::thread::sleep(POLL);
        }
        process.signal(Signal::Terminate);
        assert_eq!(process.wait(PATIENCE), Some(3));
        assert_eq!(last_lines(&output, 1), "stopping");
        process.signal(Signal::Terminate);
    }

    #[test]
    fn killing_and_dropping_leave_nothing_behind() {
        let (_folder, mut process) = start("exec sleep 1000");
        assert!(alive(process.pid()));
        process.signal(Signal::Kill);
        assert_eq!(process.wait(PATIENCE), Some(137));

        let (folder, process) = start("exec sleep 1000");
        let (pid, path) = (process.pid(), folder.path().to_owned());
        drop(process);
        drop(folder);
        assert!(!alive(pid));
        assert!(!path.exists());
    }
}
