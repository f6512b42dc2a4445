//! A release as files: the program with its completions, manual pages and documents, as a folder, an archive and a
//! Debian package, with the bill of materials of the program and the checksums of all.

mod archive;
mod bill_of_materials;
mod debian_package;
mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub use bill_of_materials::bill_of_materials;

/// The name of the program, the packages and the unit.
pub const NAME: &str = "stream-processor";

/// The reason why a release cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{what}: {source}")]
    File { what: String, source: io::Error },
    #[error("{program} cannot be started ({source}); install it")]
    Absent { program: String, source: io::Error },
    #[error("{program} failed: {detail}")]
    Failed { program: String, detail: String },
    #[error("no Debian package can be made for {0}")]
    Architecture(String),
    #[error("the program needs {0}, and no package that has it is known here")]
    Library(String),
    #[error("{program} printed what cannot be read: {detail}")]
    Unreadable { program: &'static str, detail: String },
}

/// How much effort goes into making the packages small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Best,
    /// For tests, whose program has no optimisations and is large.
    Fast,
}

/// What a release is made from.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// The root of the repository.
    pub repository: &'a Path,
    /// The stripped program. It is run to print its completions and manual pages.
    pub program: &'a Path,
    /// The version, as in `Cargo.toml`.
    pub version: &'a str,
    /// The triple for which the program was built.
    pub target: &'a str,
    /// The field `Maintainer` of the Debian package.
    pub maintainer: &'a str,
    /// The time of all files in the packages, in seconds since 1970, so that the same sources give the same packages.
    pub time: u64,
    pub compression: Compression,
}

/// The files of a packed release.
#[derive(Debug)]
pub struct Packed {
    /// The folder with all files of the archive.
    pub tree: PathBuf,
    pub archive: PathBuf,
    pub debian_package: PathBuf,
    pub bill_of_materials: PathBuf,
    pub checksums: PathBuf,
}

impl Release<'_> {
    /// Packs the release into the folder `output`. What an earlier call left there is replaced.
    ///
    /// `bill` is the bill of materials, as [`bill_of_materials()`] makes it.
    ///
    /// # Errors
    /// When a file cannot be read or written, or a program (`tar`, `gzip`, `dpkg-deb`, `objdump`) fails.
    pub fn pack(&self, output: &Path, bill: &serde_json::Value) -> Result<Packed, Failure> {
        let stem = self.stem();
        let tree = output.join(&stem);
        emptied(&tree)?;
        let bill_of_materials = output.join(format!("{stem}.cdx.json"));
        write(&bill_of_materials, &format!("{bill:#}\n"))?;
        self.fill_tree(&tree, &bill_of_materials)?;
        let archive = archive::pack(&tree, self.time, self.compression)?;
        let debian_package = self.debian_package(&tree, output)?;
        let checksums = archive::checksums(output, &[&archive, &debian_package, &bill_of_materials])?;
        Ok(Packed { tree, archive, debian_package, bill_of_materials, checksums })
    }

    /// The common part of the names of the archive, of its folder and of the bill of materials.
    #[must_use]
    pub fn stem(&self) -> String {
        format!("{NAME}-{}-{}", self.version, self.target)
    }
}

/// Runs a program to its end and returns its standard output.
fn run(command: &mut Command) -> Result<Vec<u8>, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let absent = |source| Failure::Absent { program: program.clone(), source };
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().map_err(absent)?;
    if status.success() {
        return Ok(stdout);
    }
    let text = String::from_utf8_lossy(&stderr);
    let last_line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
    Err(Failure::Failed { program, detail: format!("{status}: {last_line}") })
}

/// Makes an empty folder of this name.
fn emptied(folder: &Path) -> Result<(), Failure> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(file(format!("cannot remove {}", folder.display())))?;
    }
    fs::create_dir_all(folder).map_err(file(format!("cannot create {}", folder.display())))
}

fn write(path: &Path, content: &str) -> Result<(), Failure> {
    fs::write(path, content).map_err(file(format!("cannot write {}", path.display())))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(file(format!("cannot read {}", path.display())))
}

fn file(what: String) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::File { what, source }
}
