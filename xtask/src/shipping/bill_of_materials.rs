//! The bill of materials in the format CycloneDX: the crates that are linked into the program for one target. Cargo says
//! which ones these are: `cargo tree` resolves features as a build does. `cargo metadata` would also list crates that
//! only tests or other targets use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Failure, NAME, read, run};

/// The version of the format.
const FORMAT: &str = "1.5";

/// A crate: its name and its version.
type Crate = (String, String);

/// What `cargo metadata` says about a package.
#[derive(Debug, Deserialize)]
struct Described {
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    /// Absent for the crates of this workspace.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Described>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// Makes the bill of materials of the program for `target`. `cargo` begins a call of cargo in the repository.
///
/// # Errors
/// When cargo fails, or prints what cannot be read.
pub fn bill_of_materials(
    repository: &Path,
    target: &str,
    cargo: impl Fn(&[&str]) -> Command,
) -> Result<Value, Failure> {
    let edges = "normal,no-proc-macro";
    let shown = ["--prefix", "depth", "--format", "{p}", "--locked"];
    let tree = run(cargo(&["tree", "--package", NAME, "--edges", edges, "--target", target]).args(shown))?;
    let uses = uses(&String::from_utf8_lossy(&tree))?;
    let metadata = ["metadata", "--format-version", "1", "--locked", "--filter-platform", target];
    let metadata = run(&mut cargo(&metadata))?;
    let metadata: Metadata = serde_json::from_slice(&metadata).map_err(|error| unreadable("cargo metadata", &error))?;
    let lock: Lock =
        toml::from_str(&read(&repository.join("Cargo.lock"))?).map_err(|error| unreadable("cargo", &error))?;
    let checksums =
        lock.package.into_iter().filter_map(|locked| Some(((locked.name, locked.version), locked.checksum?)));
    Ok(document(&uses, metadata, &checksums.collect()))
}

/// The crates of the tree, each with those that it uses. In a line, the depth comes first, then name and version:
/// `2bytes v1.10.1`. A crate that was shown before has `(*)` at its end and nothing below.
fn uses(tree: &str) -> Result<BTreeMap<Crate, BTreeSet<Crate>>, Failure> {
    let mut uses: BTreeMap<Crate, BTreeSet<Crate>> = BTreeMap::new();
    let mut above: Vec<Crate> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let name_at = line.find(|character: char| !character.is_ascii_digit()).unwrap_or(line.len());
        let (depth, named) = line.split_at(name_at);
        let mut words = named.split_whitespace();
        let (name, version) = (words.next(), words.next().and_then(|version| version.strip_prefix('v')));
        let (Ok(depth), Some(name), Some(version)) = (depth.parse::<usize>(), name, version) else {
            return Err(unreadable("cargo tree", &line));
        };
        let found = (name.to_owned(), version.to_owned());
        above.truncate(depth);
        if let Some(user) = above.last() {
            uses.entry(user.clone()).or_default().insert(found.clone());
        }
        uses.entry(found.clone()).or_default();
        above.push(found);
    }
    Ok(uses)
}

fn document(uses: &BTreeMap<Crate, BTreeSet<Crate>>, metadata: Metadata, checksums: &BTreeMap<Crate, String>) -> Value {
    let described =
        metadata.packages.into_iter().map(|package| ((package.name.clone(), package.version.clone()), package));
    let described: BTreeMap<Crate, Described> = described.collect();
    let (program, components): (Vec<_>, Vec<_>) = uses.keys().partition(|(name, _)| name == NAME);
    let component = |found: &&Crate| component(found, described.get(*found), checksums.get(*found));
    let dependencies = uses.iter().map(|(user, used)| {
        let used: Vec<String> = used.iter().map(reference).collect();
        json!({ "ref": reference(user), "dependsOn": used })
    });
    json!({
        "$schema": format!("http://cyclonedx.org/schema/bom-{FORMAT}.schema.json"),
        "bomFormat": "CycloneDX",
        "specVersion": FORMAT,
        "version": 1,
        "metadata": { "component": program.iter().map(component).next() },
        "components": components.iter().map(component).collect::<Vec<Value>>(),
        "dependencies": dependencies.collect::<Vec<Value>>(),
    })
}

fn component(found: &Crate, described: Option<&Described>, checksum: Option<&String>) -> Value {
    let (name, version) = found;
    let kind = if name == NAME { "application" } else { "library" };
    let mut component = Map::new();
    let mut set = |key: &str, value: Value| drop(component.insert(key.to_owned(), value));
    set("type", json!(kind));
    set("bom-ref", json!(reference(found)));
    set("name", json!(name));
    set("version", json!(version));
    if let Some(description) = described.and_then(|described| described.description.as_deref()) {
        set("description", json!(description.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    if let Some(license) = described.and_then(|described| described.license.as_deref()) {
        // Older crates write `MIT/Apache-2.0`, which is no expression of SPDX.
        set("licenses", json!([{ "expression": license.replace('/', " OR ") }]));
    }
    if let Some(repository) = described.and_then(|described| described.repository.as_deref()) {
        set("externalReferences", json!([{ "type": "vcs", "url": repository }]));
    }
    if described.is_some_and(|described| described.source.is_some()) {
        set("purl", json!(reference(found)));
    }
    if let Some(checksum) = checksum {
        set("hashes", json!([{ "alg": "SHA-256", "content": checksum }]));
    }
    Value::Object(component)
}

fn reference((name, version): &Crate) -> String {
    format!("pkg:cargo/{name}@{version}")
}

fn unreadable(program: &'static str, detail: &impl ToString) -> Failure {
    Failure::Unreadable { program, detail: detail.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_cargo_tells_which_crate_uses_which() {
        let tree = "0top v1.0.0 (/a/folder)\n1left v2.0.0\n2base v0.1.0\n1right v3.0.0\n2base v0.1.0 (*)\n";
        let uses = uses(tree).unwrap();
        let used = |name: &str, version: &str| -> Vec<String> {
            uses[&(name.to_owned(), version.to_owned())].iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(used("top", "1.0.0"), ["left", "right"]);
        assert_eq!(used("right", "3.0.0"), ["base"]);
        assert!(used("base", "0.1.0").is_empty());
        assert!(super::uses("0top\n").is_err(), "a line without a version");
    }
}
