//! The commands `config show` and `config check`. Both print a configuration that is already loaded and valid: `main`
//! prints the faults of a configuration for every command.

use clap::Subcommand;
use std::io::{self, Write};

use serde_json::json;

use crate::config::{Effective, Settings};
use crate::json_output::JsonForm;
use crate::refusal::{Exit, Refusal};
use crate::service::check_mail_server;

/// The commands under `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its value and where it came from, secrets masked.
    #[command(after_help = "Example:\n  stream-processor config show --json")]
    Show {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration, and print every fault.
    #[command(after_help = "Example:\n  stream-processor config check --config stream-processor.toml")]
    Check,
}

/// Runs the command. `keys` are all keys of the valid configuration.
///
/// # Errors
/// A [`Refusal`] when `config check` finds that `run` would refuse these settings, or when `out` cannot be written to. A
/// reader that leaves early (`| head`) is no error.
pub fn run(
    command: &ConfigCommand,
    settings: &Settings,
    keys: &[Effective],
    out: &mut impl Write,
) -> Result<Exit, Refusal> {
    if matches!(command, ConfigCommand::Check) {
        check_mail_server(settings)?;
    }
    match print(command, keys, out) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Refusal::new(Exit::Usage, error.to_string())),
        _ => Ok(Exit::Done),
    }
}

fn print(command: &ConfigCommand, keys: &[Effective], out: &mut impl Write) -> io::Result<()> {
    match command {
        ConfigCommand::Show { json: true } => {
            writeln!(out, "{:#}", JsonForm::Configuration.document(json!({ "keys": keys })))?;
        }
        ConfigCommand::Show { json: false } => table(keys, out)?,
        ConfigCommand::Check => writeln!(out, "configuration is valid")?,
    }
    out.flush()
}

fn table(keys: &[Effective], out: &mut impl Write) -> io::Result<()> {
    let values: Vec<String> = keys.iter().map(|key| plain(&key.value)).collect();
    let key_width = keys.iter().map(|key| key.key.len()).max().unwrap_or(0);
    let value_width = values.iter().map(|value| value.chars().count()).max().unwrap_or(0);
    writeln!(out, "{:key_width$}  {:value_width$}  SOURCE", "KEY", "VALUE")?;
    for (key, value) in keys.iter().zip(&values) {
        writeln!(out, "{:key_width$}  {value:value_width$}  {}", key.key, key.source)?;
    }
    Ok(())
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) if items.is_empty() => "-".to_owned(),
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            items.join("; ")
        }
        other => other.to_string(),
    }
}
