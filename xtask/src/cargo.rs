//! Calls of cargo from a program that cargo itself runs.

use std::path::PathBuf;
use std::process::Command;

/// The root of the repository.
pub(crate) const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Variables that cargo sets for the program that it runs. Some build scripts (ring's) look at them. If they were
/// passed on, each change between a developer's cargo and this one would build all dependent crates anew.
const ABOUT_THIS_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// A command of the same cargo that runs this program, in this workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(WORKSPACE);
    for (name, _) in std::env::vars_os() {
        if ABOUT_THIS_PACKAGE.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// The program that a build made, from its messages in JSON.
pub(crate) fn executable(messages: &[u8]) -> Option<PathBuf> {
    String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
}
