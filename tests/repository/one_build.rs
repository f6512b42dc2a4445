//! One build of the dependencies: `cargo xtask`, the tests and the demo ask for the same features of what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates with a version, and the sets of features with which cargo builds each.
type Features = BTreeMap<String, BTreeSet<String>>;

/// Cargo builds a dependency once more for each set of features, and everything that depends on it. On a new machine
/// that would be most of the time until the first line of the demo.
#[test]
fn xtask_the_demo_and_the_tests_share_one_build_of_the_dependencies() {
    // Procedural macros and build scripts may have other features of the same crates. They are looked at apart.
    let [all, linked] =
        ["normal,build,dev", "normal,dev,no-proc-macro"].map(|edges| features(&["--workspace", "--edges", edges]));
    assert!(linked.len() > 100, "cargo tree lists the dependencies");
    for (tests, selection) in [
        (&all, &["--package", "xtask", "--edges", "normal,build"][..]),
        (&all, &["--package", "xtask-bench", "--edges", "normal,build"]),
        (&all, &["--workspace", "--edges", "normal,build"]),
        (&linked, &["--package", "xtask", "--edges", "normal,no-proc-macro"]),
    ] {
        let other: Vec<_> = features(selection)
            .into_iter()
            .filter(|(package, sets)| !sets.is_subset(&tests[package]))
            .map(|(package, sets)| format!("{package}: {sets:?} instead of {:?}", tests[&package]))
            .collect();
        assert!(
            other.is_empty(),
            "cargo {selection:?} builds these again; name the features in xtask/Cargo.toml:\n{}",
            other.join("\n")
        );
    }
}

fn features(selection: &[&str]) -> Features {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p}\t{f}"]);
    let output = cargo.args(selection).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut features = Features::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let Some((package, set)) = line.split_once('\t') else { continue };
        // Without the folder of a member, and without the mark of a procedural macro.
        let package = package.split(" (").next().unwrap().to_owned();
        features.entry(package).or_default().insert(set.trim_end_matches(" (*)").to_owned());
    }
    features
}
