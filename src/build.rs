//! The build script. It passes the commit of the sources to the program. This file is not a module of the service.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "cargo speaks with a build script by its environment and its output"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// The environment variable with the commit, for builds without a repository, such as in a container. The program reads
/// the commit under the same name.
const VARIABLE: &str = "STREAM_PROCESSOR_COMMIT";
/// A file that `git archive` fills with the commit (see `.gitattributes`).
const ARCHIVED: &str = ".commit";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed={ARCHIVED}");
    let commit = given().or_else(archived).or_else(repository).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env={VARIABLE}={commit}");
}

fn given() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|commit| is_name(commit))
}

fn archived() -> Option<String> {
    let text = fs::read_to_string(ARCHIVED).ok()?;
    Some(text.trim().to_owned()).filter(|commit| is_name(commit))
}

/// The commit of the repository; `development` in all profiles but `release`, because a developer's build would
/// otherwise be rebuilt at each commit.
fn repository() -> Option<String> {
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return Some("development".to_owned());
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // This file changes with each commit, merge and checkout, so cargo runs the script again then.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| is_name(commit))
}

fn is_name(commit: &str) -> bool {
    !commit.is_empty() && commit.len() <= 40 && commit.chars().all(|character| character.is_ascii_alphanumeric())
}
