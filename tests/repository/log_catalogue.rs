//! `docs/logs.md` has every line that the program logs, and no other. The message of a line is fixed, so that a person
//! can look for it; what changes is in fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

const PAGE: &str = include_str!("../../docs/logs.md");

/// What the page says of a message: its levels and its fields.
type Catalogue = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

#[test]
fn the_page_of_the_log_has_every_line_and_no_other() {
    let (written, faults) = written();
    assert!(faults.is_empty(), "{faults:#?}");
    let page = documented();
    let missing: Vec<_> = written.iter().filter(|(message, said)| page.get(*message) != Some(said)).collect();
    assert!(missing.is_empty(), "docs/logs.md lacks these lines, or has other levels or fields: {missing:#?}");
    let unknown: Vec<_> = page.keys().filter(|message| !written.contains_key(*message)).collect();
    assert!(unknown.is_empty(), "no line of src has these messages: {unknown:#?}");
}

/// The rows of the page: message, levels, fields, meaning, action.
fn documented() -> Catalogue {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        assert!(!cells[3].is_empty() && !cells[4].is_empty(), "{row}");
        (cells[0].trim_matches('`').replace('´', "`"), (list(cells[1]), list(cells[2])))
    })
    .collect()
}

fn list(cell: &str) -> BTreeSet<String> {
    cell.split(", ").map(|word| word.trim_matches('`').to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The lines of the program, and the statements that break a rule.
fn written() -> (Catalogue, Vec<String>) {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let statement = Regex::new(r"\b(info|warn|error|debug|trace)!\(").unwrap();
    let (mut catalogue, mut faults) = (Catalogue::new(), Vec::new());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for found in statement.captures_iter(&text) {
            let (level, arguments) = (&found[1], arguments(&text[found.get(0).unwrap().end()..]));
            let (message, fields) = arguments.split_last().unwrap();
            let message = message.trim_matches('"');
            let place = file.file_name().unwrap().to_string_lossy();
            if message.contains('{') || !arguments.last().unwrap().starts_with('"') {
                faults.push(format!("{place}: the message is no fixed text: {message}"));
            }
            let debug = |field: &&String| field.contains("= ?") || field.starts_with('?') || field.contains(":?}");
            faults.extend(fields.iter().filter(debug).map(|field| format!("{place}: Debug output: {field}")));
            let entry = catalogue.entry(message.to_owned()).or_default();
            entry.0.insert(level.to_uppercase());
            let name = |field: &String| field.split(" = ").next().unwrap().trim_start_matches(['%', '?']).to_owned();
            entry.1.extend(fields.iter().map(name));
        }
    }
    (catalogue, faults)
}

/// The arguments of a macro, from behind its opening parenthesis on.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut all = vec![String::new()];
    for character in text.chars() {
        match character {
            _ if quoted => quoted = escaped || character != '"',
            '"' => quoted = true,
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = quoted && character == '\\' && !escaped;
        all.last_mut().unwrap().push(character);
    }
    let trimmed = all.iter().map(|argument| argument.split_whitespace().collect::<Vec<_>>().join(" "));
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
