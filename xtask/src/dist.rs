//! `cargo xtask dist`: builds the program as it is shipped and packs it, see the library's `shipping`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use xtask::shipping::{Compression, NAME, Release, bill_of_materials};

use crate::{Failure, Outcome};
use xtask::cargo::{WORKSPACE, cargo};

/// The profile of `Cargo.toml`.
const PROFILE: &str = "dist";
/// The most bytes that a shipped program may have, so that growth is noticed. docs/installing.md says what it has now.
const LIMIT: u64 = 30_000_000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Build for this target; by default for this machine. The program is run, so this machine must be able to run it.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Pack this program instead of building one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where the files go.
    #[arg(long, value_name = "FOLDER", default_value = "dist")]
    output: PathBuf,
    /// The maintainer whom the Debian package names.
    #[arg(long, value_name = "TEXT", default_value = "The maintainers of stream-processor <root@localhost>")]
    maintainer: String,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let repository = fs::canonicalize(WORKSPACE)?;
    let target = match &arguments.target {
        Some(target) => target.clone(),
        None => this_machine()?,
    };
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build(arguments.target.as_deref())?,
    };
    let size = fs::metadata(&program)?.len();
    println!("{}: {size} bytes", program.display());
    if arguments.program.is_none() && size > LIMIT {
        return Err(format!("the program has {size} bytes, more than {LIMIT}").into());
    }
    let release = Release {
        repository: &repository,
        program: &program,
        version: env!("CARGO_PKG_VERSION"),
        target: &target,
        maintainer: &arguments.maintainer,
        time: time_of_the_sources(&repository),
        compression: Compression::Best,
    };
    let bill = bill_of_materials(&repository, &target, cargo)?;
    let packed = release.pack(&arguments.output, &bill)?;
    for file in [packed.archive, packed.debian_package, packed.bill_of_materials, packed.checksums] {
        println!("{}: {} bytes", file.display(), fs::metadata(&file)?.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the program and returns its path.
fn build(target: Option<&str>) -> Result<PathBuf, Failure> {
    // The package alone, so that it has no feature that only the tests or the tools ask for.
    let mut build = cargo(&["build", "--locked", "--package", NAME, "--bin", NAME, "--profile", PROFILE]);
    build.arg("--message-format=json-render-diagnostics").args(target.map(|target| format!("--target={target}")));
    let output = build.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the program does not build".into());
    }
    xtask::cargo::executable(&output.stdout).ok_or_else(|| "cargo built no program".into())
}

/// The target for which the compiler builds by default.
fn this_machine() -> Result<String, Failure> {
    let output = Command::new("rustc").args(["--version", "--verbose"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say for which target it builds".into())
}

/// The time of the packed files: `SOURCE_DATE_EPOCH`, else that of the commit, else 1970.
fn time_of_the_sources(repository: &Path) -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let of_commit = || {
        let output = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(repository).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    given.or_else(of_commit).and_then(|time| time.trim().parse().ok()).unwrap_or(0)
}
