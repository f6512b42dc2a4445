//! What is shipped: the archive, the Debian package, and the files with which others run the service.

mod chart;
mod debian_package;
mod pages;
mod release;
mod unit;
mod workflow;
mod yaml;

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::shipping::{Compression, Packed, Release};

use crate::support::dpkg::ended;

/// The root of the repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The target for which the tests are built.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// The program under test without its symbols, which make most of its size.
fn stripped(folder: &Path) -> PathBuf {
    let program = folder.join("program");
    let mut strip = Command::new("strip");
    let ended = ended(strip.arg("--strip-all").arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_stream-processor")));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    program
}

/// Packs the program under test from the files of `repository`.
fn packed(repository: &Path, program: &Path, version: &str, bill: &serde_json::Value, output: &Path) -> Packed {
    let (target, maintainer) = (target(), "Somebody <somebody@example.com>");
    let compression = Compression::Fast;
    let release = Release { repository, program, version, target: &target, maintainer, time: 1, compression };
    release.pack(output, bill).unwrap()
}
