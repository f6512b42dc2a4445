//! `cargo xtask` begins here: one run of cargo builds the commands, and what a command needs beside itself, and shows its
//! progress. Two runs, one after the other, would leave a processor idle at the end of each. This crate has no
//! dependencies, so it is there at once on a fresh clone.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a developer's command line: it reads the environment, and prints"
)]

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// What is built with a command: the service as tests have it, and the tests. The runner of the tests finds them built.
const BESIDE: [(&str, &[&str]); 2] =
    [("demo", &["--bin", "stream-processor"]), ("test", &["--bin", "stream-processor", "--tests"])];
/// The commands of the program `xtask-bench`. All others are those of `xtask`.
const OF_BENCH: [&str; 2] = ["bench", "growth"];
/// Variables that cargo sets for the program that it runs. Some build scripts (ring's) look at them. If they were
/// passed on, each change between a developer's cargo and one of these commands would build all dependent crates anew.
const ABOUT_THIS_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

fn main() -> ExitCode {
    match launch() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: cargo xtask cannot start its commands: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and starts the commands. Returns only where that fails.
fn launch() -> io::Result<ExitCode> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let is_command = |name: &str| arguments.first().is_some_and(|command| command == name);
    let program = if OF_BENCH.into_iter().any(is_command) { "xtask-bench" } else { "xtask" };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).args(["build", "--workspace", "--bin", program]);
    for (_, built) in BESIDE.into_iter().filter(|(name, _)| is_command(name)) {
        cargo.args(built);
    }
    // Both programs are in the same folder.
    let mut commands = Command::new(env::current_exe()?.with_file_name(program));
    for (name, _) in env::vars_os() {
        if ABOUT_THIS_PACKAGE.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(&name);
            commands.env_remove(&name);
        }
    }
    if !cargo.status()?.success() {
        return Ok(ExitCode::FAILURE);
    }
    Err(commands.args(arguments).exec())
}
