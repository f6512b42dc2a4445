//! The release workflow and the compose files, as far as they can be checked without their services: their form by public
//! schemas, what they name in the repository, and their shell.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;
use serde_json::Value;
use xtask::python::installed;

use super::repository;
use super::yaml::documents;
use crate::support::dpkg::ended;

/// Has the schemas of GitHub's workflows and of Compose.
const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";
const WORKFLOW: &str = ".github/workflows/release.yml";
const COMPOSE: [&str; 2] = ["deploy/compose.yaml", "deploy/platform/compose.yaml"];

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn assert_form(schema: &str, files: &[&str]) {
    let packages = installed(CHECK_JSONSCHEMA, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let mut check = Command::new("python3");
    check.args(["-m", "check_jsonschema", "--builtin-schema", schema]).args(files);
    let checked = ended(check.current_dir(repository()).env("PYTHONPATH", packages));
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
}

#[test]
fn the_files_have_the_form_that_their_readers_want() {
    assert_form("vendor.github-workflows", &[WORKFLOW]);
    assert_form("vendor.compose-spec", &COMPOSE);
}

#[test]
fn each_step_of_the_workflow_is_pinned_is_shell_and_names_what_exists() {
    let workflow = documents(&read(WORKFLOW)).remove(0);
    let pinned = Regex::new("^[a-z-]+/[a-z-]+@[0-9a-f]{40}$").unwrap();
    let expression = Regex::new(r"\$\{\{.*?\}\}").unwrap();
    let path = Regex::new(r"(?:\.ci|deploy|docs)/[\w./-]*\w").unwrap();
    let arguments = Regex::new("--build-arg (\\w+)=").unwrap();
    let commands = Regex::new("cargo xtask (\\w+)").unwrap();
    let dockerfile = read("deploy/Dockerfile");
    let mut shells = 0;
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        for step in job["steps"].as_array().unwrap() {
            if let Some(action) = step["uses"].as_str() {
                assert!(pinned.is_match(action), "{name}: {action}");
            }
            let Some(shell) = step["run"].as_str() else { continue };
            shells += 1;
            // What comes from outside reaches a shell only by its environment.
            assert!(!expression.is_match(shell), "{name}: an expression in a shell: {shell}");
            let checked = ended(Command::new("bash").args(["-n", "-c", shell]));
            assert_eq!(checked.code, 0, "{name}: {shell}\n{}", checked.stderr);
            for named in path.find_iter(shell) {
                assert!(repository().join(named.as_str()).exists(), "{name}: no such file: {}", named.as_str());
            }
            for argument in arguments.captures_iter(shell) {
                assert!(dockerfile.contains(&format!("\nARG {}", &argument[1])), "no ARG {}", &argument[1]);
            }
            for command in commands.captures_iter(shell) {
                assert!(read("xtask/src/main.rs").contains(&format!("Command::{}", capital(&command[1]))));
            }
        }
        for needed in job["needs"].as_array().into_iter().flatten() {
            assert!(workflow["jobs"][needed.as_str().unwrap()].is_object(), "{name} needs {needed}");
        }
    }
    assert!(shells > 8, "the steps were read");
    let with_version = Regex::new(r"uses: .* # v\d+\.\d+\.\d+$").unwrap();
    for line in read(WORKFLOW).lines().filter(|line| line.contains("uses: ")) {
        assert!(with_version.is_match(line), "{line} names its version");
    }
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

#[test]
fn each_base_image_is_an_argument_that_the_workflow_pins() {
    let dockerfile = read("deploy/Dockerfile");
    let froms: Vec<&str> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(froms, ["${BUILD_IMAGE} AS build", "${BASE_IMAGE}"]);
    let workflow = read(WORKFLOW);
    for name in ["BUILD_IMAGE", "BASE_IMAGE"] {
        assert!(dockerfile.contains(&format!("\nARG {name}=")), "{name} has a default");
        assert!(workflow.contains(&format!("pin {name} ")), "{name} gets a digest");
    }
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.trim().strip_prefix("channel = ")).unwrap().trim_matches('"');
    let version = channel.rsplitn(2, '.').last().unwrap();
    assert!(dockerfile.contains(&format!("ARG BUILD_IMAGE=rust:{version}")), "the toolchain is {channel}");
}

/// The variables of the platform's `.infra/.env_server` that its old worker and its e-mails used.
const OF_THE_PLATFORM: [&str; 10] = [
    "LBA_MONGODB_URI",
    "LBA_PUBLIC_URL",
    "LBA_SMTP_AUTH_USER",
    "LBA_SMTP_AUTH_PASS",
    "LBA_SMTP_HOST",
    "LBA_SMTP_PORT",
    "LBA_AUTH_USER_JWT_SECRET",
    "LBA_JOB_SLACK_WEBHOOK",
    "LBA_ENTREPRISE_API_KEY",
    "LBA_SERVER_SENTRY_DSN",
];

#[test]
fn the_service_of_the_platform_takes_its_variables_and_the_program_takes_what_they_become() {
    let text = read(COMPOSE[1]);
    let compose = documents(&text).remove(0);
    let service = &compose["services"]["stream_processor"];
    let asked = Regex::new(r"\$\{(LBA_\w+)").unwrap();
    let environment = service["environment"].as_object().unwrap();
    let values = Value::from(environment.clone()).to_string();
    let named: BTreeSet<&str> = asked.captures_iter(&values).map(|found| found.get(1).unwrap().as_str()).collect();
    for name in OF_THE_PLATFORM {
        assert!(named.contains(name), "{name}");
    }
    let page = read("docs/installing.md");
    for variable in environment.keys() {
        assert!(page.contains(&format!("`{variable}`")), "docs/installing.md explains {variable}");
    }

    let substituted = Regex::new(r"\$\{(LBA_\w+)[^}]*\}").unwrap();
    let example = |name: &str| match name {
        "LBA_MONGODB_URI" => "mongodb://user:password@host/?replicaSet=rs0",
        "LBA_PUBLIC_URL" | "LBA_JOB_SLACK_WEBHOOK" => "https://host.example",
        "LBA_SMTP_PORT" => "587",
        "LBA_SMTP_HOST" => "host.example",
        "LBA_LOG_LEVEL" => "info",
        "LBA_SERVER_SENTRY_DSN" => "https://key@host.example/1",
        _ => "a-word-that-is-long-enough-to-be-a-key",
    };
    let mut check = Command::new(env!("CARGO_BIN_EXE_stream-processor"));
    check.args(["config", "check"]).env_clear();
    for (variable, value) in environment {
        let value = value.as_str().unwrap();
        check.env(variable, substituted.replace_all(value, |found: &regex::Captures<'_>| example(&found[1])).as_ref());
    }
    let checked = ended(&mut check);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
}
