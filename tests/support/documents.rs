//! The JSON documents that commands print: one each, of a form that a file of `docs/json/` describes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use super::processor::Ended;

/// The described forms, by their names.
static FORMS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json");
    let form = |file: fs::DirEntry| {
        let text = fs::read_to_string(file.path()).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let name = file.file_name().to_string_lossy().trim_end_matches(".json").to_owned();
        assert_eq!(schema["$id"], format!("stream-processor/{name}/1"), "the file has the name of its form");
        let options = jsonschema::options().should_validate_formats(true);
        (name, options.build(&schema).unwrap())
    };
    fs::read_dir(folder).unwrap().map(|file| form(file.unwrap())).collect()
});

/// The names of the described forms.
pub(crate) fn forms() -> impl Iterator<Item = &'static str> {
    FORMS.keys().map(String::as_str)
}

/// The document that a command with `--json` printed, checked against the description of its form.
pub(crate) fn document(arguments: &[&str], ended: &Ended) -> Value {
    let told = || format!("{arguments:?}: {}\n{}", ended.stdout, ended.stderr);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", told()));
    let form = form_of(&document);
    let described = FORMS.get(&form).unwrap_or_else(|| panic!("docs/json has no {form}: {}", told()));
    let faults: Vec<String> =
        described.iter_errors(&document).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{}", told());
    document
}

/// The name of the form of a document.
pub(crate) fn form_of(document: &Value) -> String {
    let schema = document["schema"].as_str().unwrap_or_default();
    schema.trim_start_matches("stream-processor/").trim_end_matches("/1").to_owned()
}
