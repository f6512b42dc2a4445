//! The program in a pseudo-terminal of a chosen size, as a person has it. `terminal.py` holds the terminal, and `vt100`
//! tells what stands on its screen.

use std::fs;
use std::io::Write as _;
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};

use xtask::guarded::TemporaryFolder;

use super::database::TestDatabase;
use super::waiting::{PATIENCE, eventually};

/// The height of the terminals of the tests.
pub(crate) const ROWS: u16 = 24;
/// More columns than anything that is printed.
const ENDLESS: u16 = 2_000;

pub(crate) struct Terminal {
    child: Child,
    columns: u16,
    folder: TemporaryFolder,
}

impl Terminal {
    /// Starts a command on the database in a terminal with so many columns.
    pub(crate) fn spawn(arguments: &[&str], test: &TestDatabase, columns: u16, environment: &[(&str, &str)]) -> Self {
        let folder = TemporaryFolder::create("stream-processor-terminal-").unwrap();
        let output = fs::File::create(folder.path().join("output")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/terminal.py");
        let mut command = Command::new("python3");
        command
            .args([script, &ROWS.to_string(), &columns.to_string(), env!("CARGO_BIN_EXE_stream-processor")])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TERM", "xterm-256color")
            .env("MONGODB_URI", &test.uri)
            .env("MONGODB_DATABASE", test.name())
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(output);
        Self { child: command.spawn().unwrap(), columns, folder }
    }

    /// Types into the terminal, such as `\u{3}` for Ctrl-C.
    pub(crate) fn types(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Everything that was written so far, escape sequences included.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("output")).unwrap()).into_owned()
    }

    /// The terminal after all that was written.
    pub(crate) fn screen(&self) -> vt100::Screen {
        let mut parser = parser(self.columns, 100);
        parser.process(self.written().as_bytes());
        parser.screen().clone()
    }

    /// The number of columns that were needed so that no line was broken.
    pub(crate) fn widest(&self) -> u16 {
        let mut parser = parser(ENDLESS, 0);
        let mut widest = 0;
        for character in self.written().chars() {
            parser.process(character.to_string().as_bytes());
            widest = widest.max(parser.screen().cursor_position().1);
        }
        widest
    }

    /// Waits until the screen shows this text.
    pub(crate) async fn until_shown(&self, text: &str) {
        eventually(PATIENCE, text, async || self.screen().contents().contains(text).then_some(())).await;
    }

    /// Waits for the end of the command, and gives back its exit code.
    pub(crate) async fn until_ended(&mut self) -> i32 {
        let ended = eventually(PATIENCE, "the command ends", async || self.child.try_wait().unwrap()).await;
        ended.code().unwrap()
    }
}

fn parser(columns: u16, scrollback: usize) -> vt100::Parser {
    vt100::Parser::new(NonZeroU16::new(ROWS).unwrap(), NonZeroU16::new(columns).unwrap(), scrollback)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of its input ends the script and with it the program.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
