//! Arguments of the commands that watch and repair a running service, and of `completions` and `man`. The doc comments
//! are the help texts.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::position::{self, NamedPosition, PositionName};
use super::time::TimeName;
use super::values;
use crate::model::dead_letter::Reason;
use crate::model::names::WatchedCollection;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Rehearse the first run on the platform's database: who else writes there, what would be written, what to stop
    /// before. Reads all recruiters and offers, and writes nothing.
    #[arg(long)]
    pub against_platform: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Refresh every two seconds, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "watch")]
    pub json: bool,
    /// With --watch: print one JSON object per line.
    #[arg(long, requires = "watch", conflicts_with = "json")]
    pub ndjson: bool,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The beginning: an id of the history, a file with an exported token, or a time (RFC 3339, or `2h ago`).
    #[arg(long, value_name = "TOKEN_ID|FILE|TIME")]
    pub from: PositionName,
    /// The end (RFC 3339, or `1h ago`); the default is now.
    #[arg(long, value_name = "TIME")]
    pub until: Option<TimeName>,
    /// Only changes of this collection.
    #[arg(long, value_name = "NAME", value_parser = values::collection)]
    pub collection: Option<WatchedCollection>,
    /// Tell which fields were changed, with the first and the last write of each and their number, and write nothing.
    /// Indexes of lists are folded: `jobs.*.job_title`. Of offers, only ours count, and the service's own writes too.
    #[arg(long, conflicts_with = "dry_run")]
    pub find: bool,
    /// Show what would be written, offer by offer, and write nothing; contacts of people are masked.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The commands under `tokens`.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Print the position and its history, newest first, and whether the oplog still holds each.
    #[command(after_help = "Example:\n  stream-processor tokens list --limit 50")]
    List {
        /// The number of entries of the history.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Decode a position: time, kind, age, whether the oplog still holds it, and for how long.
    #[command(after_help = "Example:\n  stream-processor tokens show 1764000000-1")]
    Show {
        /// An id of the history, a file with an exported token, or a time; else the position of the stream.
        #[arg(value_name = "TOKEN_ID|FILE|TIME")]
        position: Option<PositionName>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// End with the exit code 1 if the stream cannot continue from it any more, for scripts.
        #[arg(long)]
        fail_if_lost: bool,
    },
    /// Write the position, or one of the history, into a file.
    ///
    /// With --old-worker, the command writes it into `resumetokens`: the old worker continues where the service stopped.
    #[command(after_help = "Example:\n  stream-processor tokens export before-the-incident.json")]
    Export {
        /// A new file; `-` is the standard output.
        #[arg(value_name = "FILE", required_unless_present = "old_worker", value_parser = values::new_file)]
        file: Option<PathBuf>,
        /// This entry of the history.
        #[arg(long, value_name = "TOKEN_ID", value_parser = values::history_id)]
        id: Option<String>,
        /// Hand over to the old worker.
        #[arg(long, conflicts_with_all = ["file", "id"])]
        old_worker: bool,
    },
    /// Let the service continue from an exported position. Refused while an instance runs.
    ///
    /// Needs --force to pass over unread events (a resync follows), and to go back.
    #[command(
        after_help = "Example:\n  stream-processor tokens import before-the-incident.json --force --reason \"restored backup\""
    )]
    Import {
        /// A file from `tokens export`, or a bare token; `-` is the standard input.
        #[arg(value_name = "FILE", required_unless_present = "old_worker", value_parser = position::in_file)]
        file: Option<NamedPosition>,
        /// Take over where the old worker stopped; a resync follows.
        #[arg(long, conflicts_with = "file")]
        old_worker: bool,
        #[command(flatten)]
        override_: Override,
    },
    /// Forget the position: the next start is like the first one. Refused while an instance runs.
    #[command(
        after_help = "Example:\n  stream-processor tokens reset --force --reason \"moved to another replica set\""
    )]
    Reset {
        #[command(flatten)]
        override_: Override,
    },
}

/// Overrides what speaks against a step.
#[derive(Debug, Args)]
pub struct Override {
    /// Override the objections; the record names them.
    #[arg(long, requires = "reason")]
    pub force: bool,
    /// The reason, for the record.
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: Option<String>,
}

/// The commands under `dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Print every dead letter: its document, its reason, its age.
    #[command(after_help = "Example:\n  stream-processor dead-letters list --json")]
    List(ListDeadLettersArguments),
    /// Print one dead letter with the meaning of its reason and the remedy.
    #[command(after_help = "Example:\n  stream-processor dead-letters show recruiters/65102a7347a6ef7545b05ef0")]
    Show {
        /// The id, as `list` prints it.
        #[arg(value_name = "ID", value_parser = values::dead_letter)]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Retry dead letters now. The exit code is 1 if some stay.
    #[command(after_help = "Example:\n  stream-processor dead-letters retry recruiters/65102a7347a6ef7545b05ef0")]
    Retry {
        /// The ids, as `list` prints them; the default is all. A retry of a job retries its whole recruiter.
        #[arg(value_name = "ID", value_parser = values::dead_letter)]
        ids: Vec<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete dead letters whose documents need no correction. A later failure stores them again.
    #[command(
        after_help = "Example:\n  stream-processor dead-letters drop recruiters/65102a7347a6ef7545b05ef0 --reason \"stays\""
    )]
    Drop {
        /// The ids, as `list` prints them.
        #[arg(value_name = "ID", required = true, value_parser = values::dead_letter)]
        ids: Vec<String>,
        /// The reason, for the record.
        #[arg(long, value_name = "TEXT", value_parser = values::reason)]
        reason: String,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `dead-letters list`.
#[derive(Debug, Args)]
pub struct ListDeadLettersArguments {
    /// Only those with this reason; may be repeated.
    #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)))]
    pub reason: Vec<String>,
    /// The greatest number that is printed; all are counted. The default is 1000, and all with --ndjson.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print one JSON object per line.
    #[arg(long, conflicts_with = "json")]
    pub ndjson: bool,
    /// End with the exit code 1 if there are any, for scripts.
    #[arg(long)]
    pub fail_if_any: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// For this shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// The folder; created if it is missing.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
