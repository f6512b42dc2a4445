//! Packages of PyPI for the tests. pip installs each package once, into a folder that the caller names. Several
//! processes may ask at the same time, so the finished folder is renamed into its place in one step.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder for `PYTHONPATH` with this package and its dependencies. `requirement` has an exact version, such as
/// `aiosmtpd==1.4.6`.
///
/// # Errors
/// When there is no Python with pip, or the package cannot be fetched. The text has the remedy.
pub fn installed(requirement: &str, below: &Path) -> io::Result<PathBuf> {
    with_options(requirement, &[], below)
}

/// As [`installed`], without the dependencies of the package.
///
/// # Errors
/// As [`installed`].
pub fn installed_alone(requirement: &str, below: &Path) -> io::Result<PathBuf> {
    with_options(requirement, &["--no-deps"], below)
}

fn with_options(requirement: &str, options: &[&str], below: &Path) -> io::Result<PathBuf> {
    let folder = below.join(format!("python-{requirement}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(below)?;
    let lock = File::create(below.join("python-lock"))?;
    // The lock only saves a second download. The rename at the end is enough for correctness.
    let _ = lock.lock();
    if folder.is_dir() {
        return Ok(folder);
    }
    let workplace = tempfile::Builder::new().prefix("python-").tempdir_in(below)?;
    let unfinished = workplace.path().join("packages");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"];
    let output = Command::new("python3").args(pip).arg(&unfinished).args(options).arg(requirement).output();
    let output =
        output.map_err(|error| io::Error::other(format!("python3 cannot be started ({error}): install it")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last_line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
        let advice = "install pip (Debian: python3-pip), check the network or pip's index";
        return Err(io::Error::other(format!("pip could not fetch {requirement}: {last_line}; {advice}")));
    }
    fs::rename(&unfinished, &folder)?;
    Ok(folder)
}
