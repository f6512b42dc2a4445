//! The archive of a release, and the checksums. The same files give the same archive, byte by byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::{Compression, Failure, file, run, write};

/// The name that `sha256sum --check` is given.
const CHECKSUMS: &str = "SHA256SUMS";

/// Packs a folder into `FOLDER.tar.gz` beside it.
pub(super) fn pack(folder: &Path, time: u64, compression: Compression) -> Result<PathBuf, Failure> {
    let beside = folder.parent().unwrap_or(Path::new("."));
    let name = folder.file_name().unwrap_or_default();
    let mut archive = folder.as_os_str().to_owned();
    archive.push(".tar.gz");
    let archive = PathBuf::from(archive);
    // Without -n, gzip would store the time of its run.
    let gzip = if compression == Compression::Best { "gzip -9n" } else { "gzip -1n" };
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    // Permissions without the mask of the user.
    tar.args(["--mode=u+rw,go+r,go-w,a+X", &format!("--mtime=@{time}"), &format!("--use-compress-program={gzip}")]);
    tar.arg("--file").arg(&archive).arg("--directory").arg(beside).arg(name);
    run(&mut tar)?;
    Ok(archive)
}

/// Writes the checksums of these files, which lie in `folder`.
pub(super) fn checksums(folder: &Path, files: &[&Path]) -> Result<PathBuf, Failure> {
    let mut lines = String::new();
    for path in files {
        let content = fs::read(path).map_err(file(format!("cannot read {}", path.display())))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        lines.push_str(&format!("{:x}  {name}\n", Sha256::digest(content)));
    }
    let path = folder.join(CHECKSUMS);
    write(&path, &lines)?;
    Ok(path)
}
