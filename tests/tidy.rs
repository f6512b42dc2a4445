//! The repository's own rules, as far as a reading of its text can see them (spec 07, "Habits").
//! All violations are reported at once. What needs a compiler is clippy's business: see `clippy.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::citations::Specification;
use crate::support::imports::{Imports, Module};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;

/// Take `now` as an argument and return data.
const PURE: [&str; 19] = [
    "src/apply/mirror/derived_id.rs",
    "src/apply/mirror/edits.rs",
    "src/plan/",
    "src/project/",
    "src/phase/phase_table.rs",
    "src/phase/step_conditions.rs",
    "src/schedule.rs",
    "src/ticker/offer_and_job.rs",
    "src/ticker/report.rs",
    "src/ticker/statements.rs",
    "src/verify/compare.rs",
    "src/ticker/retry_policy.rs",
    "src/mail/compose.rs",
    "src/directory/establishment.rs",
    "src/phase/sides.rs",
    "src/certificate/document.rs",
    "src/certificate/verdict.rs",
    "src/certificate/check.rs",
    "src/certificate/page.rs",
];
/// What pure code does not name: a runtime, the MongoDB client, a clock, the outside.
const IMPURE_WORDS: [&str; 9] =
    ["tokio", "mongodb", "::now(", "SystemTime", "Instant", "crate::clock", "std::fs", "std::net", "std::env"];

/// The modules of the library from the ground up: each one names only those of rows above its own.
const LAYERS: [&[&str]; 24] = [
    &[
        "clock",
        "counted",
        "failpoint",
        "json_output",
        "masking",
        "model",
        "outgoing",
        "progress",
        "retry",
        "schedule",
        "shown_time",
        "version",
    ],
    &["config", "error"],
    &["error_reports", "interruption", "traces"],
    &["logging", "notices", "observe", "refusal", "tasks"],
    &["mongo"],
    &["source"],
    &["plan", "project"],
    &["target"],
    &["context", "fetch"],
    &["write"],
    &["instances", "lease"],
    &["phase"],
    &["apply", "directory", "mail"],
    &["maintenance"],
    &["verify"],
    &["ticker"],
    &["leader"],
    &["status"],
    &["web"],
    &["service"],
    &["certificate"],
    &["setup"],
    &["doctor"],
    &["cli"],
];

/// A word that only one file or folder may name in its code, and where that is.
const RESERVED_WORDS: [(&str, &str); 6] = [
    ("backoff::", "src/retry.rs"),
    ("tokio::spawn", "src/tasks.rs"),
    ("task::spawn", "src/tasks.rs"),
    ("JoinSet", "src/tasks.rs"),
    ("with_label_values", "src/observe/"),
    ("TaskTracker", "src/tasks.rs"),
];

/// Written apart, so that this file does not contain them.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
];
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("../sha", "red"),
    concat!("sha", "red/spec"),
];

/// Folders of what is made here, not written.
const NOT_OURS: [&str; 8] = [
    "target",
    "dist",
    ".git",
    "resume_tokens/data",
    "node_modules",
    "tests/fuzz/target",
    "tests/fuzz/corpus",
    "tests/fuzz/artifacts",
];

const VAGUE_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "manager", "handler"];

/// A text file of the repository.
struct Text {
    /// From the root of the repository.
    path: String,
    content: String,
}

impl Text {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers from 1, without what is only a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.content.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

#[test]
fn the_repository_keeps_its_own_rules() {
    let mut texts = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut texts);
    assert!(texts.iter().any(|text| text.path == "tests/tidy.rs"), "the walk found this file");

    let mut violations: Vec<String> = texts.iter().flat_map(violations).collect();
    let (pages, others): (Vec<&Text>, Vec<&Text>) = texts.iter().partition(|text| text.path.starts_with("docs/spec/"));
    let specification = Specification::of(pages.iter().map(|page| (page.path.as_str(), page.content.as_str())));
    let present: BTreeSet<&str> = texts.iter().map(|text| text.path.as_str()).collect();
    for text in others {
        violations.extend(missing_files(text, &present));
        let wrong = specification.wrong(&text.content).into_iter();
        violations.extend(wrong.map(|citation| format!("{}: no page or heading: {citation}", text.path)));
    }
    assert!(violations.is_empty(), "{} violations:\n  {}", violations.len(), violations.join("\n  "));
}

#[test]
fn a_module_names_only_those_of_rows_above_its_own_and_no_modules_form_a_circle() {
    let imports = Imports::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let modules: BTreeSet<&str> = imports.files.keys().filter_map(|module| Some(module.first()?.as_str())).collect();
    let listed: Vec<&str> = LAYERS.iter().copied().flatten().copied().collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), modules, "LAYERS names each module");
    assert_eq!(listed.len(), modules.len(), "LAYERS names each module once");
    let violations = upward(&imports, &LAYERS);
    assert!(violations.is_empty(), "{} violations:\n  {}", violations.len(), violations.join("\n  "));
}

