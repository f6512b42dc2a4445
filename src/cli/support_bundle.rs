//! The command `support-bundle`: one file with what a person needs who helps from afar. A part that cannot be collected
//! says why, because the command is needed most when something does not work.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bson::DateTime;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{health, status, values};
use crate::clock;
use crate::config::Effective;
use crate::context::Context;
use crate::counted::counted;
use crate::doctor::Examination;
use crate::json_output::JsonForm;
use crate::masking;
use crate::progress::tell;
use crate::refusal::{Exit, Refusal};
use crate::status::events;
use crate::version;

/// The number of events of the timeline in a bundle: the newest ones.
const EVENTS: u32 = 5_000;
/// The number of bytes at the end of the log that a bundle has.
const LOG_BYTES: u64 = 1024 * 1024;

/// Arguments of `support-bundle`.
#[derive(Debug, Args)]
pub struct SupportBundleArguments {
    /// The file to write, which must not exist yet; - for standard output.
    #[arg(value_name = "FILE", value_parser = values::new_file)]
    pub file: PathBuf,
    /// A log of the service, whose end goes into the file; - for standard input.
    #[arg(long, value_name = "FILE", value_parser = values::file_to_read)]
    pub log: Option<PathBuf>,
}

/// Collects the parts and writes the file. `keys` are all keys of the valid configuration.
///
/// # Errors
/// A [`Refusal`] when the log cannot be read or the file cannot be written. A part that fails for another reason has the
/// reason in the file.
pub async fn run(
    context: Context,
    keys: &[Effective],
    arguments: &SupportBundleArguments,
    allow_empty: bool,
) -> Result<Exit, Refusal> {
    let log = arguments.log.as_deref().map(log_lines).transpose()?;
    let mut bundle = Map::new();
    bundle.insert("made_at".to_owned(), json!(clock::now().try_to_rfc3339_string().unwrap_or_default()));
    bundle.insert("version".to_owned(), json!(version::VERSION));
    bundle.insert("commit".to_owned(), json!(version::COMMIT));
    bundle.insert("configuration".to_owned(), json!(keys));
    let examination = Examination::make(&context, false, allow_empty).await;
    bundle.insert("doctor".to_owned(), examination.json());
    let mut parts = Parts { bundle, missing: Vec::new() };
    if examination.is_reachable() {
        parts.add("status", status::document(&context).await.map_err(|failure| failure.to_string()));
        let read = events::read(&context.database, DateTime::from_millis(0), &[], Some(EVENTS)).await;
        let shown = read.map(|events| events.iter().map(events::as_value).collect::<Value>());
        parts.add("events", shown.map_err(|failure| failure.to_string()));
    } else {
        for part in ["status", "events"] {
            parts.add(part, Err("the database cannot be used, as doctor says".to_owned()));
        }
    }
    for (part, path) in [("readiness", "readyz"), ("metrics", "metrics")] {
        let answer = health::ask(context.settings.http.listen, path).await;
        parts.add(part, answer.map(|(_, body)| Value::String(body)).map_err(|refusal| refusal.message));
    }
    parts.add("log", log.map(|lines| json!(lines)).ok_or_else(|| "no --log was given".to_owned()));
    let Parts { bundle, missing } = parts;
    let document = JsonForm::SupportBundle.document(without_addresses(Value::Object(bundle)));
    write(&arguments.file, &format!("{document:#}\n"))?;
    tell(&said(&arguments.file, &missing));
    Ok(Exit::Done)
}

/// The bundle and the parts that it lacks, with the reasons.
struct Parts {
    bundle: Map<String, Value>,
    missing: Vec<(&'static str, String)>,
}

impl Parts {
    fn add(&mut self, name: &'static str, part: Result<Value, String>) {
        let value = part.unwrap_or_else(|reason| {
            self.missing.push((name, reason.clone()));
            json!({ "missing": reason })
        });
        self.bundle.insert(name.to_owned(), value);
    }
}

fn said(file: &Path, missing: &[(&'static str, String)]) -> String {
    let place = if file == Path::new("-") { "standard output".into() } else { file.display().to_string() };
    let mut text = format!("the bundle is in {place}; read it before you send it");
    if !missing.is_empty() {
        text.push_str(&format!("; {} missing:", counted(missing.len(), "part is", "parts are")));
        missing.iter().for_each(|(name, reason)| text.push_str(&format!("\n  {name}: {reason}")));
    }
    text
}

/// The lines at the end of a log.
fn log_lines(file: &Path) -> Result<Vec<String>, Refusal> {
    let unread = |error: io::Error| {
        let message = format!("--log {}: cannot be read: {error}; give a file, or - and pipe the log", file.display());
        Refusal::new(Exit::Usage, message)
    };
    let (end, is_cut) = if file == Path::new("-") {
        end_of_stream(io::stdin().lock()).map_err(unread)?
    } else {
        end_of_file(file).map_err(unread)?
    };
    let text = String::from_utf8_lossy(&end);
    // The first line is a part of one, unless there is no other.
    let is_part = is_cut && text.lines().nth(1).is_some();
    Ok(text.lines().skip(usize::from(is_part)).map(str::to_owned).collect())
}

/// The end of a file or of a pipe, and true if something stands before it.
fn end_of_file(file: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(file)?;
    if !file.metadata()?.is_file() {
        return end_of_stream(file);
    }
    let begin = file.metadata()?.len().saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(begin))?;
    let mut end = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut end)?;
    Ok((end, begin > 0))
}

/// The end of a stream, in bounded memory, and true if something stands before it.
fn end_of_stream(mut stream: impl Read) -> io::Result<(Vec<u8>, bool)> {
    let (mut end, mut is_cut) = (Vec::new(), false);
    while stream.by_ref().take(LOG_BYTES).read_to_end(&mut end)? > 0 {
        let surplus = end.len().saturating_sub(usize::try_from(LOG_BYTES).unwrap_or(usize::MAX));
        end.drain(..surplus);
        is_cut |= surplus > 0;
    }
    Ok((end, is_cut))
}

fn write(file: &Path, text: &str) -> Result<(), Refusal> {
    let written = if file == Path::new("-") {
        io::stdout().lock().write_all(text.as_bytes())
    } else {
        // Others on this machine must not read it, and an earlier bundle is never overwritten.
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        created.and_then(|mut file| file.write_all(text.as_bytes()))
    };
    written.map_err(|error| {
        let message = format!("{}: cannot be written: {error}; choose another file", file.display());
        Refusal::new(Exit::Usage, message)
    })
}

/// The value with a mark in place of each e-mail address. The service writes none, but the configuration has some, and a
/// log may hold lines of other programs.
fn without_addresses(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(masking::without_addresses(&text)),
        Value::Array(items) => items.into_iter().map(without_addresses).collect(),
        Value::Object(fields) => {
            let masked = |(name, value): (String, Value)| (masking::without_addresses(&name), without_addresses(value));
            Value::Object(fields.into_iter().map(masked).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_in_names_and_in_values() {
        let value = json!({ "a@example.com": ["b@example.com", 1, null] });
        assert_eq!(without_addresses(value), json!({ "[address]": ["[address]", 1, null] }));
    }

    #[test]
    fn the_end_of_a_long_stream_is_kept() {
        let long = vec![b'x'; 3 * 1024 * 1024 + 7];
        let (end, is_cut) = end_of_stream(&long[..]).unwrap();
        assert_eq!((end.len() as u64, is_cut), (LOG_BYTES, true));
        assert_eq!(end_of_stream(&b"a\nb"[..]).unwrap(), (b"a\nb".to_vec(), false));
    }
}
