//! dpkg on a root of its own: a folder with an empty system, on which packages are installed, upgraded and removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::debian::is_root;
use xtask::guarded::TemporaryFolder;

use super::processor::Ended;

/// What the package depends on. The new root has these packages as this machine has them.
const INSTALLED: [&str; 2] = ["libc6", "libgcc-s1"];

pub(crate) struct DebianRoot {
    folder: TemporaryFolder,
}

impl DebianRoot {
    /// A root that has only the database of dpkg.
    pub(crate) fn create() -> Self {
        let root = Self { folder: TemporaryFolder::create("stream-processor-root-").unwrap() };
        for folder in ["info", "updates", "triggers"] {
            fs::create_dir_all(root.path("var/lib/dpkg").join(folder)).unwrap();
        }
        let installed = Command::new("dpkg-query").arg("--status").args(INSTALLED).output();
        let installed = installed.expect("dpkg is missing: the tests of the package need a Debian machine");
        fs::write(root.path("var/lib/dpkg/status"), installed.stdout).unwrap();
        root
    }

    /// A file or folder of the root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Installs or upgrades. A changed configuration file stays, as a person would answer who is asked.
    pub(crate) fn install(&self, package: &Path) -> String {
        self.dpkg(&["--force-confold", "--install", package.to_str().unwrap()])
    }

    /// Runs dpkg with these arguments, which must succeed. Returns what it printed.
    pub(crate) fn dpkg(&self, arguments: &[&str]) -> String {
        // dpkg wants to change owners. A user who may not do that needs fakeroot.
        let mut command = Command::new(if is_root() { "dpkg" } else { "fakeroot" });
        if !is_root() {
            command.args(["dpkg", "--force-not-root"]);
        }
        let root = format!("--root={}", self.folder.path().display());
        command.args([&root, "--force-script-chrootless", "--log=/dev/null"]).args(arguments);
        let ended = ended(command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        assert_eq!(ended.code, 0, "{arguments:?}\n{}{}", ended.stdout, ended.stderr);
        ended.stdout + &ended.stderr
    }

    /// Runs a maintainer script once more, as dpkg would.
    pub(crate) fn script(&self, script: &Path, arguments: &[&str]) {
        let ended = ended(Command::new("sh").arg(script).args(arguments).env("DPKG_ROOT", self.folder.path()));
        assert_eq!(ended.code, 0, "{}: {}", script.display(), ended.stderr);
    }

    /// All files outside of the database of dpkg, with their content. A link has its target as content.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), self.folder.path(), &mut files);
        files.retain(|path, _| !path.starts_with("var/lib/dpkg/"));
        files
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            let target = fs::read_link(&path).unwrap().to_string_lossy().into_owned();
            files.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), target.into_bytes());
        } else if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
        }
    }
}

/// Runs a program to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{:?} cannot be started: {error}", command.get_program()));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}