fn upward(imports: &Imports, layers: &[&[&str]]) -> Vec<String> {
    let row = |module: &Module| layers.iter().position(|row| row.contains(&module.first().map_or("", String::as_str)));
    let named = imports.named.iter().flat_map(|(module, named)| named.iter().map(move |named| (module, named)));
    let upward = named.filter(|(module, named)| module.first() != named.first() && row(named) >= row(module));
    let upward = upward.filter(|(module, _)| !module.is_empty()).map(|(module, named)| {
        format!("{}: names {}, which is no row above it", imports.files[module], named.join("::"))
    });
    let circles = imports.circles().into_iter().map(|circle| {
        let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
        format!("a circle: {}", names.join(", "))
    });
    upward.chain(circles).collect()
}

/// Files of the repository that a text names and that are not there; `NAME` stands for a name to choose.
fn missing_files(text: &Text, present: &BTreeSet<&str>) -> Vec<String> {
    let is_ours = |path: &&str| {
        ["src/", "tests/", "docs/", "xtask/", "benches/"].iter().any(|folder| path.starts_with(folder))
            && [".rs", ".md"].iter().any(|extension| path.ends_with(extension))
            && !path.contains("NAME")
    };
    let named = text.content.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(is_ours);
    let missing = named.filter(|path| !present.contains(path) && !text.path.ends_with("tidy.rs"));
    missing.map(|path| format!("{}: no such file: {path}", text.path)).collect()
}

fn violations(text: &Text) -> Vec<String> {
    let mut violations = unfinished(text);
    if text.is_rust() {
        violations.extend(shape(text));
        violations.extend(long_functions(text));
        violations.extend(impure(text));
        violations.extend(reserved(text));
    }
    violations
}

fn shape(text: &Text) -> Vec<String> {
    let path = &text.path;
    let mut violations = Vec::new();
    let lines = text.content.lines().count();
    if lines > FILE_LINES {
        violations.push(format!("{path}: {lines} lines, more than {FILE_LINES}: split it by what it is about"));
    }
    match text.content.lines().take_while(|line| line.starts_with("//!")).count() {
        0 => violations.push(format!("{path}: no `//!` on top that says what the file does")),
        1..=6 => {}
        more => violations.push(format!("{path}: {more} lines of `//!` on top, more than 6")),
    }
    let vague = path.trim_end_matches(".rs").split('/').find(|part| VAGUE_NAMES.contains(part));
    violations.extend(vague.map(|part| format!("{path}: `{part}` says nothing about what is in it")));
    violations
}

fn unfinished(text: &Text) -> Vec<String> {
    let mut violations = Vec::new();
    for (index, line) in text.content.lines().enumerate() {
        for word in UNFINISHED.iter().chain(&MACHINE_PATHS).filter(|word| line.contains(**word)) {
            violations.push(format!("{}:{}: `{word}`", text.path, index + 1));
        }
    }
    violations
}

/// A function ends at the first closing brace below it that is indented as it is: the code is formatted by rustfmt.
fn long_functions(text: &Text) -> Vec<String> {
    let lines: Vec<&str> = text.content.lines().collect();
    let mut violations = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let indent = line.len() - line.trim_start().len();
        let below = |line: &&str| {
            line.len() > indent && line.starts_with(&" ".repeat(indent)) && !line[indent..].starts_with(' ')
        };
        let ends = |line: &&str| below(line) && (line[indent..].starts_with('}') || line.ends_with(';'));
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let length = lines[start + 1..].iter().position(ends).map_or(0, |position| position + 2);
        if length > FUNCTION_LINES {
            let name = line.trim();
            violations.push(format!("{}:{}: {length} lines, more than {FUNCTION_LINES}: {name}", text.path, start + 1));
        }
    }
    violations
}

fn begins_function(line: &str) -> bool {
    let line = line.trim_start();
    let before = line.split_once("fn ").map(|(before, _)| before);
    before.is_some_and(|before| {
        before.split_whitespace().all(|word| matches!(word, "const" | "async" | "extern") || word.starts_with("pub"))
    })
}

fn impure(text: &Text) -> Vec<String> {
    if !PURE.iter().any(|pure| text.path.starts_with(pure)) {
        return Vec::new();
    }
    let named = |line: &str| IMPURE_WORDS.iter().find(|word| line.contains(**word)).copied();
    let violations = text.code().filter_map(|(number, line)| Some((number, named(line)?)));
    violations.map(|(number, word)| format!("{}:{number}: pure code names `{word}`", text.path)).collect()
}

