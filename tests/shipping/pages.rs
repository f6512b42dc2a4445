//! The pages for readers: each link leads to a page and a heading that exist, and each command that a page of the index
//! names has these words and flags.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use super::repository;
use crate::support::dpkg::ended;

/// Pages with commands that no other test runs.
const WITH_COMMANDS: [&str; 3] = ["docs/README.md", "docs/installing.md", "docs/compared.md"];

fn pages(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["target", "dist", "node_modules", ".git"].contains(&name) {
            self::pages(&path, pages);
        } else if name.ends_with(".md") {
            pages.push(path);
        }
    }
}

/// The anchors of a page, as GitHub makes them from its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        in_block ^= line.starts_with("```");
        if let Some(heading) = line.strip_prefix('#').filter(|_| !in_block) {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            anchors.insert(kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect());
        }
    }
    anchors
}

#[test]
fn each_link_of_each_page_leads_to_a_page_and_a_heading_that_exist() {
    let mut all = Vec::new();
    pages(repository(), &mut all);
    assert!(all.len() > 20, "the pages were found");
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut wrong = Vec::new();
    for page in &all {
        let text = fs::read_to_string(page).unwrap();
        for target in link.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let is_there = file.exists();
            let leads = |anchor: &str| anchors(&fs::read_to_string(&file).unwrap()).contains(anchor);
            if !is_there || anchor.is_some_and(|anchor| !leads(anchor)) {
                wrong.push(format!("{}: {target}", page.strip_prefix(repository()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_command_that_the_index_and_its_neighbours_name_exists_with_its_flags() {
    let command = Regex::new(r"stream-processor ([a-z][a-z -]*[a-z])([^`\n;|)]*)").unwrap();
    let flag = Regex::new(r"--[a-z-]+").unwrap();
    let mut asked = BTreeSet::new();
    for page in WITH_COMMANDS {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        for code in text.split('`').skip(1).step_by(2) {
            // `helm install stream-processor deploy/…` is another command.
            for found in command.captures_iter(code).filter(|found| !found[2].starts_with('/')) {
                let words = found[1].split(" -").next().unwrap();
                asked.insert((words.to_owned(), found[0].to_owned(), page));
            }
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
    for (words, whole, page) in asked {
        let mut help = Command::new(env!("CARGO_BIN_EXE_stream-processor"));
        let ended = ended(help.args(words.split(' ')).arg("--help").env_clear());
        assert_eq!(ended.code, 0, "{page}: {whole}\n{}", ended.stderr);
        for flag in flag.find_iter(&whole) {
            assert!(ended.stdout.contains(flag.as_str()), "{page}: {whole}: no {}", flag.as_str());
        }
    }
}
