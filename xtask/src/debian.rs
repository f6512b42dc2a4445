//! Programs from Debian packages that some tests need. Prometheus is only unpacked into the cache folder. Chromium
//! needs libraries, so it is installed. Several processes may look for the programs at the same time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::mongod::cache_folder;

const CACHED_AS: &str = "stream-processor/prometheus";
const ALERTMANAGER_CACHED_AS: &str = "stream-processor/alertmanager";
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// The reason why a program cannot be used. Every text has the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("neither XDG_CACHE_HOME nor HOME is set: no folder to keep Prometheus in; set one of them")]
    NoCacheFolder,
    #[error(
        "{program} is not on the PATH and cannot be fetched: {detail}; install it (Debian: apt-get install {package})"
    )]
    Missing { program: &'static str, package: &'static str, detail: String },
    #[error("{what}: {source}")]
    File { what: String, source: std::io::Error },
}

/// The two programs of the package `prometheus`.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// The path of the server `prometheus`.
    pub server: PathBuf,
    /// The path of `promtool`, which checks and tests rules.
    pub tool: PathBuf,
}

/// Finds Prometheus on the PATH or in the cache, or fetches it into the cache with `apt-get download`.
///
/// # Errors
/// When there is no Prometheus and it cannot be fetched.
pub fn find_prometheus() -> Result<Prometheus, Failure> {
    if let (Some(server), Some(tool)) = (on_path("prometheus"), on_path("promtool")) {
        return Ok(Prometheus { server, tool });
    }
    let folder = cache_folder(CACHED_AS).ok_or(Failure::NoCacheFolder)?;
    let unpacked = folder.join("unpacked");
    let found = Prometheus { server: unpacked.join("usr/bin/prometheus"), tool: unpacked.join("usr/bin/promtool") };
    if !found.server.is_file() {
        let _lock = lock(&folder)?;
        if !found.server.is_file() {
            unpack("prometheus", &folder, &unpacked)?;
        }
    }
    Ok(found)
}

/// The package `prometheus-alertmanager`.
#[derive(Debug, Clone)]
pub struct Alertmanager {
    /// The path of `amtool`, which checks configurations.
    pub tool: PathBuf,
    server: PathBuf,
    /// The `usr/share` of the unpacked package; `None` for an installed one.
    share: Option<PathBuf>,
}

impl Alertmanager {
    /// The command that runs the server. The server looks for its templates below `/usr/share`, so one that is only
    /// unpacked gets a mount namespace of its own, in which that folder is the one of the package.
    #[must_use]
    pub fn server(&self) -> Command {
        let Some(share) = &self.share else { return Command::new(&self.server) };
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]);
        command.args(["mount --bind \"$0\" /usr/share && exec \"$@\""]).args([share, &self.server]);
        command
    }
}

/// Finds Alertmanager on the PATH or in the cache, or fetches it into the cache with `apt-get download`.
///
/// # Errors
/// When there is no Alertmanager and it cannot be fetched.
pub fn find_alertmanager() -> Result<Alertmanager, Failure> {
    if let (Some(server), Some(tool)) = (on_path("prometheus-alertmanager"), on_path("amtool")) {
        return Ok(Alertmanager { tool, server, share: None });
    }
    let folder = cache_folder(ALERTMANAGER_CACHED_AS).ok_or(Failure::NoCacheFolder)?;
    let unpacked = folder.join("unpacked");
    let [tool, server] = ["amtool", "prometheus-alertmanager"].map(|name| unpacked.join("usr/bin").join(name));
    if !tool.is_file() {
        let _lock = lock(&folder)?;
        if !tool.is_file() {
            unpack("prometheus-alertmanager", &folder, &unpacked)?;
        }
    }
    Ok(Alertmanager { tool, server, share: Some(unpacked.join("usr/share")) })
}

/// Finds Chromium on the PATH, or installs it with `apt-get`, which only root may do.
///
/// # Errors
/// When there is no Chromium and it cannot be installed.
pub fn find_browser() -> Result<PathBuf, Failure> {
    let find = || BROWSERS.into_iter().find_map(on_path);
    if let Some(program) = find() {
        return Ok(program);
    }
    let missing = |detail| Failure::Missing { program: "chromium", package: "chromium", detail };
    if !is_root() {
        return Err(missing("only root may install it".to_owned()));
    }
    let folder = cache_folder(CACHED_AS).ok_or(Failure::NoCacheFolder)?;
    let _lock = lock(&folder)?;
    if find().is_none() {
        tell("no Chromium on the PATH: installing the Debian package `chromium`, for the tests of the status page");
        // Mirrors delete old versions, so the package lists must be current.
        apt(&folder, &["update"])
            .and_then(|()| apt(&folder, &["install", "-y", "--no-install-recommends", "chromium"]))
            .map_err(missing)?;
    }
    find().ok_or_else(|| missing("the package brought none".to_owned()))
}

fn unpack(package: &'static str, folder: &Path, unpacked: &Path) -> Result<(), Failure> {
    let missing = |detail| Failure::Missing { program: package, package, detail };
    tell(&format!("no {package} on the PATH: fetching its Debian package, for the tests of alerts and dashboard"));
    let workplace = folder.join("fetch");
    // A fetch that was killed may have left files.
    let _ = fs::remove_dir_all(&workplace);
    fs::create_dir_all(&workplace).map_err(file("cannot create a folder in the cache"))?;
    let download = || apt(&workplace, &["download", package]);
    if let Err(detail) = download() {
        if !is_root() {
            return Err(missing(detail));
        }
        apt(&workplace, &["update"]).and_then(|()| download()).map_err(missing)?;
    }
    let entries = fs::read_dir(&workplace).map_err(file("cannot read the cache"))?.flatten();
    let file_name = entries.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "deb"));
    let fetched = file_name.ok_or_else(|| missing("apt-get left no package".to_owned()))?;
    let target = workplace.join("unpacked");
    let output = Command::new("dpkg-deb").arg("-x").arg(fetched).arg(&target).output();
    succeeded(output).map_err(missing)?;
    let _ = fs::remove_dir_all(unpacked);
    fs::rename(&target, unpacked).map_err(file("cannot move the package into the cache"))
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// True if this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Keeps several test processes from fetching at the same time.
fn lock(folder: &Path) -> Result<File, Failure> {
    fs::create_dir_all(folder).map_err(file("cannot create the cache folder"))?;
    let file = File::create(folder.join("lock")).map_err(self::file("cannot create a lock file"))?;
    // A failed lock is no failure: the lock only saves a second download.
    let _ = file.lock();
    Ok(file)
}

fn apt(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).current_dir(folder).env("DEBIAN_FRONTEND", "noninteractive");
    succeeded(command.output())
}

fn succeeded(output: std::io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output").trim().to_owned())
}

fn file(what: &str) -> impl FnOnce(std::io::Error) -> Failure {
    move |source| Failure::File { what: what.to_owned(), source }
}

#[allow(clippy::print_stderr, reason = "a download must not go unsaid")]
fn tell(what: &str) {
    eprintln!("{what}");
}
