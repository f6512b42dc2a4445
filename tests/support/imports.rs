//! Which module of the library names which other one, as its `use` lines and paths say. Code of tests does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, Macro, UseTree};

/// A module by its path from the root of the library.
pub(crate) type Module = Vec<String>;

/// What each module names, and in which file it is.
pub(crate) struct Imports {
    pub files: BTreeMap<Module, String>,
    pub named: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    /// Of the library whose `lib.rs` is in this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(folder, &[], &mut files);
        let known: BTreeSet<Module> = files.keys().cloned().collect();
        let named = files.iter().map(|(module, (_, text))| (module.clone(), names(module, text, &known))).collect();
        Self { files: files.into_iter().map(|(module, (path, _))| (module, path)).collect(), named }
    }

    /// Circles, each as the modules that reach one another.
    pub(crate) fn circles(&self) -> BTreeSet<BTreeSet<Module>> {
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            self.named.keys().map(|module| (module, self.reached(module))).collect();
        let both = |one: &Module, other: &Module| reached[one].contains(other) && reached[other].contains(one);
        let circle = |module: &Module| self.named.keys().filter(|other| both(module, other)).cloned().collect();
        self.named.keys().map(circle).filter(|circle: &BTreeSet<Module>| !circle.is_empty()).collect()
    }

    fn reached<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let mut reached = BTreeSet::new();
        let mut rest = vec![from];
        while let Some(module) = rest.pop() {
            rest.extend(self.named[module].iter().filter(|named| reached.insert(*named)));
        }
        reached
    }
}

fn collect(folder: &Path, prefix: &[String], files: &mut BTreeMap<Module, (String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let below = || [prefix, std::slice::from_ref(&name)].concat();
        if path.is_dir() {
            collect(&path, &below(), files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match name.as_str() {
                "main" | "build" => continue,
                "lib" | "mod" => prefix.to_vec(),
                _ => below(),
            };
            files.insert(module, (path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn names(module: &Module, text: &str, known: &BTreeSet<Module>) -> BTreeSet<Module> {
    let mut paths = Paths { module, known, found: BTreeSet::new() };
    paths.visit_file(&syn::parse_file(text).unwrap());
    paths.found
}

struct Paths<'a> {
    module: &'a Module,
    known: &'a BTreeSet<Module>,
    found: BTreeSet<Module>,
}

impl Paths<'_> {
    fn add(&mut self, segments: &[String]) {
        let mut full = match segments.first().map(String::as_str) {
            Some("crate") => segments[1..].to_vec(),
            Some("self") => [self.module.as_slice(), &segments[1..]].concat(),
            Some("super") => {
                let levels = segments.iter().take_while(|segment| *segment == "super").count();
                [&self.module[..self.module.len().saturating_sub(levels)], &segments[levels..]].concat()
            }
            _ => return,
        };
        while !full.is_empty() && !self.known.contains(&full) {
            full.pop();
        }
        if !full.is_empty() && full != *self.module {
            self.found.insert(full);
        }
    }

    fn add_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_of_tests(&module.attrs) => {}
            Item::Use(item) if is_of_tests(&item.attrs) => {}
            Item::Use(item) => self.add_tree(&[], &item.tree),
            item => visit::visit_item(self, item),
        }
    }

    /// `pub(super)` names nobody.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }

    /// What stands in a macro is no syntax yet: its words are looked through.
    fn visit_macro(&mut self, item: &'ast Macro) {
        let words = item.tokens.to_string();
        for begin in ["crate :: ", "super :: "] {
            for (place, _) in words.match_indices(begin) {
                let path = words[place..].split(" :: ").map_while(|word| {
                    let name = word.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?;
                    (!name.is_empty()).then(|| name.to_owned())
                });
                self.add(&path.collect::<Vec<_>>());
            }
        }
        visit::visit_macro(self, item);
    }
}

fn is_of_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    };
    attributes.iter().any(is_test)
}
