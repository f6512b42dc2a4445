//! The folder of a release: its archive has these files, and the Debian package is laid out from them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{Failure, NAME, Release, file, run};

/// The completion scripts: the shell, and the name under which it looks for the script.
pub(super) const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "stream-processor"), ("zsh", "_stream-processor"), ("fish", "stream-processor.fish")];
/// Documents of the root of the repository.
pub(super) const DOCUMENTS: [&str; 4] = ["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"];
/// Folders of the repository whose files are part of a release.
const FOLDERS: [&str; 2] = ["deploy", "docs"];

impl Release<'_> {
    /// Fills the empty folder `tree`.
    pub(super) fn fill_tree(&self, tree: &Path, bill_of_materials: &Path) -> Result<(), Failure> {
        place(self.program, &tree.join(NAME), 0o755)?;
        for name in DOCUMENTS {
            place(&self.repository.join(name), &tree.join(name), 0o644)?;
        }
        place(bill_of_materials, &tree.join(format!("{NAME}.cdx.json")), 0o644)?;
        for name in FOLDERS {
            copy(&self.repository.join(name), &tree.join(name))?;
        }
        for (shell, name) in COMPLETIONS {
            let script = run(Command::new(self.program).args(["completions", shell]))?;
            put(&script, &tree.join("completions").join(name), 0o644)?;
        }
        run(Command::new(self.program).arg("man").arg(tree.join("man"))).map(drop)
    }
}

/// Copies a file and gives it these permissions, whatever the mask of the user is. Missing folders are made.
pub(super) fn place(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    let content = fs::read(from).map_err(file(format!("cannot read {}", from.display())))?;
    put(&content, to, mode)
}

/// Writes a file with these permissions. Missing folders are made.
pub(super) fn put(content: &[u8], to: &Path, mode: u32) -> Result<(), Failure> {
    let cannot = |source| file(format!("cannot write {}", to.display()))(source);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    fs::write(to, content).map_err(cannot)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(cannot)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let cannot = |source| file(format!("cannot read {}", from.display()))(source);
    for entry in fs::read_dir(from).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            let mode = if path.extension() == Some(OsStr::new("sh")) { 0o755 } else { 0o644 };
            place(&path, &target, mode)?;
        }
    }
    Ok(())
}
