//! The Debian package of a release. `dpkg-deb` packs a folder that is laid out here: it is on each Debian machine, so the
//! tests can pack the program under test without building a packaging tool first.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tree::{COMPLETIONS, place, put};
use super::{Compression, Failure, NAME, Release, emptied, file, read, run};

/// The unit file of the repository, which an installation by hand uses as it is.
const UNIT: &str = "deploy/systemd/stream-processor.service";
/// Where an installation by hand has the program, and where a package has it.
const PROGRAM: (&str, &str) = ("/usr/local/bin/stream-processor", "/usr/bin/stream-processor");
/// A configuration file in the words of dpkg: the changes of the administrator survive an upgrade.
const CONFIGURATION: &str = "etc/stream-processor/stream-processor.toml";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Files of `deploy/` that others read, such as Prometheus.
const SHARED: [&str; 3] = ["mongodb-role.js", "prometheus/alerts.yaml", "grafana/dashboard.json"];
/// Shared libraries, by the beginnings of their names, and the package that has each.
const LIBRARIES: [(&str, &str); 4] =
    [("libc.so.", "libc6"), ("libm.so.", "libc6"), ("ld-linux", "libc6"), ("libgcc_s.so.", "libgcc-s1")];

impl Release<'_> {
    /// Packs the package into `output`, from the folder of the release.
    pub(super) fn debian_package(&self, tree: &Path, output: &Path) -> Result<PathBuf, Failure> {
        let architecture = architecture(self.target)?;
        let version = self.version.replacen('-', "~", 1);
        let root = output.join("deb");
        emptied(&root)?;
        self.lay_out(tree, &root)?;
        let control = self.control(&version, architecture, &root)?;
        put(control.as_bytes(), &root.join("DEBIAN/control"), 0o644)?;
        put(format!("/{CONFIGURATION}\n").as_bytes(), &root.join("DEBIAN/conffiles"), 0o644)?;
        for script in SCRIPTS {
            place(&tree.join("deploy/debian").join(script), &root.join("DEBIAN").join(script), 0o755)?;
        }
        let package = output.join(format!("{NAME}_{version}_{architecture}.deb"));
        // Whatever the mask of the user is.
        run(Command::new("chmod").args(["--recursive", "u=rwX,go=rX"]).arg(&root))?;
        let compression: &[&str] = if self.compression == Compression::Best { &["-Zxz"] } else { &["-Zgzip", "-z1"] };
        let mut pack = Command::new("dpkg-deb");
        pack.args(compression).args(["--root-owner-group", "--build"]).arg(&root).arg(&package);
        run(pack.env("SOURCE_DATE_EPOCH", self.time.to_string()))?;
        std::fs::remove_dir_all(&root).map_err(file(format!("cannot remove {}", root.display())))?;
        Ok(package)
    }

    /// Lays out what the package installs.
    fn lay_out(&self, tree: &Path, root: &Path) -> Result<(), Failure> {
        let documents = root.join("usr/share/doc").join(NAME);
        place(&tree.join(NAME), &root.join("usr/bin").join(NAME), 0o755)?;
        let unit = read(&tree.join(UNIT))?.replace(PROGRAM.0, PROGRAM.1);
        put(unit.as_bytes(), &root.join("usr/lib/systemd/system/stream-processor.service"), 0o644)?;
        place(
            &tree.join("deploy/debian/tmpfiles.conf"),
            &root.join("usr/lib/tmpfiles.d/stream-processor.conf"),
            0o644,
        )?;
        place(&tree.join("deploy/stream-processor.toml"), &root.join(CONFIGURATION), 0o644)?;
        let places = [
            "usr/share/bash-completion/completions",
            "usr/share/zsh/vendor-completions",
            "usr/share/fish/vendor_completions.d",
        ];
        for ((_, name), place_of_shell) in COMPLETIONS.into_iter().zip(places) {
            place(&tree.join("completions").join(name), &root.join(place_of_shell).join(name), 0o644)?;
        }
        for name in SHARED {
            let base = Path::new(name).file_name().unwrap_or_default();
            place(&tree.join("deploy").join(name), &root.join("usr/share/stream-processor").join(base), 0o644)?;
        }
        place(&tree.join("LICENSE"), &documents.join("copyright"), 0o644)?;
        for name in ["README.md", "SECURITY.md", "stream-processor.cdx.json", "deploy/RUNBOOK.md", "docs/operations.md"]
        {
            let base = Path::new(name).file_name().unwrap_or_default();
            place(&tree.join(name), &documents.join(base), 0o644)?;
        }
        compressed(&tree.join("CHANGELOG.md"), &documents.join("changelog.gz"))?;
        let pages = tree.join("man");
        for page in std::fs::read_dir(&pages).map_err(file(format!("cannot read {}", pages.display())))?.flatten() {
            let name = format!("{}.gz", page.file_name().to_string_lossy());
            compressed(&page.path(), &root.join("usr/share/man/man1").join(name))?;
        }
        Ok(())
    }

    fn control(&self, version: &str, architecture: &str, root: &Path) -> Result<String, Failure> {
        let size = run(Command::new("du").args(["--summarize", "--block-size=1024", "--apparent-size"]).arg(root))?;
        let size = String::from_utf8_lossy(&size);
        let size = size.split_whitespace().next().unwrap_or_default();
        let shared = run(Command::new("objdump").arg("--private-headers").arg(self.program))?;
        let depends = depends(&String::from_utf8_lossy(&shared))?;
        let depends = if depends.is_empty() { String::new() } else { format!("Depends: {}\n", depends.join(", ")) };
        let maintainer = self.maintainer;
        Ok(format!(
            "Package: {NAME}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
             Installed-Size: {size}\n{depends}Section: database\nPriority: optional\n\
             Description: keeps jobs_partners in step with recruiters\n \
             A service for La bonne alternance. It reads a MongoDB change stream, projects the jobs of\n \
             each recruiter into offers, and runs time-based jobs. It loses no event.\n .\n \
             The service is neither enabled nor started by the installation: it needs a connection string\n \
             and a database first. See stream-processor(1) and /etc/stream-processor.\n"
        ))
    }
}

