//! Arguments of the commands about time-based jobs and e-mail, and of `anonymize` and `obfuscate`, which only run by
//! hand. The doc comments are the help texts.

use std::path::PathBuf;

use bson::oid::ObjectId;
use clap::{Args, Subcommand};

use super::time::TimeName;
use super::values;
use crate::mail::email::Template;
use crate::ticker::job::TimedJob;

/// The commands under `jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Print every job with its next and its last run.
    #[command(after_help = "Example:\n  stream-processor jobs list --json")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a job now. The exit code is 1 if something failed.
    ///
    /// The leader runs the job. Without an instance, the command runs it itself. A job that only reads runs here and
    /// prints every line.
    #[command(after_help = "Example:\n  stream-processor jobs run cancel-expired-offers --dry-run")]
    Run(RunJobArguments),
    /// Print the last runs, the newest first.
    #[command(after_help = "Example:\n  stream-processor jobs history --job verify --limit 10")]
    History {
        /// Only of this job.
        #[arg(long, value_name = "NAME", value_parser = values::recorded_job)]
        job: Option<String>,
        /// The greatest number of runs.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Print one JSON object per line.
        #[arg(long, conflicts_with = "json")]
        ndjson: bool,
    },
}

/// Arguments of `jobs run`.
#[derive(Debug, Args)]
pub struct RunJobArguments {
    /// The job.
    #[arg(value_name = "NAME", value_parser = values::job)]
    pub job: TimedJob,
    /// Count the changes, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Use this time instead of now, such as 2026-03-01T09:20:00+01:00, 01:30 or `yesterday 14:00`.
    #[arg(long, value_name = "TIME")]
    pub now: Option<TimeName>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print one line of comma-separated values per document, and no counts.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// The commands under `anonymize`.
#[derive(Debug, Subcommand)]
pub enum AnonymizeCommand {
    /// Anonymise a user: keep copies without contact, remove the originals and the contact in the offers.
    #[command(after_help = "Example:\n  stream-processor anonymize user 65102a7347a6ef7545b05ef0 --dry-run")]
    User {
        /// The user's `_id`.
        #[arg(value_name = "ID", value_parser = values::object_id)]
        id: ObjectId,
        /// Print the steps, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `obfuscate`.
#[derive(Debug, Args)]
pub struct ObfuscateArguments {
    /// Count the changes, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The commands under `emails`.
#[derive(Debug, Subcommand)]
pub enum EmailsCommand {
    /// Render an e-mail with sample data: remind-J7, remind-J1 or introduction.
    #[command(after_help = "Example:\n  stream-processor emails preview introduction --text")]
    Preview {
        /// The name of the e-mail.
        #[arg(value_name = "NAME", value_parser = template)]
        template: Template,
        /// Write it to this file instead of the standard output, which `-` names too.
        #[arg(long, value_name = "FILE", value_parser = values::file_to_write)]
        out: Option<PathBuf>,
        /// Render the text part instead of the HTML.
        #[arg(long)]
        text: bool,
    },
}

/// The template of this name.
///
/// # Errors
/// A text with the names of all templates, when there is no such template.
fn template(name: &str) -> Result<Template, String> {
    let names = || Template::ALL.map(Template::name).join(", ");
    Template::named(name).ok_or_else(|| format!("there is no such e-mail; the e-mails are {}", names()))
}