fn reserved(text: &Text) -> Vec<String> {
    if !text.path.starts_with("src/") {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (word, owner) in RESERVED_WORDS.iter().filter(|(_, owner)| !text.path.starts_with(owner)) {
        let lines = text.code().filter(|(_, line)| line.contains(word));
        violations.extend(lines.map(|(number, _)| format!("{}:{number}: `{word}` belongs into {owner}", text.path)));
    }
    violations
}

/// Reads all text files below `folder`, whose path from the root is `prefix`.
fn collect(folder: &Path, prefix: &str, texts: &mut Vec<Text>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.is_dir() {
            if !NOT_OURS.contains(&path.as_str()) {
                collect(&entry, &format!("{path}/"), texts);
            }
        } else if is_text(&path) {
            let content = fs::read_to_string(&entry).unwrap();
            texts.push(Text { path, content });
        }
    }
}

fn is_text(path: &str) -> bool {
    let extension = path.rsplit('.').next().unwrap_or_default();
    ["rs", "toml", "md", "yaml", "yml", "js", "html", "css", "svg", "sh"].contains(&extension) || path == ".ci/run"
}

#[test]
fn the_rules_see_what_they_forbid() {
    let long = format!("//! Top.\npub fn long() {{\n{}}}\n", "    work();\n".repeat(FUNCTION_LINES));
    let count =
        |path: &str, content: &str| violations(&Text { path: path.to_owned(), content: content.to_owned() }).len();
    assert_eq!(count("src/a.rs", &long), 1, "a long function");
    assert_eq!(count("src/a.rs", &long.replacen("    work();\n", "", 2)), 0, "a function of the greatest length");
    assert_eq!(count("src/a.rs", "fn f() {}\n"), 1, "no word on top");
    assert_eq!(count("src/plan/a.rs", "//! Top.\nuse tokio::time;\n"), 1, "an impure word");
    assert_eq!(count("src/plan/a.rs", "//! Names no tokio.\n"), 0, "a comment is no code");
    assert_eq!(count("src/leader/a.rs", "//! Top.\nuse backoff::backoff::Backoff;\n"), 1, "a reserved word");
    assert_eq!(count("docs/a.md", &format!("See {}a.\n", MACHINE_PATHS[0])), 1, "a path of one machine");
    assert_eq!(count("src/a/utils.rs", "//! Top.\n"), 1, "a vague name");
    assert_eq!(count("src/a.rs", &format!("//! Top.\n{}", "// line\n".repeat(FILE_LINES))), 1, "a long file");
}

#[test]
fn upward_imports_and_circles_are_seen_wherever_they_hide() {
    let folder = tempfile::tempdir().unwrap();
    let found = |files: &[(&str, &str)]| {
        let source = folder.path().join("src");
        for (name, text) in files {
            let file = source.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let found = upward(&Imports::of(&source), &[&["low"], &["high"]]);
        fs::remove_dir_all(source).unwrap();
        found.len()
    };
    assert_eq!(found(&[("low.rs", "pub fn f() {}"), ("high.rs", "use crate::low::{self, f};")]), 0);
    for upward in [
        "use crate::high;",
        "use super::high::{self, f};",
        "use super::{high::f as g};",
        "fn g() { crate::high::f(); }",
        "fn g() { println!(\"{}\", crate::high::f()); }",
        "fn g(_: super::high::T) {}",
    ] {
        assert_eq!(found(&[("low.rs", upward), ("high.rs", "pub struct T;")]), 1, "{upward}");
    }
    let of_tests = "#[cfg(test)]\nmod tests { use crate::high; }";
    assert_eq!(found(&[("low.rs", of_tests), ("high.rs", "use crate::low;")]), 0, "tests may name what they like");
    let (one, other) = (("low/one.rs", "use super::other;"), ("low/other.rs", "use super::third::T;"));
    let (third, top) =
        (("low/third.rs", "fn f() { super::one::g() }"), ("low/mod.rs", "mod one; mod other; mod third;"));
    assert_eq!(found(&[one, other, third, top]), 1, "one circle of three files");
}

#[test]
fn a_citation_of_the_specification_names_a_page_and_a_heading_in_quotation_marks() {
    let page = "# 03 · Events\n\n## Dead letters\n\n### Guarantee 4: one writer\n";
    let specification = Specification::of([("docs/spec/03-events.md", page), ("docs/spec/README.md", "# None")]);
    let spec = concat!("sp", "ec");
    for right in ["03", "03, \"Dead letters\"", "03 \"Dead\n/// letters\"", "03, guarantee 4", "03, as it says"] {
        assert_eq!(specification.wrong(&format!("({spec} {right})")), Vec::<String>::new(), "{right}");
    }
    for wrong in ["04", "03, \"Dead\"", "03, Dead letters", "03, guarantee 5", "03, `dead letters`"] {
        assert_eq!(specification.wrong(&format!("({spec} {wrong})")).len(), 1, "{wrong}");
    }
}