fn architecture(target: &str) -> Result<&'static str, Failure> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => Err(Failure::Architecture(target.to_owned())),
    }
}

/// The packages that the program needs, by the private headers that `objdump` prints. A static program needs none.
fn depends(headers: &str) -> Result<Vec<String>, Failure> {
    let needed = headers.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim);
    let mut packages = Vec::new();
    for library in needed {
        let known = LIBRARIES.iter().find(|(begins, _)| library.starts_with(begins));
        let (_, package) = known.ok_or_else(|| Failure::Library(library.to_owned()))?;
        if !packages.contains(package) {
            packages.push(package);
        }
    }
    // The newest version of the C library of which the program uses a symbol.
    let versions = headers.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_")?.split_once('.'));
    let versions = versions.filter_map(|(major, minor)| {
        let minor = minor.split('.').next().unwrap_or(minor);
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let newest = versions.max();
    packages.sort_unstable();
    let named = packages.into_iter().map(|package| match newest {
        Some((major, minor)) if package == "libc6" => format!("libc6 (>= {major}.{minor})"),
        _ => package.to_owned(),
    });
    Ok(named.collect())
}

/// Compresses a file as Debian asks for documents: as well as possible, and without a time.
fn compressed(from: &Path, to: &Path) -> Result<(), Failure> {
    put(&run(Command::new("gzip").args(["-9n", "--stdout"]).arg(from))?, to, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_the_program_tell_which_packages_it_needs() {
        let headers = "  NEEDED               libgcc_s.so.1\n  NEEDED               libc.so.6\n  required from libc.so.6:\n    \
                       0x0d696914 0x00 05 GLIBC_2.4\n    0x06969194 0x00 04 GLIBC_2.34\n    0x09691a75 0x00 03 GLIBC_2.2.5\n";
        assert_eq!(depends(headers).unwrap(), ["libc6 (>= 2.34)", "libgcc-s1"]);
        assert!(depends("").unwrap().is_empty(), "a static program");
        assert!(depends("  NEEDED  libssl.so.3\n").is_err(), "a library that no package is known for");
    }
}
