//! Cargo, called from a program that cargo itself runs.

use std::process::Command;

/// The folder of the workspace.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What cargo tells the program that it runs. Build scripts (ring's) look at it: passed on, everything above them
/// would be built anew, at each change between a developer's cargo and this one.
const ABOUT_THIS_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The cargo that runs this program, in this workspace.
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
