//! `cargo xtask` begins here: one run of cargo builds the commands, and the service too for a command that starts it, and
//! shows its progress. Two runs, one after the other, would leave a processor idle at the end of each. This crate has no
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

/// The commands that start the service as tests have it.
const WITH_SERVICE: [&str; 2] = ["demo", "test"];
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
    let is_one_of = |names: &[&str]| arguments.first().is_some_and(|command| names.iter().any(|name| command == name));
    let program = if is_one_of(&OF_BENCH) { "xtask-bench" } else { "xtask" };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).args(["build", "--workspace", "--bin", program]);
    if is_one_of(&WITH_SERVICE) {
        cargo.args(["--bin", "stream-processor"]);
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
