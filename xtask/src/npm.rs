//! Packages of npm for the tests. npm installs each package once, into a folder that the caller names. Several processes
//! may ask at the same time, so the finished folder is renamed into its place in one step.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of an installed package. `version` is exact, such as `4.14.1`. npm checks what it fetches, and no script of a
/// package is run.
///
/// # Errors
/// When there is no npm, or the package cannot be fetched. The text has the remedy.
pub fn installed(package: &str, version: &str, below: &Path) -> io::Result<PathBuf> {
    let folder = below.join(format!("npm-{package}-{version}"));
    let found = folder.join("node_modules").join(package);
    if folder.is_dir() {
        return Ok(found);
    }
    fs::create_dir_all(below)?;
    let lock = File::create(below.join("npm-lock"))?;
    // The lock only saves a second download. The rename at the end is enough for correctness.
    let _ = lock.lock();
    if folder.is_dir() {
        return Ok(found);
    }
    let workplace = tempfile::Builder::new().prefix("npm-").tempdir_in(below)?;
    let unfinished = workplace.path().join("packages");
    fs::create_dir_all(&unfinished)?;
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel",
        "error",
        "--prefix",
    ]);
    let output = npm.arg(&unfinished).arg(format!("{package}@{version}")).output();
    let output = output.map_err(|error| io::Error::other(format!("npm cannot be started ({error}): install it")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last_line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
        let message = format!("npm could not fetch {package}: {last_line}; check the network or npm's registry");
        return Err(io::Error::other(message));
    }
    fs::rename(&unfinished, &folder)?;
    Ok(found)
}
