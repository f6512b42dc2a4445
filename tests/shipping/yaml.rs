//! YAML as JSON, by the Python library.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask::python::installed;

const PYYAML: &str = "pyyaml==6.0.3";

/// The documents of a text in YAML. An empty document is left out.
pub(super) fn documents(text: &str) -> Vec<Value> {
    let packages = installed(PYYAML, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let script = "
import json, sys, yaml
# `on:` is a word in GitHub's files, and no truth value; a date is a text.
loader = yaml.SafeLoader
loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in ('tag:yaml.org,2002:timestamp',) and
            not (tag == 'tag:yaml.org,2002:bool' and first in 'oOyYnN')]
    for first, found in loader.yaml_implicit_resolvers.items()
}
print(json.dumps([document for document in yaml.load_all(sys.stdin, loader) if document is not None]))
";
    serde_json::from_str(&python(script, &packages, text)).unwrap()
}

/// Runs a script, which must succeed, and returns what it printed.
pub(super) fn python(script: &str, packages: &Path, input: &str) -> String {
    let mut python = Command::new("python3");
    python.args(["-c", script]).env("PYTHONPATH", packages);
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
