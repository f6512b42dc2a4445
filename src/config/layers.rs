//! Reads the layers of the configuration: the TOML file, the environment, the flags. A later layer wins. Reports
//! unknown keys and unreadable files. The values are checked in `check.rs`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigFault, Origin};
use super::key::{ConfigKey, ENVIRONMENT_PREFIX, Section};

/// The sources of a configuration. Tests give an environment of their own.
pub struct Sources {
    /// The TOML file; `None` without `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables by name. A variable with an empty value counts as not set.
    pub environment: BTreeMap<String, OsString>,
    /// Flags that set a key, such as `--listen`, each with its value.
    pub flags: Vec<(&'static str, SecretString)>,
}

/// The environment variables of this process. In a name that is not UTF-8, invalid bytes are replaced.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
pub fn process_environment() -> BTreeMap<String, OsString> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value)).collect()
}

/// False when `NO_COLOR` has any value that is not empty (<https://no-color.org>).
pub(super) fn colors_wanted(sources: &Sources) -> bool {
    sources.environment.get("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A value as a layer gives it. The value may be a secret, so this type is not `Debug`.
pub(super) enum Raw {
    /// A text from a variable, a flag, a secret file or a default. The kind of the key decides its type.
    Word(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array.
    List(Vec<Raw>),
    /// A TOML value of a type that no key takes. The text names the type, such as `a date`.
    Other(&'static str),
}

pub(super) struct LayerEntry {
    pub raw: Raw,
    pub origin: Origin,
}

/// The merged layers.
pub(super) struct Layers {
    /// The winning entry of every key that a layer sets, by the path of the key.
    pub entries: BTreeMap<String, LayerEntry>,
    /// True when the file could not be read in full. A missing required key is no fault then, because it may be in the
    /// part that could not be read.
    pub incomplete: bool,
}

/// Reads all layers. The faults are unknown keys, unreadable files and variables that are not UTF-8.
pub(super) fn read(sources: &Sources, sections: &[Section]) -> (Layers, Vec<ConfigFault>) {
    let keys: Vec<&ConfigKey> = sections.iter().flat_map(|section| &section.keys).collect();
    let mut reader =
        LayerReader { keys, layers: Layers { entries: BTreeMap::new(), incomplete: false }, faults: Vec::new() };
    if let Some(path) = &sources.file {
        reader.file(path);
    }
    reader.environment(&sources.environment);
    reader.flags(&sources.flags);
    (reader.layers, reader.faults)
}

struct LayerReader<'a> {
    keys: Vec<&'a ConfigKey>,
    layers: Layers,
    faults: Vec<ConfigFault>,
}

impl LayerReader<'_> {
    fn set(&mut self, path: String, raw: Raw, origin: Origin) {
        self.layers.entries.insert(path, LayerEntry { raw, origin });
    }

    fn fault(&mut self, key: impl Into<String>, origin: Origin, reason: String, allowed: Option<String>) {
        self.faults.push(ConfigFault { key: key.into(), origin: Some(origin), reason, allowed });
    }

    fn file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.layers.incomplete = true;
                let reason = format!("cannot read {}: {error}", path.display());
                return self.fault("--config", Origin::Flag("--config"), reason, None);
            }
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            self.layers.incomplete = true;
            // Only the message of the parser is used: its full display quotes the line, which may hold a secret.
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            let origin = Origin::File { path: path.to_owned(), line };
            self.fault("TOML", origin, error.message().to_owned(), None);
        }
        self.table("", table.get_ref(), &File { path, text: &text });
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, file: &File<'_>) {
        for (name, value) in table {
            let path = join(prefix, name.get_ref());
            let is_key = self.keys.iter().any(|key| key.path == path);
            if let (DeValue::Table(inner), false) = (value.get_ref(), is_key) {
                self.table(&path, inner, file);
                continue;
            }
            let line = line_of(file.text, name.span().start);
            let origin = Origin::File { path: file.path.to_owned(), line };
            if is_key {
                self.set(path, raw(value.get_ref()), origin);
            } else {
                self.unknown(path, origin);
            }
        }
    }

    fn unknown(&mut self, path: String, origin: Origin) {
        let section = format!("{path}.");
        if self.keys.iter().any(|key| key.path.starts_with(&section)) {
            let reason = format!("is a section: write `[{path}]` and its keys below");
            return self.fault(path, origin, reason, None);
        }
        let meant = nearest(&path, self.keys.iter().map(|key| key.path.clone()));
        self.fault(path, origin, "is not a key".to_owned(), meant);
    }

    fn environment(&mut self, variables: &BTreeMap<String, OsString>) {
        let given = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        for key in self.keys.clone() {
            let short = key.short.map(str::to_owned);
            let Some((name, value)) =
                std::iter::once(key.variable()).chain(short).find_map(|name| given(&name).map(|value| (name, value)))
            else {
                continue;
            };
            let origin = Origin::Environment(name);
            match value.to_str() {
                Some(value) => self.set(key.path.clone(), Raw::Word(value.to_owned()), origin),
                None => self.fault(&key.path, origin, "is not valid UTF-8".to_owned(), None),
            }
        }
        for (name, value) in variables {
            let ours = name.starts_with(ENVIRONMENT_PREFIX) && !value.is_empty();
            if ours && !self.keys.iter().any(|key| key.variable() == *name) {
                let upper = name.to_uppercase().replace('-', "_");
                let meant = nearest(&upper, self.keys.iter().map(|key| key.variable()));
                let origin = Origin::Environment(name.clone());
                self.fault(path_of_variable(name), origin, "is not a key".to_owned(), meant);
            }
        }
        self.misspelled_prefixes(variables);
    }

    /// Finds variables that name a key, but with one underscore where two are needed. They would be ignored. Other
    /// variables with this prefix are no faults: Kubernetes sets `STREAM_PROCESSOR_SERVICE_HOST` for a Service of this
    /// name.
    fn misspelled_prefixes(&mut self, variables: &BTreeMap<String, OsString>) {
        let plain = |name: &str| name.replace("__", "_");
        let prefix = plain(ENVIRONMENT_PREFIX);
        for (name, _) in variables.iter().filter(|(name, value)| {
            name.starts_with(&prefix) && !name.starts_with(ENVIRONMENT_PREFIX) && !value.is_empty()
        }) {
            let given = plain(name);
            let meant = self.keys.iter().map(|key| key.variable()).find(|variable| plain(variable) == given);
            if let Some(meant) = meant {
                let reason = "is ignored: two underscores come after the prefix and between section and key".to_owned();
                let path = path_of_variable(&meant);
                self.fault(path, Origin::Environment(name.clone()), reason, Some(format!("did you mean `{meant}`?")));
            }
        }
    }

    fn flags(&mut self, flags: &[(&'static str, SecretString)]) {
        for (flag, value) in flags {
            let path = self.keys.iter().find(|key| key.flag == Some(*flag)).map(|key| key.path.clone());
            let origin = Origin::Flag(flag);
            match path {
                Some(path) => self.set(path, Raw::Word(value.expose_secret().to_owned()), origin),
                None => self.fault(*flag, origin, "sets no key".to_owned(), None),
            }
        }
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

/// Appends a name to a path. A name that TOML must quote stays quoted, so that `"mongodb.uri" = …` is not taken for a
/// path.
fn join(prefix: &str, name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let name = if name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") };
    if prefix.is_empty() { name } else { format!("{prefix}.{name}") }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number beyond 64 bits"), Raw::Integer),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn path_of_variable(name: &str) -> String {
    let path = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
    path.to_lowercase().replace("__", ".")
}

pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, &known), known))
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, known)| format!("did you mean `{known}`?"))
}
