//! The runbook: each alert has its section, and each section begins with a command that exists.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use regex::Regex;

use super::alerts::deploy;

#[test]
fn each_alert_has_a_section_that_begins_with_a_command_that_exists() {
    let runbook = fs::read_to_string(deploy("RUNBOOK.md")).unwrap();
    let rules = fs::read_to_string(deploy("prometheus/alerts.yaml")).unwrap();
    let names = Regex::new("- alert: (\\w+)").unwrap();
    let begin = Regex::new("^```sh\nstream-processor [^\n]+\n```\n\n\\*\\*Meaning\\.\\*\\* ").unwrap();
    for name in names.captures_iter(&rules).map(|found| found[1].to_owned()) {
        let (_, section) = runbook.split_once(&format!("\n## {name}\n\n")).unwrap_or_else(|| panic!("{name}"));
        let section = section.split("\n## ").next().unwrap();
        assert!(begin.is_match(section), "{name} begins with one command");
        let at = ["**Meaning.**", "**Output.**", "**Do.**"].map(|part| section.find(part));
        assert!(at.is_sorted() && at[0].is_some(), "{name} tells the output of the command, then what to do");
    }
    // Commands in blocks, and those in the text, with what they need in capitals.
    let written = Regex::new("(?m)(?:^|`)stream-processor ([a-z][^`\n#]*)").unwrap();
    let commands: BTreeSet<String> = written.captures_iter(&runbook).map(|found| found[1].trim().to_owned()).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let mut program = Command::new(env!("CARGO_BIN_EXE_stream-processor"));
        // What stands for a value is given one that exists.
        let words = command.split_whitespace().map(|word| match word {
            "ID" => "recruiters/65102a7347a6ef7545b05ef0",
            "NAME" => "verify",
            other => other,
        });
        let told = program.args(words).arg("--help").output().unwrap();
        assert!(told.status.success(), "{command}: {}", String::from_utf8_lossy(&told.stderr));
    }
}
