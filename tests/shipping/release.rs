//! The archive of a release, its checksums, its bill of materials, and the metadata by which cargo-binstall finds it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use xtask::guarded::TemporaryFolder;
use xtask::python::installed;
use xtask::shipping::{Packed, bill_of_materials};

use super::{packed, repository, stripped, target};
use crate::support::dpkg::ended;

/// The format's own library, with its schema.
const CYCLONEDX: &str = "cyclonedx-python-lib[json-validation]==11.12.0";
const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
errors = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())
sys.exit(f'not as the schema says: {errors}' if errors else 0)
";

#[test]
fn the_archive_holds_all_that_a_release_promises_and_two_of_the_same_sources_are_equal() {
    let folder = TemporaryFolder::create("stream-processor-release-").unwrap();
    let program = stripped(folder.path());
    let pack = |name: &str| -> Packed {
        let output = folder.path().join(name);
        fs::create_dir(&output).unwrap();
        packed(repository(), &program, env!("CARGO_PKG_VERSION"), &json!({ "bomFormat": "CycloneDX" }), &output)
    };
    let (first, second) = (pack("first"), pack("second"));
    for (first, second) in [(&first.archive, &second.archive), (&first.debian_package, &second.debian_package)] {
        assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "{} is reproducible", first.display());
    }
    let checked =
        ended(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(folder.path().join("first")));
    assert_eq!(checked.stdout.matches(": OK").count(), 3, "{}{}", checked.stdout, checked.stderr);

    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    assert_eq!(ended(tar.arg("-xf").arg(&first.archive).arg("-C").arg(&unpacked)).code, 0);
    let program = unpacked.join(found_by_binstall(&first));
    assert!(ended(Command::new(program).arg("--version")).stdout.starts_with("stream-processor "));
    let tree = unpacked.join(first.tree.file_name().unwrap());
    for path in [
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "stream-processor.cdx.json",
        "completions/stream-processor",
        "completions/_stream-processor",
        "completions/stream-processor.fish",
        "man/stream-processor.1",
        "man/stream-processor-replay.1",
        "deploy/systemd/stream-processor.service",
        "deploy/stream-processor.toml",
        "docs/operations.md",
    ] {
        assert!(tree.join(path).is_file(), "{path}");
    }
    let syntax = ended(Command::new("bash").arg("-n").arg(tree.join("completions/stream-processor")));
    assert_eq!(syntax.code, 0, "{}", syntax.stderr);
}

/// What the templates of `Cargo.toml` make of this release: the name of the archive is right, and the path of the program
/// in it is returned.
fn found_by_binstall(packed: &Packed) -> String {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let metadata = &manifest["package"]["metadata"]["binstall"];
    assert_eq!(metadata["pkg-fmt"].as_str(), Some("tgz"));
    let filled = |template: &str| {
        let target = target();
        let values = [
            ("{ name }", "stream-processor"),
            ("{ bin }", "stream-processor"),
            ("{ version }", env!("CARGO_PKG_VERSION")),
            ("{ target }", &target),
            ("{ archive-suffix }", ".tar.gz"),
            ("{ binary-ext }", ""),
        ];
        values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let url = filled(metadata["pkg-url"].as_str().unwrap());
    let archive = packed.archive.file_name().unwrap().to_str().unwrap();
    assert!(url.ends_with(&format!("/releases/download/v{}/{archive}", env!("CARGO_PKG_VERSION"))), "{url}");
    filled(metadata["bin-dir"].as_str().unwrap())
}

#[test]
fn the_bill_of_materials_is_as_the_format_says_and_lists_what_is_linked_and_no_more() {
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(arguments).current_dir(repository());
        cargo
    };
    let bill = bill_of_materials(repository(), &target(), cargo).unwrap();
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<&str> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    for name in ["mongodb", "tokio", "rustls", "ring", "resume_tokens"] {
        assert!(names.contains(name), "{name} is linked");
    }
    for name in ["xtask", "proptest", "serde_derive", "windows-sys", "stateright"] {
        assert!(!names.contains(name), "{name} is for tests, for builds or for other systems");
    }
    for component in components {
        let is_ours = component["name"] == "resume_tokens";
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        assert_eq!(component["hashes"][0]["content"].is_string(), !is_ours, "{component}");
    }
    let mut references: BTreeSet<&str> = [bill["metadata"]["component"]["bom-ref"].as_str().unwrap()].into();
    references.extend(components.iter().map(|component| component["bom-ref"].as_str().unwrap()));
    for dependency in bill["dependencies"].as_array().unwrap() {
        let uses = dependency["dependsOn"].as_array().unwrap();
        let mut named = uses.iter().chain([&dependency["ref"]]).map(|named| named.as_str().unwrap());
        assert!(named.all(|named| references.contains(named)), "{dependency}");
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bill.json");
    fs::write(&file, bill.to_string()).unwrap();
    let packages = installed(CYCLONEDX, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let validated = ended(Command::new("python3").args(["-c", VALIDATE]).arg(&file).env("PYTHONPATH", packages));
    assert_eq!(validated.code, 0, "{}", validated.stderr);
}
