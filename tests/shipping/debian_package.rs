//! The Debian package on a clean root: installed, started as its unit says, upgraded, removed and purged.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use xtask::guarded::{GuardedProcess, Signal, TemporaryFolder, last_lines};
use xtask::ports::free_port;

use super::{packed, repository, stripped};
use crate::support::database::TestDatabase;
use crate::support::dpkg::{DebianRoot, ended};
use crate::support::notify_socket::NotifySocket;
use crate::support::recruiters::{job, recruiter};
use crate::support::waiting::PATIENCE;

const CONFIGURATION: &str = "etc/stream-processor/stream-processor.toml";
const UNIT: &str = "usr/lib/systemd/system/stream-processor.service";
const INFO: &str = "var/lib/dpkg/info/stream-processor.";

/// The packages of version 1.0.0 and of its successor. Their configuration files differ.
struct Packages {
    old: PathBuf,
    new: PathBuf,
    _folder: TemporaryFolder,
}

impl Packages {
    fn make() -> Self {
        let folder = TemporaryFolder::create("stream-processor-packages-").unwrap();
        let program = stripped(folder.path());
        let earlier = folder.path().join("repository");
        fs::create_dir(&earlier).unwrap();
        for name in ["deploy", "docs", "LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"] {
            let from = repository().join(name);
            assert_eq!(ended(Command::new("cp").arg("-r").arg(from).arg(&earlier)).code, 0, "{name}");
        }
        let configuration = earlier.join("deploy/stream-processor.toml");
        let text = fs::read_to_string(&configuration).unwrap();
        fs::write(configuration, text + "# Only version 1.0.0 has this line.\n").unwrap();
        let pack = |repository: &Path, version: &str| {
            let output = folder.path().join(version);
            fs::create_dir(&output).unwrap();
            packed(repository, &program, version, &json!({}), &output).debian_package
        };
        Self { old: pack(&earlier, "1.0.0"), new: pack(repository(), "1.0.1"), _folder: folder }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_is_installed_started_upgraded_removed_and_purged_on_a_clean_root() {
    let packages = Packages::make();
    let root = DebianRoot::create();
    let empty = root.files();
    assert!(root.install(&packages.old).contains("installed and not started"), "what to do next is said");
    for path in [
        UNIT,
        "usr/lib/tmpfiles.d/stream-processor.conf",
        "usr/share/man/man1/stream-processor.1.gz",
        "usr/share/bash-completion/completions/stream-processor",
        "usr/share/zsh/vendor-completions/_stream-processor",
        "usr/share/fish/vendor_completions.d/stream-processor.fish",
        "usr/share/doc/stream-processor/copyright",
        "usr/share/doc/stream-processor/changelog.gz",
        "usr/share/doc/stream-processor/RUNBOOK.md",
        "usr/share/stream-processor/alerts.yaml",
    ] {
        assert!(root.path(path).is_file(), "{path}");
    }
    let installed = root.files();
    root.script(&root.path(&format!("{INFO}postinst")), &["configure", "1.0.0"]);
    assert_eq!(root.files(), installed, "postinst may run again");

    // The administrator names the database, and gives the secrets.
    let test = TestDatabase::create("package").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let configuration = root.path(CONFIGURATION);
    let text = fs::read_to_string(&configuration).unwrap();
    let named = text.replace("# database = \"labonnealternance\"", &format!("database = \"{}\"", test.name()));
    assert_ne!(named, text);
    fs::write(&configuration, &named).unwrap();
    fs::write(root.path("etc/stream-processor/mongodb-uri"), &test.uri).unwrap();
    fs::write(root.path("etc/stream-processor/smtp-url"), "smtp://127.0.0.1:1").unwrap();

    root.install(&packages.new);
    assert_eq!(fs::read_to_string(&configuration).unwrap(), named, "the administrator's file stays");
    let packaged = fs::read_to_string(root.path(&format!("{CONFIGURATION}.dpkg-dist"))).unwrap();
    assert_eq!(packaged, fs::read_to_string(repository().join("deploy/stream-processor.toml")).unwrap());
    starts_as_its_unit_says(&root).await;

    // With DynamicUser, systemd keeps the state below `private`.
    fs::create_dir_all(root.path("var/lib/private/stream-processor")).unwrap();
    fs::write(root.path("var/lib/private/stream-processor/position"), "here").unwrap();
    symlink("private/stream-processor", root.path("var/lib/stream-processor")).unwrap();
    let postrm = root.path("postrm");
    fs::copy(root.path(&format!("{INFO}postrm")), &postrm).unwrap();
    root.dpkg(&["--remove", "stream-processor"]);
    let kept = [CONFIGURATION, "etc/stream-processor/mongodb-uri", "var/lib/private/stream-processor/position"];
    assert!(kept.iter().all(|path| root.path(path).exists()), "a removal keeps what a person wrote");
    assert!(!root.path("usr/bin/stream-processor").exists());
    root.dpkg(&["--purge", "stream-processor"]);
    root.script(&postrm, &["purge"]);
    fs::remove_file(postrm).unwrap();
    assert_eq!(root.files(), empty, "a purge leaves nothing");
    assert!(!root.path("etc/stream-processor").exists());
}

#[test]
fn an_upgrade_from_an_unchanged_configuration_takes_the_new_one() {
    let packages = Packages::make();
    let root = DebianRoot::create();
    root.install(&packages.old);
    root.dpkg(&["--install", packages.new.to_str().unwrap()]);
    let installed = fs::read_to_string(root.path(CONFIGURATION)).unwrap();
    assert_eq!(installed, fs::read_to_string(repository().join("deploy/stream-processor.toml")).unwrap());
}

#[test]
fn a_package_over_an_installation_of_1_0_0_by_hand_keeps_its_configuration_and_names_what_hides_the_package() {
    let packages = Packages::make();
    let root = DebianRoot::create();
    // As the README of 1.0.0 said.
    let by_hand = [
        ("usr/local/bin/stream-processor", "the program"),
        ("etc/systemd/system/stream-processor.service", "the unit"),
        (CONFIGURATION, "environment = \"production\"\n"),
        ("etc/stream-processor/mongodb-uri", "mongodb://host/"),
        ("etc/stream-processor/smtp-url", "smtp://host"),
    ];
    for (path, content) in by_hand {
        fs::create_dir_all(root.path(path).parent().unwrap()).unwrap();
        fs::write(root.path(path), content).unwrap();
    }
    let said = root.install(&packages.new);
    for (path, content) in by_hand {
        assert_eq!(fs::read_to_string(root.path(path)).unwrap(), content, "{path}");
    }
    for (path, _) in &by_hand[..2] {
        assert!(said.contains(&format!("/{path} hides the file of the package")), "{said}");
    }
}

/// Starts the installed program with the command line and the environment of the installed unit, until it says that it
/// is ready, and stops it. Of systemd, this is `ExecStart`, `Environment` and `LoadCredential`.
async fn starts_as_its_unit_says(root: &DebianRoot) {
    let unit = fs::read_to_string(root.path(UNIT)).unwrap();
    let folder = TemporaryFolder::create("stream-processor-unit-").unwrap();
    let values = |key: &str| -> Vec<String> {
        unit.lines().filter_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned())).collect()
    };
    for credential in values("LoadCredential") {
        let (name, path) = credential.split_once(':').unwrap();
        fs::copy(root.path(path.trim_start_matches('/')), folder.path().join(name)).unwrap();
    }
    let line = values("ExecStart").remove(0);
    let in_root = |word: &str| match word.strip_prefix('/') {
        Some(path) => root.path(path).to_string_lossy().into_owned(),
        None => word.to_owned(),
    };
    let words: Vec<String> = line.split(' ').map(in_root).collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().current_dir(folder.path());
    for assignment in values("Environment") {
        let (name, value) = assignment.split_once('=').unwrap();
        command.env(name, value.replace("%d", folder.path().to_str().unwrap()));
    }
    let socket = NotifySocket::bind(&folder.path().join("notify"));
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    command.env("STREAM_PROCESSOR__HTTP__LISTEN", format!("127.0.0.1:{}", free_port().unwrap()));
    let log = folder.path().join("log");
    let mut process = GuardedProcess::start(&command, &log, &log).unwrap();
    socket.until_told("READY=1").await;
    process.signal(Signal::Terminate);
    assert_eq!(process.wait(PATIENCE), Some(0), "{}", last_lines(&log, 20));

    let mut check = Command::new(&words[0]);
    check.args(["config", "check", "--config", &words[3]]).env_clear().env("MONGODB_URI", "mongodb://host/");
    let checked = ended(&mut check);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let version = ended(Command::new(&words[0]).arg("--version"));
    assert!(version.stdout.starts_with("stream-processor "), "{}", version.stdout);
}
